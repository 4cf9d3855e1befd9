import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, generateKeyPair, type JWK } from 'jose';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createIssuerKeys, type IssuerKeys, type KeyTiming } from '../../../src/auth/issuer-keys.ts';

/** A JWKS endpoint that can be told to fail. */
let server: Server;
let uri: string;
let fetches: number;
let answer: (response: ServerResponse) => void;
let published: JWK[];
let nowMs: number;
let opened: IssuerKeys[];

beforeEach(async () => {
  fetches = 0;
  nowMs = 1_000_000;
  opened = [];
  published = [await key('first')];
  answer = serveKeys;
  server = createServer((_request, response) => {
    fetches += 1;
    answer(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}/jwks`;
});

afterEach(async () => {
  for (const keys of opened) keys.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

async function key(kid: string): Promise<JWK> {
  const { publicKey } = await generateKeyPair('ES256');
  return { ...(await exportJWK(publicKey)), kid, alg: 'ES256', use: 'sig' };
}

function serveKeys(response: ServerResponse): void {
  response.setHeader('content-type', 'application/json').end(JSON.stringify({ keys: published }));
}

function fail(response: ServerResponse): void {
  response.writeHead(503).end();
}

function open(timing: Partial<KeyTiming> = {}): IssuerKeys {
  const keys = createIssuerKeys({
    issuer: 'https://issuer.example',
    jwksUri: uri,
    timing,
    log: pino({ enabled: false }),
    now: () => nowMs,
  });
  opened.push(keys);
  return keys;
}

function find(keys: IssuerKeys, kid: string): Promise<unknown> {
  return Promise.resolve(keys.keyFor({ alg: 'ES256', kid }, { payload: '', signature: '' }));
}

describe('the keys of an issuer', () => {
  it('are fetched once for a thousand verifications at the same time', async () => {
    const keys = open();
    await Promise.all(Array.from({ length: 1_000 }, () => find(keys, 'first')));
    expect(fetches).toBe(1);
  });

  it('go on being used while the issuer is away, and are refused when too old', async () => {
    const keys = open({ maxStaleMs: 60_000 });
    await find(keys, 'first');
    answer = fail;
    nowMs += 60_000;
    await keys.refresh();
    await expect(find(keys, 'first')).resolves.toBeDefined();
    nowMs += 1;
    await expect(find(keys, 'first')).rejects.toMatchObject({
      code: 'ERR_MOORING_ISSUER_UNREACHABLE',
      temporary: true,
    });
  });

  it('are asked for less and less often while the issuer fails, whatever devices do meanwhile', async () => {
    answer = fail;
    const keys = open({ backoffMs: 1_000, maxBackoffMs: 8_000 });
    await keys.refresh();
    expect(fetches).toBe(1);
    const waits: number[] = [];
    for (let failure = 0; failure < 6; failure += 1) {
      const seen = fetches;
      const refusals = await Promise.all(
        Array.from({ length: 100 }, () => find(keys, 'first').catch((error: unknown) => error)),
      );
      expect(fetches).toBe(seen);
      const { retryAfterMs } = refusals[0] as { retryAfterMs: number };
      waits.push(retryAfterMs);
      nowMs += retryAfterMs;
      await find(keys, 'first').catch(() => {});
      expect(fetches).toBe(seen + 1);
    }
    expect(waits).toEqual([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]);
  });

  it('are there again as soon as the issuer is', async () => {
    answer = fail;
    const keys = open({ backoffMs: 1_000 });
    await keys.refresh();
    answer = serveKeys;
    nowMs += 1_000;
    await expect(find(keys, 'first')).resolves.toBeDefined();
  });

  it('are refreshed in the background, without a device asking', async () => {
    open({ refreshMs: 10 });
    await vi.waitFor(() => expect(fetches).toBeGreaterThan(3), { timeout: 5_000 });
  });

  it('are fetched anew for a key just rotated in, but not for one made-up key id after another', async () => {
    const keys = open({ unknownKeyMs: 30_000 });
    await find(keys, 'first');
    published = [...published, await key('second')];
    await expect(find(keys, 'second')).rejects.toMatchObject({ temporary: true, retryAfterMs: 30_000 });
    nowMs += 30_000;
    await expect(find(keys, 'second')).resolves.toBeDefined();
    expect(fetches).toBe(2);
    for (let made = 0; made < 100; made += 1) {
      await expect(find(keys, `made-up-${made}`)).rejects.toMatchObject({
        code: 'ERR_MOORING_TOKEN_KEY_UNKNOWN',
      });
    }
    expect(fetches).toBe(2);
  });

  it('that were withdrawn are no longer accepted after the next refresh', async () => {
    const keys = open({ unknownKeyMs: 30_000 });
    await find(keys, 'first');
    published = [await key('second')];
    await keys.refresh();
    await expect(find(keys, 'first')).rejects.toMatchObject({ code: 'ERR_MOORING_TOKEN_KEY_UNKNOWN' });
  });

  it.each<[string, (response: ServerResponse) => void]>([
    ['a body that is not JSON', (response) => response.end('<html>')],
    ['JSON that is no key set', (response) => response.end('{"keys":1}')],
    ['a redirect', (response) => response.writeHead(302, { location: '/elsewhere' }).end()],
    ['an endless body', (response) => response.end(`{"keys":[${'1,'.repeat(200_000)}1]}`)],
    ['nothing within the time', () => {}],
    ['a cut connection', (response) => response.destroy()],
  ])('are kept as they were when the endpoint answers with %s', async (_what, bad) => {
    const keys = open({ timeoutMs: 200 });
    await find(keys, 'first');
    answer = bad;
    await keys.refresh();
    expect(fetches).toBe(2);
    await expect(find(keys, 'first')).resolves.toBeDefined();
  });
});
