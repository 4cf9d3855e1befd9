import { exportJWK, generateKeyPair, generateSecret, SignJWT, UnsecuredJWT } from 'jose';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ProofContext, verifyProof } from '../../../src/auth/dpop.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import {
  accessTokenHash,
  createIdentity,
  type DeviceIdentity,
  type ProofClaims,
  signProof,
} from '../../integration/auth/device-identity.ts';

const ACCESS_TOKEN = 'header.payload.signature';
const NOW_MS = 1_800_000_000_000;
const URL_OF_DOOR = 'wss://door.example/v1';

let device: DeviceIdentity;
let context: ProofContext;

beforeAll(async () => {
  device = await createIdentity('laptop-1');
  context = {
    accessToken: ACCESS_TOKEN,
    nonce: 'nonce-of-this-socket',
    method: 'GET',
    url: URL_OF_DOOR,
    seal: 'x-of-the-sealing-key',
    jkt: device.thumbprint,
    nowMs: NOW_MS,
    windowMs: 120_000,
  };
});

function good(): ProofClaims {
  return {
    htm: 'GET',
    htu: URL_OF_DOOR,
    iat: NOW_MS / 1000,
    jti: 'a-random-identifier',
    ath: accessTokenHash(ACCESS_TOKEN),
    nonce: context.nonce ?? undefined,
    seal: context.seal ?? undefined,
  };
}

async function refusalOf(proof: string): Promise<MooringError> {
  const error = await verifyProof(proof, context).then(
    () => expect.fail('the proof was accepted'),
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MooringError);
  expect((error as MooringError).message).not.toContain(proof.slice(0, 40));
  return error as MooringError;
}

