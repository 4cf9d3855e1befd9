import { calculateJwkThumbprint, exportJWK, generateKeyPair, SignJWT } from 'jose';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkSealingProof } from '../../../src/relay/sealing-proof.ts';
import { newSealingKeyPair } from '../../../src/tunnel/root-sealing.ts';

type Keys = Awaited<ReturnType<typeof generateKeyPair>>;

let device: Keys;
let thumbprint: string;
beforeAll(async () => {
  device = await generateKeyPair('ES256');
  thumbprint = await calculateJwkThumbprint(await exportJWK(device.publicKey));
});

async function proof(keys: Keys, claims: Record<string, string>, typ = 'dpop+jwt'): Promise<string> {
  const jwk = await exportJWK(keys.publicKey);
  return new SignJWT(claims)
    .setProtectedHeader({ typ, alg: 'ES256', jwk })
    .setIssuedAt()
    .sign(keys.privateKey);
}

describe('the key that K_root is sealed to', () => {
  it('is the one that the device named in its proof', async () => {
    const { publicKey: key } = await newSealingKeyPair();
    const sealing = { key, proof: await proof(device, { seal: key.x }) };
    await expect(checkSealingProof(sealing, thumbprint)).resolves.toEqual(key);
  });

  it('cannot be replaced by whoever carries the proof', async () => {
    const { publicKey: named } = await newSealingKeyPair();
    const { publicKey: own } = await newSealingKeyPair();
    const sealing = { key: own, proof: await proof(device, { seal: named.x }) };
    await expect(checkSealingProof(sealing, thumbprint)).rejects.toThrow(/it names another sealing key/);
  });

  it('cannot be named by another key than the session is bound to', async () => {
    const { publicKey: key } = await newSealingKeyPair();
    const sealing = { key, proof: await proof(await generateKeyPair('ES256'), { seal: key.x }) };
    await expect(checkSealingProof(sealing, thumbprint)).rejects.toThrow(
      /not signed by the key of the session/,
    );
  });

  it('is refused when the signature, the type or the claim is not what it must be', async () => {
    const { publicKey: key } = await newSealingKeyPair();
    const good = await proof(device, { seal: key.x });
    const broken = `${good.slice(0, -4)}AAAA`;
    for (const bad of [
      broken,
      await proof(device, { seal: key.x }, 'JWT'),
      await proof(device, {}),
      'x'.repeat(20),
    ]) {
      await expect(checkSealingProof({ key, proof: bad }, thumbprint)).rejects.toMatchObject({
        code: 'ERR_MOORING_SEALING_REFUSED',
      });
    }
  });

  it('is judged anew with every proof, though one like it was good before', async () => {
    const { publicKey: key } = await newSealingKeyPair();
    const { publicKey: other } = await newSealingKeyPair();
    const good = { key, proof: await proof(device, { seal: key.x }) };
    await checkSealingProof(good, thumbprint);
    await expect(checkSealingProof(good, thumbprint)).resolves.toEqual(key);
    const stranger = await calculateJwkThumbprint(
      await exportJWK((await generateKeyPair('ES256')).publicKey),
    );
    const [head, claims, signature] = good.proof.split('.');
    const [, otherClaims] = (await proof(device, { seal: other.x })).split('.');
    for (const [sealing, session] of [
      [{ ...good, key: other }, thumbprint],
      [good, stranger],
      [{ key: other, proof: [head, otherClaims, signature].join('.') }, thumbprint],
      [{ key, proof: [head, claims, `${signature!.slice(0, -4)}AAAA`].join('.') }, thumbprint],
    ] as const) {
      await expect(checkSealingProof(sealing, session)).rejects.toMatchObject({
        code: 'ERR_MOORING_SEALING_REFUSED',
      });
    }
  });
});
