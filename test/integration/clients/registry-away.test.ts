import { afterEach, beforeEach, expect, test } from 'vitest';
import { createDevice, type Device, type DeviceEvent } from '../../../clients/sdk/device.ts';
import type { WebSocketLike } from '../../../clients/sdk/web-socket.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { SUBPROTOCOL } from '../../../src/protocol/signalling.ts';
import { sealRoot } from '../../../src/relay/root-sealing.ts';
import { ManualTimers } from '../../unit/clients/manual-timers.ts';
import { HELLO } from './scripted-door.ts';

const LEASE_MS = 60_000;
const AWAY = { code: 'ERR_MOORING_REGISTRY_UNAVAILABLE', message: 'try again', temporary: true };
const NOT_YOURS = { code: 'ERR_MOORING_BAD_BIND', message: 'no such lease', temporary: false, rsip: 306 };
const SESSION = 'ab'.repeat(16);
const LEASE: Lease = {
  ...{ id: `a1.${'L'.repeat(22)}`, anchor: 'a1', pool: 'p', device: HELLO.device, bindId: 1 },
  ...{ kind: 'rsa-ip' as const, address: '192.0.2.1', ports: null, spis: null, session: SESSION },
  ...{ state: 'active' as const, remainingMs: LEASE_MS, fence: '1-1' },
};

/** What the door answers to extensions from now on. */
let answer: object;
let timers: ManualTimers;
let events: DeviceEvent[];
let device: Device;

/** A door in this process: a turn of the event loop after a frame its answer is there. */
function door(): WebSocketLike {
  let heard = (_: { data: unknown }): void => undefined;
  let sealedRoot = '';
  const say = (frame: object) => setImmediate(() => heard({ data: JSON.stringify(frame) }));
  say({ type: 'welcome', protocol: SUBPROTOCOL, nonce: 'n', url: 'wss://door.example/v1' });
  const results: Record<string, () => object> = {
    hello: () => HELLO,
    ping: () => ({}),
    attach: () => ({
      lease: LEASE,
      tunnel: {
        ...{ endpoints: [{ address: '198.51.100.1', port: 4556 }], index: 1, sessionId: SESSION },
        ...{ epoch: '1', mtu: 1280, sealedRoot },
      },
    }),
  };
  return {
    addEventListener(type: string, listener: (event: never) => void) {
      if (type === 'message') heard = listener as typeof heard;
    },
    async send(text: string) {
      const { type, id, sealingKey } = JSON.parse(text);
      if (type === 'hello') sealedRoot = sealRoot(new Uint8Array(32), sealingKey, SESSION);
      if (type === 'extend') say({ id, ...answer });
      else say({ type: 'result', id, result: results[type]!() });
    },
    close: () => undefined,
  } as unknown as WebSocketLike;
}

beforeEach(async () => {
  timers = new ManualTimers();
  events = [];
  answer = { type: 'error', error: AWAY };
  device = await createDevice({
    ...{ url: 'wss://door.example/v1', connect: door, timers, random: () => 0 },
    credentials: async () => ({ token: 't', proof: async () => 'proof' }),
    onEvent: (event) => events.push(event),
  });
  await device.attach(LEASE.id);
});
afterEach(() => device.close());

async function passes(ms: number): Promise<void> {
  for (const endMs = timers.nowMs() + ms; timers.nowMs() < endMs; ) {
    timers.advance(500);
    for (let turn = 0; turn < 4; turn += 1) await new Promise(setImmediate);
  }
}

const ofType = (wanted: DeviceEvent['type']) => events.filter(({ type }) => type === wanted);

/** Until it has heard one more refusal. */
async function refused(): Promise<void> {
  const { length } = ofType('extension-failed');
  while (ofType('extension-failed').length === length) await passes(500);
}

test('a device holds on to a lease that it cannot extend because the registry is away', async () => {
  await passes(2 * LEASE_MS);
  // The first refusal may come before the relay has said that it kept the lease.
  answer = { type: 'error', error: NOT_YOURS };
  await refused();
  expect(ofType('ended')).toEqual([]);
  answer = { type: 'result', result: { lease: LEASE } };
  await passes(10_000);
  expect(ofType('extended')).toHaveLength(1);
  expect(ofType('ended')).toEqual([]);
});

test('and lets it go when it hears twice that it is gone', async () => {
  await passes(2 * LEASE_MS);
  answer = { type: 'error', error: NOT_YOURS };
  await refused();
  await refused();
  expect(ofType('ended')).toEqual([{ type: 'ended', lease: LEASE.id, reason: 'expired' }]);
});

test('and does so an hour after its end when nobody can say anything', async () => {
  await passes(LEASE_MS + 3_590_000);
  expect(ofType('ended')).toEqual([]);
  await passes(20_000);
  expect(ofType('ended')).toHaveLength(1);
});

test('a lease that is refused without an outage is over at once', async () => {
  answer = { type: 'error', error: NOT_YOURS };
  await refused();
  expect(ofType('ended')).toHaveLength(1);
});