describe('a DPoP proof', () => {
  it('of the bound key for this socket is accepted and yields the thumbprint', async () => {
    expect(await verifyProof(await signProof(device, good()), context)).toBe(device.thumbprint);
  });

  it.each([
    ['without a jti', { jti: undefined }, 'ERR_MOORING_DPOP_ID'],
    ['with an endless jti', { jti: 'x'.repeat(257) }, 'ERR_MOORING_DPOP_ID'],
    ['for another method', { htm: 'POST' }, 'ERR_MOORING_DPOP_METHOD'],
    ['without a method', { htm: undefined }, 'ERR_MOORING_DPOP_METHOD'],
    ['for another host', { htu: 'wss://other.example/v1' }, 'ERR_MOORING_DPOP_URL'],
    ['for another path', { htu: 'wss://door.example/v2' }, 'ERR_MOORING_DPOP_URL'],
    ['for the clear-text scheme', { htu: 'ws://door.example/v1' }, 'ERR_MOORING_DPOP_URL'],
    ['with user information in the URL', { htu: 'wss://a@door.example/v1' }, 'ERR_MOORING_DPOP_URL'],
    ['with text that is no URL', { htu: 'door.example/v1' }, 'ERR_MOORING_DPOP_URL'],
    ['without a URL', { htu: undefined }, 'ERR_MOORING_DPOP_URL'],
    ['made too long ago', { iat: NOW_MS / 1000 - 121 }, 'ERR_MOORING_DPOP_ISSUED_AT'],
    ['made in the future', { iat: NOW_MS / 1000 + 121 }, 'ERR_MOORING_DPOP_ISSUED_AT'],
    ['with the nonce of another socket', { nonce: 'nonce-of-another' }, 'ERR_MOORING_DPOP_NONCE'],
    ['without a nonce', { nonce: undefined }, 'ERR_MOORING_DPOP_NONCE'],
    ['with the hash of another token', { ath: accessTokenHash('other') }, 'ERR_MOORING_DPOP_TOKEN_HASH'],
    ['without ath', { ath: undefined }, 'ERR_MOORING_DPOP_TOKEN_HASH'],
    ['for another sealing key', { seal: 'another' }, 'ERR_MOORING_DPOP_SEAL'],
    ['without the sealing key', { seal: undefined }, 'ERR_MOORING_DPOP_SEAL'],
  ])('%s is refused', async (_what, wrong, code) => {
    expect((await refusalOf(await signProof(device, { ...good(), ...wrong }))).code).toBe(code);
  });

  it('without iat is refused', async () => {
    const { iat: _iat, ...claims } = good();
    const proof = await new SignJWT({ ...claims } as Record<string, string>)
      .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: device.publicJwk })
      .sign(device.privateKey);
    expect((await refusalOf(proof)).code).toBe('ERR_MOORING_DPOP_ISSUED_AT');
  });

  it.each([
    'WSS://DOOR.example:443/v1',
    'wss://door.example/v1?query=1',
    'wss://door.example/v1#fragment',
    'wss://door.example/x/../v1',
  ])('naming the door as %s is accepted: URLs are compared in normal form', async (htu) => {
    await expect(verifyProof(await signProof(device, { ...good(), htu }), context)).resolves.toBe(
      device.thumbprint,
    );
  });

  it('of another key than the token is bound to is refused', async () => {
    const thief = await createIdentity('thief');
    expect((await refusalOf(await signProof(thief, good()))).code).toBe('ERR_MOORING_DPOP_KEY_MISMATCH');
  });

  it('that shows the right key but is signed by another is refused', async () => {
    const thief = await createIdentity('thief');
    const forged = await signProof({ ...thief, publicJwk: device.publicJwk }, good());
    expect((await refusalOf(forged)).code).toBe('ERR_MOORING_DPOP_SIGNATURE');
  });

  it('with one changed character is refused', async () => {
    const [header, payload, signature = ''] = (await signProof(device, good())).split('.');
    const flipped = (signature.startsWith('A') ? 'B' : 'A') + signature.slice(1);
    expect((await refusalOf(`${header}.${payload}.${flipped}`)).code).toBe('ERR_MOORING_DPOP_SIGNATURE');
  });

  it('of another type is refused: no other JWT of the device can serve as one', async () => {
    for (const typ of ['JWT', 'at+jwt', undefined]) {
      const proof = await signProof(device, good(), { typ });
      expect((await refusalOf(proof)).code).toBe('ERR_MOORING_DPOP_TYPE');
    }
  });

  it('that shows a private key is refused, and the error says to make a new one', async () => {
    const jwk = await exportJWK(device.privateKey);
    const error = await refusalOf(await signProof(device, good(), { jwk }));
    expect(error.code).toBe('ERR_MOORING_DPOP_KEY');
    expect(error.message).toContain('make a new key');
    expect(error.message).not.toContain(String(jwk.d));
  });

  it('with a symmetric key is refused', async () => {
    const secret = await generateSecret('HS256', { extractable: true });
    const proof = await new SignJWT({ ...good() } as Record<string, string>)
      .setProtectedHeader({ typ: 'dpop+jwt', alg: 'HS256', jwk: await exportJWK(secret) })
      .sign(secret);
    expect((await refusalOf(proof)).code).toBe('ERR_MOORING_DPOP_ALGORITHM');
    const confused = await signProof(device, good(), { jwk: { kty: 'oct', k: 'AAAA' } });
    expect((await refusalOf(confused)).code).toBe('ERR_MOORING_DPOP_KEY');
  });

  it('with an RSA key is refused: its cost is a stranger’s choice', async () => {
    const { privateKey, publicKey } = await generateKeyPair('RS256');
    const proof = await new SignJWT({ ...good() } as Record<string, string>)
      .setProtectedHeader({ typ: 'dpop+jwt', alg: 'RS256', jwk: await exportJWK(publicKey) })
      .sign(privateKey);
    expect((await refusalOf(proof)).code).toBe('ERR_MOORING_DPOP_ALGORITHM');
  });

  it('without a key, or with one of the wrong kind, is refused', async () => {
    for (const jwk of [undefined, null, 'text', [], {}, { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' }]) {
      const [, payload, signature] = (await signProof(device, good())).split('.');
      const header = JSON.stringify({ typ: 'dpop+jwt', alg: 'ES256', jwk });
      const proof = `${Buffer.from(header).toString('base64url')}.${payload}.${signature}`;
      expect((await refusalOf(proof)).code).toBe('ERR_MOORING_DPOP_KEY');
    }
  });

  it('without a signature (alg none) is refused', async () => {
    const claims = new UnsecuredJWT({ ...good() } as Record<string, string>).encode();
    const header = Buffer.from(JSON.stringify({ typ: 'dpop+jwt', alg: 'none', jwk: device.publicJwk }));
    const proof = `${header.toString('base64url')}.${claims.split('.')[1]}.`;
    expect((await refusalOf(proof)).code).toBe('ERR_MOORING_DPOP_ALGORITHM');
  });

  it('longer than the limit is refused before it is decoded', async () => {
    expect((await refusalOf('x'.repeat(4_097))).code).toBe('ERR_MOORING_DPOP_TOO_LARGE');
  });

  it.each(['', 'not a jwt', 'a.b', 'a.b.c.d.e', '....', '\u0000.\u0000.\u0000'])(
    'that is %j is refused',
    async (proof) => {
      const error = await verifyProof(proof, context).catch((thrown: unknown) => thrown);
      expect((error as MooringError).code).toBe('ERR_MOORING_DPOP_MALFORMED');
    },
  );
});
