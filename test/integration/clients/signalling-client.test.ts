import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createSignallingClient, type SignallingClient } from '../../../clients/sdk/signalling.ts';
import { ManualTimers } from '../../unit/clients/manual-timers.ts';
import { clientOptions, HELLO, openScriptedDoor, type ScriptedDoor, welcomeHello } from './scripted-door.ts';

const LEASE = `a1.${'L'.repeat(22)}`;
const TEMPORARY = { code: 'ERR_MOORING_BUSY', message: 'busy; come again', temporary: true };
const REFUSED = {
  code: 'ERR_MOORING_UNAUTHENTICATED',
  message: 'no such device; enrol it',
  temporary: false,
};

let door: ScriptedDoor;
let client: SignallingClient | null = null;

beforeEach(async () => {
  door = await openScriptedDoor();
});
afterEach(async () => {
  client?.close();
  client = null;
  await door.close();
});

describe('hello', () => {
  test('carries the token, and a proof for the nonce and the URL of the welcome', async () => {
    client = createSignallingClient(clientOptions(door));
    const socket = await door.next();
    expect(await socket.next()).toEqual({
      type: 'hello',
      id: 1,
      token: 'token-1-of-the-issuer',
      proof: `proof of nonce-1 for ${door.url} and ${'S'.repeat(43)}`,
      sealingKey: { kty: 'OKP', crv: 'X25519', x: 'S'.repeat(43) },
    });
  });

  test('requests made before it is answered wait for the answer', async () => {
    client = createSignallingClient(clientOptions(door));
    const pong = client.request('ping', {});
    const socket = await welcomeHello(door);
    const { id } = await socket.next();
    expect(id).not.toBe(1);
    socket.send({ type: 'result', id, result: {} });
    expect(await pong).toEqual({});
  });

  test('a refusal is met once with a fresh token, then it is final', async () => {
    const options = clientOptions(door);
    client = createSignallingClient(options);
    const outcome = client.request('ping', {});
    outcome.catch(() => {});
    for (let attempt = 1; attempt <= 2; attempt += 1) {
      const socket = await door.next();
      await socket.next();
      socket.send({ type: 'error', id: 1, error: REFUSED });
    }
    await expect(outcome).rejects.toMatchObject({ code: REFUSED.code, message: REFUSED.message });
    expect(options.asked).toEqual([false, true]);
    expect(options.events.at(-1)).toMatchObject({ type: 'refused' });
    expect(door.accepted).toBe(2);
  });

  test.each(['wss://another.example/v1', 'no URL at all'])(
    'is not said to a door that calls itself %s: the proof could be used there',
    async (named) => {
      const other = await openScriptedDoor(named);
      try {
        const options = clientOptions(other);
        client = createSignallingClient(options);
        const socket = await other.next();
        await socket.closed;
        expect(socket.frames).toEqual([]);
        expect(options.events).toEqual([
          { type: 'refused', error: expect.objectContaining({ code: 'ERR_MOORING_WRONG_DOOR' }) },
        ]);
        expect(other.accepted).toBe(1);
      } finally {
        await other.close();
      }
    },
  );

  test('a temporary refusal is tried again', async () => {
    client = createSignallingClient(clientOptions(door));
    const first = await door.next();
    await first.next();
    first.send({ type: 'error', id: 1, error: TEMPORARY });
    await welcomeHello(door);
    expect(door.accepted).toBe(2);
  });
});

describe('answers', () => {
  test('come to whoever asked, in any order', async () => {
    client = createSignallingClient(clientOptions(door));
    const socket = await welcomeHello(door);
    const freed = client.request('free', { lease: LEASE });
    const pong = client.request('ping', {});
    const [one, two] = [await socket.next(), await socket.next()];
    socket.send({ type: 'error', id: one.id, error: { ...REFUSED, rsip: 306 } });
    socket.send({ type: 'result', id: two.id, result: {} });
    expect(await pong).toEqual({});
    await expect(freed).rejects.toMatchObject({ rsip: 306, temporary: false, data: { name: 'BAD_BIND_ID' } });
  });

  test('of another form than promised are refused by field', async () => {
    client = createSignallingClient(clientOptions(door));
    const socket = await welcomeHello(door);
    const extended = client.request('extend', { lease: LEASE });
    const { id } = await socket.next();
    socket.send({ type: 'result', id, result: { lease: { id: 7 } } });
    await expect(extended).rejects.toMatchObject({
      code: 'ERR_MOORING_BAD_INPUT',
      data: { field: expect.stringMatching(/lease/) },
    });
  });

  test.each([
    ['text that is not JSON', '{'],
    ['an unknown frame', '{"type":"surprise"}'],
    ['a frame without its fields', '{"type":"ended"}'],
  ])('%s ends the socket, not the client', async (_what, text) => {
    const options = clientOptions(door);
    client = createSignallingClient(options);
    const socket = await welcomeHello(door);
    socket.sendText(text);
    expect(await socket.closed).toBe(4200);
    await welcomeHello(door);
    expect(options.events.filter(({ type }) => type === 'disconnected')).toHaveLength(1);
  });

  test('a lease that ends without being asked for is an event', async () => {
    const options = clientOptions(door);
    client = createSignallingClient(options);
    const socket = await welcomeHello(door);
    socket.send({ type: 'ended', lease: LEASE, reason: 'revoked' });
    await expect
      .poll(() => options.events.at(-1))
      .toEqual({ type: 'ended', lease: LEASE, reason: 'revoked' });
  });
});

