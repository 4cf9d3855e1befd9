import { CompactEncrypt, importJWK } from 'jose';
import { describe, expect, test } from 'vitest';
import { sealRoot } from '../../../src/relay/root-sealing.ts';
import { newSealingKeyPair, openRoot } from '../../../src/tunnel/root-sealing.ts';

const ROOT = Uint8Array.from({ length: 32 }, (_, at) => at);
const SESSION = '00112233445566778899aabbccddeeff';

describe('K_root', () => {
  test('reaches the holder of the sealing key, for its session', async () => {
    const { publicKey, privateKey } = await newSealingKeyPair();
    const sealed = sealRoot(ROOT, publicKey, SESSION);
    expect(sealed.split('.')).toHaveLength(5);
    expect(await openRoot(sealed, privateKey, SESSION)).toEqual(ROOT);
  });

  test('is not sealed twice alike', async () => {
    const { publicKey } = await newSealingKeyPair();
    expect(sealRoot(ROOT, publicKey, SESSION)).not.toBe(sealRoot(ROOT, publicKey, SESSION));
  });

  test('is refused with another key', async () => {
    const sealed = sealRoot(ROOT, (await newSealingKeyPair()).publicKey, SESSION);
    const { privateKey } = await newSealingKeyPair();
    await expect(openRoot(sealed, privateKey, SESSION)).rejects.toThrow(/sealedRoot/);
  });

  test('is refused for another session', async () => {
    const { publicKey, privateKey } = await newSealingKeyPair();
    const sealed = sealRoot(ROOT, publicKey, SESSION);
    await expect(openRoot(sealed, privateKey, 'f'.repeat(32))).rejects.toThrow(/sealedRoot\.sid/);
  });

  test('is refused when any part was changed', async () => {
    const { publicKey, privateKey } = await newSealingKeyPair();
    const parts = sealRoot(ROOT, publicKey, SESSION).split('.');
    for (const at of [0, 2, 3, 4]) {
      const changed = parts.with(at, `${parts[at]!.startsWith('A') ? 'B' : 'A'}${parts[at]!.slice(1)}`);
      await expect(openRoot(changed.join('.'), privateKey, SESSION)).rejects.toThrow(/sealedRoot/);
    }
    await expect(openRoot('', privateKey, SESSION)).rejects.toThrow(/sealedRoot/);
  });

  test('is refused as another kind of JWE, or of another length', async () => {
    const { publicKey, privateKey } = await newSealingKeyPair();
    const recipient = await importJWK({ ...publicKey }, 'ECDH-ES');
    const seal = (typ: string, enc: string, plain: Uint8Array) =>
      new CompactEncrypt(plain)
        .setProtectedHeader({ alg: 'ECDH-ES', enc, typ, sid: SESSION })
        .encrypt(recipient);
    for (const sealed of [
      await seal('JWE', 'A256GCM', ROOT),
      await seal('mooring-root+jwe', 'A128GCM', ROOT),
      await seal('mooring-root+jwe', 'A256GCM', ROOT.subarray(1)),
    ]) {
      await expect(openRoot(sealed, privateKey, SESSION)).rejects.toThrow(/sealedRoot/);
    }
  });

  test.each([
    ['a point of low order', 'A'.repeat(43)],
    ['not a point', 'AA'],
  ])('is not sealed to %s', (_, x) => {
    expect(() => sealRoot(ROOT, { kty: 'OKP', crv: 'X25519', x }, SESSION)).toThrow(
      expect.objectContaining({
        code: 'ERR_MOORING_BAD_SEALING_KEY',
        message: expect.stringContaining('sealingKey.x'),
      }),
    );
  });
});
