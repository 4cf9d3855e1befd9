import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { nativeCryptography as native } from '../../../src/linux/native-cryptography.ts';
import { portableCryptography as portable } from '../../../src/tunnel/cryptography.ts';

const octets = (length: number) => new Uint8Array(randomBytes(length));

test('OpenSSL derives and seals octet for octet what the portable implementation does', () => {
  for (let round = 0; round < 50; round += 1) {
    const [key, salt, info] = [octets(32), octets(round % 2 === 0 ? 0 : 16), octets(round)];
    for (const length of [16, 32]) {
      expect(native.hkdfSha256(key, salt, info, length)).toEqual(
        portable.hkdfSha256(key, salt, info, length),
      );
    }
    const [nonce, header, plain] = [octets(12), octets(20), octets(72)];
    const sealed = native.sealAesGcm(key, nonce, header, plain);
    expect(sealed).toEqual(portable.sealAesGcm(key, nonce, header, plain));
    expect(native.openAesGcm(key, nonce, header, sealed)).toEqual(plain);
    expect(portable.openAesGcm(key, nonce, header, sealed)).toEqual(plain);
  }
});

test('neither opens what was changed in one octet', () => {
  const [key, nonce, header] = [octets(32), octets(12), octets(20)];
  const sealed = native.sealAesGcm(key, nonce, header, octets(72));
  for (let at = 0; at < sealed.length; at += 1) {
    const forged = sealed.slice();
    forged[at]! ^= 1;
    expect(native.openAesGcm(key, nonce, header, forged)).toBeNull();
    expect(portable.openAesGcm(key, nonce, header, forged)).toBeNull();
  }
});

test('more than one block of HKDF is refused: nothing in the tunnel is longer', () => {
  expect(() => native.hkdfSha256(octets(32), octets(0), octets(1), 33)).toThrow(/33 octets/);
});
