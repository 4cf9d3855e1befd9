import type { FastifyRequest } from 'fastify';
import { describe, expect, test } from 'vitest';
import { createAuthentication } from '../../../src/admin/authentication.ts';
import type { OperatorVerifier } from '../../../src/auth/operator-token.ts';
import { MooringError } from '../../../src/protocol/errors.ts';

/** Tokens that begin with `good-` are their operator's, any other is wrong. */
const verifier = (asked: string[] = []): OperatorVerifier => ({
  async verify({ token, url }) {
    asked.push(url);
    if (!token.startsWith('good-')) throw new MooringError('ERR_MOORING_TOKEN_SIGNATURE', 'wrong');
    return { subject: token, issuer: 'i', tenant: null, scopes: ['mooring:read'], expiresAtMs: 0 };
  },
  close: () => undefined,
});

const knock = (authorization?: string, peer?: object) =>
  ({
    method: 'GET',
    url: '/v1/pools?limit=1',
    headers: authorization === undefined ? {} : { authorization },
    raw: { socket: peer === undefined ? {} : { getPeerCertificate: () => peer, ...peer } },
  }) as unknown as FastifyRequest;

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'admitted',
    (error: MooringError) => error.code,
  );

describe('an operator', () => {
  test('is judged by the URL that the configuration names, whatever Host says', async () => {
    const asked: string[] = [];
    const authenticate = createAuthentication({
      verifier: verifier(asked),
      url: 'https://admin.example:8443',
    });
    await authenticate(knock('Bearer good-1'));
    expect(asked).toEqual(['https://admin.example:8443/v1/pools']);
  });

  test('has so many requests at once and a second, and another one has as many', async () => {
    let nowMs = 0;
    const rate = { burst: 3, perSecond: 2 };
    const authenticate = createAuthentication({
      verifier: verifier(),
      url: 'https://a',
      rate,
      nowMs: () => nowMs,
    });
    const ask = (name: string) => code(authenticate(knock(`Bearer good-${name}`)));
    expect([await ask('1'), await ask('1'), await ask('1'), await ask('1')]).toEqual([
      ...['admitted', 'admitted', 'admitted'],
      'ERR_MOORING_TOO_MANY_REQUESTS',
    ]);
    expect(await ask('2')).toBe('admitted');
    nowMs += 500;
    expect([await ask('1'), await ask('1')]).toEqual(['admitted', 'ERR_MOORING_TOO_MANY_REQUESTS']);
  });

  test('is whom a certificate of the operators’ authority names, and nobody else', async () => {
    const authenticate = createAuthentication({ verifier: null, url: 'https://a' });
    const showing = (CN: string, authorized: boolean) =>
      knock(undefined, { raw: Buffer.from('der'), subject: { CN }, authorized });
    expect((await authenticate(showing('operator:ann', true))).name).toBe('certificate:ann');
    for (const [name, authorized] of [
      ['operator:ann', false],
      ['operator:', true],
      ['relay:r1', true],
      ['operator', true],
    ] as const) {
      expect(await code(authenticate(showing(name, authorized)))).toBe('ERR_MOORING_UNAUTHENTICATED');
    }
  });

  test('who was known before is let in while strangers try tokens', async () => {
    const authenticate = createAuthentication({ verifier: verifier(), url: 'https://a', nowMs: () => 0 });
    await authenticate(knock('Bearer good-1'));
    const wrong = Array.from({ length: 60 }, () => code(authenticate(knock('Bearer bad'))));
    const answers = await Promise.all(wrong);
    const more = await code(authenticate(knock('Bearer bad')));
    expect([...answers, more]).toContain('ERR_MOORING_TOKEN_SIGNATURE');
    expect(more).toBe('ERR_MOORING_TOO_MANY_REQUESTS');
    expect(await code(authenticate(knock('Bearer good-1')))).toBe('admitted');
  });
});
