import { describe, expect, test } from 'vitest';
import { deriveAnchorKey, deriveDataKey, deriveRoot, newBoot } from '../../../src/tunnel/keys.ts';

const KEY = new Uint8Array(32).fill(3);
const SESSION = { id: '00'.repeat(16), salt: '11'.repeat(16), thumbprint: 'A'.repeat(43) };

describe('a boot', () => {
  test('is 64 random bits, read big-endian', () => {
    expect(newBoot(() => Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))).toBe(0x0102030405060708n);
  });

  test('is never 0, which says unknown on the wire', () => {
    const draws = [new Uint8Array(8), new Uint8Array(8), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 9)];
    expect(newBoot(() => draws.shift()!)).toBe(9n);
  });

  test('may come from any part of a buffer', () => {
    const buffer = Uint8Array.of(255, 0, 0, 0, 0, 0, 0, 0, 7, 255);
    expect(newBoot(() => buffer.subarray(1, 9))).toBe(7n);
  });
});

describe('a key', () => {
  test('differs with every field of its name', () => {
    const name = { epoch: 1n, relayBoot: 2n, deviceBoot: 3n, keyNumber: 4 };
    const names = [
      name,
      { ...name, epoch: 2n },
      { ...name, relayBoot: 3n },
      { ...name, deviceBoot: 2n },
      { ...name, keyNumber: 5 },
      { ...name, relayBoot: 3n, deviceBoot: 2n },
    ];
    const keys = names.flatMap((each) => [
      Buffer.from(deriveDataKey(KEY, 'to-relay', each)).toString('hex'),
      Buffer.from(deriveDataKey(KEY, 'to-device', each)).toString('hex'),
    ]);
    expect(new Set(keys).size).toBe(12);
  });

  test('of one anchor says nothing about another', () => {
    expect(deriveAnchorKey(KEY, 'a-1')).not.toEqual(deriveAnchorKey(KEY, 'a-2'));
  });

  test.each([
    [
      'master key',
      () => deriveAnchorKey(KEY.subarray(1), 'a-1'),
      /master key has 31 octets; it must have 32/,
    ],
    ['anchor key', () => deriveRoot(new Uint8Array(0), SESSION), /anchor key has 0 octets/],
    ['session id', () => deriveRoot(KEY, { ...SESSION, id: '00' }), /session id has 1 octets/],
    ['session salt', () => deriveRoot(KEY, { ...SESSION, salt: '' }), /session salt has 0 octets/],
    ['thumbprint', () => deriveRoot(KEY, { ...SESSION, thumbprint: 'AAAA' }), /thumbprint has 3 octets/],
  ])('is not derived from a %s of another length', (_, derive, message) => {
    expect(derive).toThrow(message);
  });
});
