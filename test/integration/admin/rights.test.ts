import { calculateJwkThumbprint } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OPERATIONS } from '../../../src/admin/operations.ts';
import { accessTokenHash, createIdentity, signProof } from '../auth/device-identity.ts';
import { type AdminBed, startAdminBed } from './admin-bed.ts';
import { DEVICE_AUDIENCE, fetchOperatorToken } from './operator-tokens.ts';

let bed: AdminBed;
beforeAll(async () => {
  bed = await startAdminBed();
});
afterAll(() => bed?.close());

const NAMES: Readonly<Record<string, string>> = {
  pool: 'shared',
  anchor: 'a1',
  lease: `a1.${'x'.repeat(22)}`,
  relay: 'r1',
};
const routes = OPERATIONS.map(({ id, method, path, scope, perTenant, body }) => ({
  ...{ id, method, scope, perTenant },
  path: path.replaceAll(/\{(\w+)\}/g, (_, name: string) => NAMES[name] ?? ''),
  /** Never what the operation wants: nothing may be read of it before the right is. */
  body: body === null ? undefined : { nonsense: true },
}));
const send = (route: (typeof routes)[number]) => (route.body === undefined ? {} : { body: route.body });

describe.each(routes)('$id', (route) => {
  test('is refused without credentials, and says which would do', async () => {
    const answer = await bed.ask(route.method, route.path, { as: null, ...send(route) });
    expect(answer.status).toBe(401);
    expect(answer.body).toMatchObject({ code: 'ERR_MOORING_UNAUTHENTICATED', temporary: false });
    expect(answer.headers.get('www-authenticate')).toMatch(/^Bearer .*DPoP/);
  });

  test('is refused without its scope', async () => {
    const as = route.scope === 'mooring:read' ? 'scopeless' : 'reader';
    const answer = await bed.ask(route.method, route.path, { as, ...send(route) });
    expect(answer.body).toMatchObject({ status: 403, code: 'ERR_MOORING_SCOPE' });
    expect(answer.body.detail).toContain(route.scope);
  });

  test(route.perTenant ? 'serves an operator of one tenant' : 'is the whole site’s alone', async () => {
    const answer = await bed.ask(route.method, route.path, { as: 'acme', ...send(route) });
    if (route.perTenant) expect([200, 404]).toContain(answer.status);
    else expect(answer.body).toMatchObject({ status: 403, code: 'ERR_MOORING_TENANT' });
  });
});

describe('a token', () => {
  const knock = (headers: Record<string, string>) => bed.ask('GET', '/v1/pools', { as: null, headers });

  test('for another audience is refused', async () => {
    const token = await fetchOperatorToken(bed.issuer, 'root', { audience: DEVICE_AUDIENCE });
    const { body } = await knock({ authorization: `Bearer ${token}` });
    expect(body).toMatchObject({ status: 401, code: 'ERR_MOORING_TOKEN_AUDIENCE' });
  });

  test('that somebody has changed is refused', async () => {
    const [head, , signature] = (await bed.token('reader')).split('.');
    const claims = Buffer.from(
      JSON.stringify({ iss: bed.issuer.url, sub: 'x', scope: 'mooring:pools' }),
    ).toString('base64url');
    const { body } = await knock({ authorization: `Bearer ${head}.${claims}.${signature}` });
    expect(body).toMatchObject({ status: 401, code: 'ERR_MOORING_TOKEN_SIGNATURE' });
  });

  test.each([
    'Bearer',
    'Basic cm9vdDpyb290',
    'Bearer two words',
    'Bearer x.y.z',
    `Bearer ${'a'.repeat(9000)}`,
  ])('in the form %.30s is refused', async (authorization) => {
    const { body } = await knock({ authorization });
    expect(body.status).toBe(401);
  });

  test('that is bound to a key is good with a proof for this request, once', async () => {
    const key = await createIdentity('bound');
    expect(await calculateJwkThumbprint(key.publicJwk)).toBe(key.thumbprint);
    const token = await fetchOperatorToken(bed.issuer, 'bound', {
      proofOf: (htu, nonce) => signProof(key, { htm: 'POST', htu, nonce }),
    });
    const ath = accessTokenHash(token);
    const proof = (htm: string, path: string) =>
      signProof(key, { htm, htu: new URL(path, bed.url).href, ath });
    const authorization = `DPoP ${token}`;
    const good = await proof('GET', '/v1/pools');
    expect((await knock({ authorization, dpop: good })).status).toBe(200);
    const refused = async (headers: Record<string, string>) => (await knock(headers)).body.code;
    expect(await refused({ authorization, dpop: good })).toBe('ERR_MOORING_DPOP_REPEATED');
    expect(await refused({ authorization })).toBe('ERR_MOORING_TOKEN_SCHEME');
    expect(await refused({ authorization: `Bearer ${token}`, dpop: await proof('GET', '/v1/pools') })).toBe(
      'ERR_MOORING_TOKEN_SCHEME',
    );
    expect(await refused({ authorization, dpop: await proof('PUT', '/v1/pools') })).toBe(
      'ERR_MOORING_DPOP_METHOD',
    );
    expect(await refused({ authorization, dpop: await proof('GET', '/v1/relays') })).toBe(
      'ERR_MOORING_DPOP_URL',
    );
    const thief = await createIdentity('bound');
    const stolen = await signProof(thief, { htm: 'GET', htu: new URL('/v1/pools', bed.url).href, ath });
    expect(await refused({ authorization, dpop: stolen })).toBe('ERR_MOORING_DPOP_KEY_MISMATCH');
  });
});

test('strangers who send more wrong tokens than can be judged do not keep operators out', async () => {
  const known = { as: 'root' } as const;
  expect((await bed.ask('GET', '/v1/pools', known)).status).toBe(200);
  const wrong = () => bed.ask('GET', '/v1/pools', { as: null, headers: { authorization: 'Bearer a.b.c' } });
  const statuses: number[] = [];
  for (let sent = 0; sent < 120; sent += 20) {
    statuses.push(...(await Promise.all(Array.from({ length: 20 }, wrong))).map(({ status }) => status));
  }
  expect(statuses).toContain(429);
  expect((await bed.ask('GET', '/v1/pools', known)).status).toBe(200);
});

test('metrics need a right, the document and the sign of life need none', async () => {
  expect((await bed.ask('GET', '/metrics', { as: null })).status).toBe(401);
  expect((await bed.ask('GET', '/metrics', { as: 'scopeless' })).status).toBe(403);
  expect((await bed.ask('GET', '/metrics', { as: 'reader' })).body).toMatch(/# TYPE mooring_leases gauge/);
  expect((await bed.ask('GET', '/v1/openapi.json', { as: null })).body.openapi).toBe('3.1.0');
  expect((await bed.ask('GET', '/healthz', { as: null })).body).toEqual({ status: 'serving' });
});

test('answers are for nobody’s cache and no page’s frame', async () => {
  const { headers } = await bed.ask('GET', '/v1/pools');
  expect(headers.get('cache-control')).toBe('no-store');
  expect(headers.get('x-content-type-options')).toBe('nosniff');
  expect(headers.get('content-security-policy')).toMatch(/default-src 'none'/);
  expect(headers.get('access-control-allow-origin')).toBeNull();
});
