import { type CryptoKey, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { pino } from 'pino';
import { beforeAll, describe, expect, it } from 'vitest';
import { claimedIssuer, type TokenRules, verifyAccessToken } from '../../../src/auth/access-token.ts';
import { createTokenVerifier } from '../../../src/auth/verifier.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';

const NOW_MS = 1_800_000_000_000;
const NOW_S = NOW_MS / 1000;
const RULES: TokenRules = {
  issuer: 'https://issuer.example',
  audience: 'https://mooring.example/',
  algorithms: ['ES256'],
};
const GOOD = {
  iss: RULES.issuer,
  aud: RULES.audience,
  sub: 'laptop-1',
  client_id: 'laptop-1',
  tenant: 'acme',
  scope: 'lease  read',
  iat: NOW_S,
  exp: NOW_S + 600,
  cnf: { jkt: 'a'.repeat(43) },
};

let publicKey: CryptoKey;
let privateKey: CryptoKey;

beforeAll(async () => {
  ({ publicKey, privateKey } = await generateKeyPair('ES256', { extractable: true }));
});

function sign(claims: Record<string, unknown>, header: Record<string, unknown> = {}): Promise<string> {
  return new SignJWT(JSON.parse(JSON.stringify(claims)))
    .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt', ...header })
    .sign(privateKey);
}

function verify(token: string, rules: Partial<TokenRules> = {}) {
  const clock = { nowMs: NOW_MS, toleranceS: 5 };
  return verifyAccessToken(token, { ...RULES, ...rules }, async () => publicKey, clock);
}

async function refusalOf(token: string, rules: Partial<TokenRules> = {}): Promise<MooringError> {
  const error = await verify(token, rules).then(
    () => expect.fail('the token was accepted'),
    (thrown: unknown) => thrown as MooringError,
  );
  for (const part of token.split('.').filter((text) => text.length > 20)) {
    expect(error.message).not.toContain(part);
    expect(JSON.stringify(error.cause ?? null)).not.toContain(part);
  }
  return error;
}

describe('an access token', () => {
  it('of the issuer, for this audience, bound to a key, names device and tenant', async () => {
    expect(await verify(await sign(GOOD))).toEqual({
      claims: expect.objectContaining({ scope: 'lease  read' }),
      device: { tenant: 'acme', id: 'laptop-1' },
      jkt: 'a'.repeat(43),
      expiresAtMs: (NOW_S + 600) * 1000,
      scopes: ['lease', 'read'],
    });
  });

  it.each([
    ['that has expired', { exp: NOW_S - 6 }, 'ERR_MOORING_TOKEN_EXPIRED', 'exp'],
    ['without expiry', { exp: undefined }, 'ERR_MOORING_TOKEN_CLAIM', 'exp'],
    ['without iat', { iat: undefined }, 'ERR_MOORING_TOKEN_CLAIM', 'iat'],
    ['issued in the future', { iat: NOW_S + 6 }, 'ERR_MOORING_TOKEN_NOT_YET_VALID', 'iat'],
    ['not valid yet', { nbf: NOW_S + 6 }, 'ERR_MOORING_TOKEN_NOT_YET_VALID', 'nbf'],
    ['for another audience', { aud: 'https://other.example/' }, 'ERR_MOORING_TOKEN_AUDIENCE', 'aud'],
    ['without audience', { aud: undefined }, 'ERR_MOORING_TOKEN_AUDIENCE', 'aud'],
    ['of another issuer', { iss: 'https://other.example' }, 'ERR_MOORING_TOKEN_ISSUER', 'iss'],
    ['without subject', { sub: undefined }, 'ERR_MOORING_TOKEN_CLAIM', 'sub'],
    ['with a subject no device can have', { sub: 'a b' }, 'ERR_MOORING_TOKEN_CLAIM', 'device'],
    ['with a subject that is no text', { sub: { a: 1 } }, 'ERR_MOORING_TOKEN_CLAIM', 'device'],
    ['with a tenant that is no text', { tenant: 7 }, 'ERR_MOORING_TOKEN_CLAIM', 'tenant'],
    ['with a tenant that reaches into another key', { tenant: 'a/b' }, 'ERR_MOORING_TOKEN_CLAIM', 'tenant'],
    ['without tenant', { tenant: undefined }, 'ERR_MOORING_TOKEN_CLAIM', 'tenant'],
    ['not bound to a key', { cnf: undefined }, 'ERR_MOORING_TOKEN_UNBOUND', 'cnf.jkt'],
    ['bound by certificate only', { cnf: { 'x5t#S256': 'x' } }, 'ERR_MOORING_TOKEN_UNBOUND', 'cnf.jkt'],
    ['bound to no thumbprint', { cnf: { jkt: '' } }, 'ERR_MOORING_TOKEN_UNBOUND', 'cnf.jkt'],
  ])('%s is refused, naming the claim', async (_what, wrong, code, claim) => {
    const error = await refusalOf(await sign({ ...GOOD, ...wrong }));
    expect(error).toMatchObject({ code, rsip: 304, temporary: false });
    expect(error.data).toEqual({ claim });
  });

  it('expired or issued within the clock tolerance is accepted', async () => {
    await expect(verify(await sign({ ...GOOD, exp: NOW_S - 4, iat: NOW_S + 4 }))).resolves.toBeDefined();
  });

  it('without a tenant belongs to the tenant configured for its issuer', async () => {
    const { device } = await verify(await sign({ ...GOOD, tenant: undefined }), { tenant: 'fallback' });
    expect(device.tenant).toBe('fallback');
  });

  it('names tenant and device in the claims configured for its issuer', async () => {
    const claims = { ...GOOD, org: 'globex', device: 'phone-2' };
    const { device } = await verify(await sign(claims), { tenantClaim: 'org', deviceClaim: 'device' });
    expect(device).toEqual({ tenant: 'globex', id: 'phone-2' });
  });

  it('of another type is refused: an ID token is no access token', async () => {
    for (const typ of ['JWT', 'dpop+jwt', undefined]) {
      expect((await refusalOf(await sign(GOOD, { typ }))).code).toBe('ERR_MOORING_TOKEN_TYPE');
    }
  });

  it('signed by another key is refused', async () => {
    const other = await generateKeyPair('ES256');
    const token = await new SignJWT(GOOD)
      .setProtectedHeader({ alg: 'ES256', typ: 'at+jwt' })
      .sign(other.privateKey);
    expect((await refusalOf(token)).code).toBe('ERR_MOORING_TOKEN_SIGNATURE');
  });

  it('with changed claims is refused', async () => {
    const [header, , signature] = (await sign(GOOD)).split('.');
    const payload = Buffer.from(JSON.stringify({ ...GOOD, sub: 'victim' })).toString('base64url');
    expect((await refusalOf(`${header}.${payload}.${signature}`)).code).toBe('ERR_MOORING_TOKEN_SIGNATURE');
  });

  it('without a signature (alg none) is refused', async () => {
    expect((await refusalOf(new UnsecuredJWT(GOOD).encode())).code).toBe('ERR_MOORING_TOKEN_ALGORITHM');
  });

  it('signed with the public key as an HMAC secret is refused', async () => {
    const secret = new TextEncoder().encode(await exportSPKI(publicKey));
    const token = await new SignJWT(GOOD).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt' }).sign(secret);
    expect((await refusalOf(token)).code).toBe('ERR_MOORING_TOKEN_ALGORITHM');
  });

  it('with an algorithm that the issuer is not configured for is refused', async () => {
    expect((await refusalOf(await sign(GOOD), { algorithms: ['RS256'] })).code).toBe(
      'ERR_MOORING_TOKEN_ALGORITHM',
    );
  });

  it('that is too long or no JWT is refused before anything is fetched', () => {
    expect(() => claimedIssuer('x'.repeat(8_193))).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_TOKEN_TOO_LARGE' }),
    );
    for (const text of ['', 'opaque-token', 'a.b.c', '..']) {
      expect(() => claimedIssuer(text)).toThrow(
        expect.objectContaining({ code: 'ERR_MOORING_TOKEN_MALFORMED' }),
      );
    }
  });
});

describe('the configuration of an issuer', () => {
  it.each([[['none']], [['HS256', 'ES256']], [[]]])('with algorithms %j is refused', (algorithms) => {
    expect(() =>
      createTokenVerifier({
        issuers: [{ ...RULES, algorithms }],
        clockToleranceS: 5,
        log: pino({ enabled: false }),
      }),
    ).toThrow(/algorithms of issuer https:\/\/issuer\.example/);
  });
});