describe('a socket that dies', () => {
  test('takes no request with it: it is sent again on the next one', async () => {
    client = createSignallingClient(clientOptions(door));
    const first = await welcomeHello(door);
    const freed = client.request('free', { lease: LEASE });
    const asked = await first.next();
    first.close(4000, 'bye');
    const second = await welcomeHello(door);
    expect(await second.next()).toEqual(asked);
    second.send({ type: 'result', id: asked.id, result: {} });
    expect(await freed).toEqual({});
  });

  test('rejects what must not be repeated', async () => {
    client = createSignallingClient(clientOptions(door));
    const first = await welcomeHello(door);
    const pong = client.request('ping', {}, { resend: false });
    pong.catch(() => {});
    await first.next();
    first.close(4000);
    await expect(pong).rejects.toMatchObject({ code: 'ERR_MOORING_DISCONNECTED', temporary: true });
  });

  test('with a code from 4200 on is not followed by another', async () => {
    const options = clientOptions(door);
    client = createSignallingClient(options);
    const socket = await welcomeHello(door);
    const pong = client.request('ping', {});
    await socket.next();
    socket.close(4204, 'a newer socket of this device');
    await expect(pong).rejects.toThrow(/a newer socket of this device \(close code 4204\)/);
    expect(options.events.at(-1)).toMatchObject({ type: 'refused' });
    expect(door.accepted).toBe(1);
  });

  test('is replaced with a fresh token when the old one has expired on it', async () => {
    const options = clientOptions(door);
    client = createSignallingClient(options);
    const first = await welcomeHello(door);
    const freed = client.request('free', { lease: LEASE });
    const { id } = await first.next();
    const expired = { code: 'ERR_MOORING_TOKEN_EXPIRED', message: 'open a new socket', temporary: false };
    first.send({ type: 'error', id, error: expired });
    const second = await welcomeHello(door);
    expect(options.asked).toEqual([false, true]);
    expect((await second.next()).id).toBe(id);
    // Refused again, it is the requester's to know.
    second.send({ type: 'error', id, error: expired });
    await expect(freed).rejects.toMatchObject({ code: 'ERR_MOORING_TOKEN_EXPIRED' });
  });

  test('by goaway is replaced within the wait that the server gave', async () => {
    const options = clientOptions(door);
    client = createSignallingClient({ ...options, random: () => 0.5 });
    const socket = await welcomeHello(door);
    socket.send({ type: 'goaway', withinMs: 40 });
    await welcomeHello(door);
    expect(options.events).toContainEqual(expect.objectContaining({ type: 'disconnected', retryInMs: 20 }));
  });
});

describe('the watchdog', () => {
  test('pings a silent server after its interval, and gives it up after a second one', async () => {
    const timers = new ManualTimers();
    const options = clientOptions(door);
    client = createSignallingClient({ ...options, timers });
    const socket = await welcomeHello(door, { ...HELLO, pingIntervalMs: 10_000 });
    await expect.poll(() => client?.connected).toBe(true);
    timers.advance(10_000);
    expect(await socket.next()).toMatchObject({ type: 'ping' });
    timers.advance(10_000);
    expect(await socket.closed).toBe(4001);
    expect(options.events.at(-1)).toMatchObject({ type: 'disconnected' });
  });

  test('is content with any sign of life', async () => {
    const timers = new ManualTimers();
    const options = clientOptions(door);
    client = createSignallingClient({ ...options, timers });
    const socket = await welcomeHello(door, { ...HELLO, pingIntervalMs: 10_000 });
    await expect.poll(() => client?.connected).toBe(true);
    timers.advance(10_000);
    await socket.next();
    socket.send({ type: 'ended', lease: LEASE, reason: 'freed' });
    await expect.poll(() => options.events.at(-1)?.type).toBe('ended');
    timers.advance(10_000);
    expect(client.connected).toBe(true);
  });

  test('after a change of network a socket has 2 s to show life', async () => {
    const timers = new ManualTimers();
    const options = clientOptions(door);
    client = createSignallingClient({ ...options, timers });
    const socket = await welcomeHello(door);
    await expect.poll(() => client?.connected).toBe(true);
    client.networkChanged();
    expect(await socket.next()).toMatchObject({ type: 'ping' });
    timers.advance(2_000);
    expect(client.connected).toBe(false);
    expect(options.events.at(-1)).toMatchObject({ type: 'disconnected', retryInMs: 0 });
  });

  test('a door that never answers hello is left after the time to connect', async () => {
    const timers = new ManualTimers();
    const options = clientOptions(door);
    client = createSignallingClient({ ...options, timers });
    const socket = await door.next();
    await socket.next();
    timers.advance(10_000);
    expect(options.events.at(-1)).toMatchObject({
      type: 'disconnected',
      error: { message: expect.stringContaining('no answer to hello within 10000 ms') },
    });
  });
});
