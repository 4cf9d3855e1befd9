import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import {
  createSignallingClient,
  type SignallingClient,
  type SignallingEvent,
} from '../../../clients/sdk/signalling.ts';
import type { Connect } from '../../../clients/sdk/web-socket.ts';
import { accessTokenHash, fetchToken, signProof } from '../auth/device-identity.ts';
import { LEASE_ID, scripted } from './scripted-registry.ts';
import {
  AUDIENCE,
  type Authority,
  DOOR_URL,
  openDoor,
  SEALING_KEY,
  startAuthority,
  type TestDoor,
} from './test-door.ts';

let authority: Authority;
const doors: TestDoor[] = [];
const clients: SignallingClient[] = [];

beforeAll(async () => {
  authority = await startAuthority(1);
});
afterAll(() => authority.close());
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  for (const door of doors.splice(0)) await door.close();
});

async function open(): Promise<TestDoor> {
  const door = await openDoor({ ...scripted(), verifier: authority.verifier });
  doors.push(door);
  return door;
}

/** The project's own client, on `port()` of the moment, with everything that it reports. */
function client(port: () => number): { client: SignallingClient; events: SignallingEvent[] } {
  const [device] = authority.devices;
  const events: SignallingEvent[] = [];
  const connect: Connect = (_url, protocol) =>
    new WebSocket(`ws://127.0.0.1:${port()}/v1`, protocol) as never;
  const created = createSignallingClient({
    url: DOOR_URL,
    connect,
    sealingKey: SEALING_KEY,
    onEvent: (event) => events.push(event),
    async credentials() {
      const token = await fetchToken(device!, authority.issuer, AUDIENCE);
      return {
        token,
        proof: ({ nonce, url, seal }) =>
          signProof(device!, { htm: 'GET', htu: url, nonce, seal, ath: accessTokenHash(token) }),
      };
    },
  });
  clients.push(created);
  return { client: created, events };
}

const WISH = { request: 'ab'.repeat(16), pool: 'whole', kind: 'rsa-ip' } as const;

describe('the client of the sdk', () => {
  it('says hello, gets a lease, and hears when it ends', async () => {
    const door = await open();
    const { client: device, events } = client(() => door.port);
    const grant = await device.request('lease', WISH);
    expect(grant.lease.id).toBe(LEASE_ID);
    door.signalling.pushEnded({ tenant: 'acme', id: 'laptop-1' }, LEASE_ID, 'expired');
    await expect.poll(() => events.at(-1)).toEqual({ type: 'ended', lease: LEASE_ID, reason: 'expired' });
  });

  it('goes to another node when its own goes away, and asks on', async () => {
    const [first, second] = [await open(), await open()];
    let port = first.port;
    const { client: device, events } = client(() => port);
    await device.request('ping', {});
    port = second.port;
    await first.signalling.close(200);
    doors.splice(0, 1);
    await device.request('ping', {});
    expect(events.filter(({ type }) => type === 'connected')).toHaveLength(2);
    expect(second.signalling.sockets).toBe(1);
  });

  it('stays away when another socket of the device took over: two of them do not fight', async () => {
    const door = await open();
    const older = client(() => door.port);
    await older.client.request('ping', {});
    const newer = client(() => door.port);
    await newer.client.request('ping', {});
    await expect.poll(() => older.events.at(-1)?.type).toBe('refused');
    await newer.client.request('ping', {});
    expect(newer.events.map(({ type }) => type)).toEqual(['connected']);
  });
});
