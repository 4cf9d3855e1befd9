import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type LoginPrompt, logIn } from '../../../clients/laptop/login.ts';
import { deviceKey, StateDir } from '../../../clients/laptop/state-dir.ts';
import { createTokenClient } from '../../../clients/laptop/token.ts';
import { type DpopKey, generateDpopKey } from '../../../clients/sdk/dpop.ts';
import { type RunningIssuer, startIssuer } from '../../../infra/issuer/issuer.ts';

const AUDIENCE = 'https://mooring.test/';

let issuer: RunningIssuer;
let directory: string;
let state: StateDir;
let key: DpopKey;

beforeAll(async () => {
  directory = mkdtempSync('/tmp/mooring-login-');
  issuer = await startIssuer({
    host: '127.0.0.1',
    port: 0,
    audience: AUDIENCE,
    devices: [],
    application: { clientId: 'mooring-laptop', people: { alice: 'acme' } },
  });
});
afterAll(async () => {
  await issuer.close();
  rmSync(directory, { recursive: true, force: true });
});
beforeEach(async () => {
  state = new StateDir(mkdtempSync(join(directory, 'state-')));
  key = await deviceKey(state);
});

const settings = () => ({
  tokenEndpoint: issuer.tokenEndpoint,
  deviceAuthorizationEndpoint: issuer.deviceAuthorizationEndpoint,
  clientId: 'mooring-laptop',
  audience: AUDIENCE,
  scope: 'lease',
});

/** A browser with cookies: follows redirects, submits the one form of a page with what `fill` adds. */
function browser() {
  const jar = new Map<string, string>();
  async function go(url: URL, form?: URLSearchParams): Promise<{ url: URL; page: string }> {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const answer = await fetch(url, {
      redirect: 'manual',
      headers: { cookie },
      ...(form === undefined ? {} : { method: 'POST', body: form }),
    });
    for (const set of answer.headers.getSetCookie()) {
      const [pair = ''] = set.split(';');
      const at = pair.indexOf('=');
      jar.set(pair.slice(0, at), pair.slice(at + 1));
    }
    const next = answer.headers.get('location');
    if (next !== null) return go(new URL(next, url));
    return { url, page: await answer.text() };
  }
  return {
    go,
    submit({ url, page }: { url: URL; page: string }, fill: Record<string, string> = {}) {
      const action = /action="([^"]+)"/.exec(page)?.[1] ?? '';
      const form = new URLSearchParams(fill);
      for (const [, name = '', value = ''] of page.matchAll(/name="(\w+)" value="([^"]*)"/g)) {
        if (!form.has(name) && name !== 'abort') form.set(name, value);
      }
      return go(new URL(action, url), form);
    },
  };
}

async function signIn({ completeUrl }: LoginPrompt, account: string): Promise<string> {
  const { go, submit } = browser();
  const asked = await submit(await go(new URL(completeUrl ?? '')));
  const who = await submit(asked, { confirm: 'yes' });
  expect(who.page).toContain('Who are you?');
  who.url.searchParams.set('account', account);
  return (await go(who.url)).page;
}

describe('signing in on a device (RFC 8628)', () => {
  test('shows a code, waits for the person, and then fetches bound tokens without them', async () => {
    let prompt: LoginPrompt | null = null;
    const waits: number[] = [];
    await logIn(settings(), key, state, {
      prompt: (shown) => {
        prompt = shown;
      },
      // The person takes two of the intervals.
      async wait(ms) {
        waits.push(ms);
        if (waits.length === 2) expect(await signIn(prompt!, 'alice')).toContain('Sign-in Success');
      },
    });
    expect(prompt).toMatchObject({
      url: `${issuer.url}/device`,
      code: expect.stringMatching(/^\w{4}-\w{4}$/),
    });
    expect(waits.length).toBeGreaterThanOrEqual(2);

    const tokens = createTokenClient(settings(), key, state);
    const { token } = await tokens.credentials(false);
    expect(decodeJwt(token)).toMatchObject({
      sub: 'alice',
      tenant: 'acme',
      aud: AUDIENCE,
      cnf: { jkt: key.thumbprint },
    });
    // Every refresh token is good for one use: the next one was kept.
    const before = readFileSync(state.file('login.json'), 'utf8');
    expect((await tokens.credentials(true)).token).not.toBe(token);
    expect(readFileSync(state.file('login.json'), 'utf8')).not.toBe(before);
    expect(statSync(state.file('login.json')).mode & 0o077).toBe(0);
    // Another process of the same device goes on with it.
    await createTokenClient(settings(), key, state).credentials(false);
  });

  test('what it keeps is good for nothing without the key of the device', async () => {
    await logIn(settings(), key, state, {
      prompt: (shown) => void signIn(shown, 'alice'),
      wait: () => new Promise((resolve) => setTimeout(resolve, 200)),
    });
    const thief = createTokenClient(settings(), await generateDpopKey(), state);
    await expect(thief.credentials(false)).rejects.toMatchObject({
      code: 'ERR_MOORING_TOKEN',
      temporary: false,
    });
  });

  test('that nobody does ends when the code has', async () => {
    let waited = 0;
    const late = logIn(settings(), key, state, {
      prompt: () => {},
      wait: async (ms) => {
        waited += ms;
      },
    });
    await expect(late).rejects.toMatchObject({
      code: 'ERR_MOORING_LOGIN',
      message: expect.stringContaining('nobody signed in within 600 s; run `mooring login` again'),
    });
    expect(waited).toBeGreaterThanOrEqual(600_000);
    expect(state.read('login.json')).toBeNull();
  });

  test('is what an agent without a key of its own asks for', async () => {
    await expect(createTokenClient(settings(), key, state).credentials(false)).rejects.toMatchObject({
      code: 'ERR_MOORING_LOGIN',
      message: expect.stringContaining('run `mooring login`'),
    });
  });

  test('needs the endpoint for it, by name', async () => {
    const { deviceAuthorizationEndpoint: _, ...without } = settings();
    const attempt = logIn(without, key, state, { prompt: () => {}, wait: async () => {} });
    await expect(attempt).rejects.toThrow(/issuer\.deviceAuthorizationEndpoint is missing/);
  });
});
