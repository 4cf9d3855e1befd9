import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import { processTimers } from '../../../src/ownership/timers.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { QUARANTINE_MS } from '../../../src/registry/hold.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type AnchorCopy, copyAnchor } from '../../../src/relay/anchor-copy.ts';
import { createRelayPlane } from '../../../src/relay/plane.ts';
import { type ServedAnchor, serveAnchor } from '../../../src/relay/served-anchor.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { cutOff } from '../registry/cut-off.ts';
import { type RealRedis, realRedis, silent } from '../registry/real-redis.ts';

const LEASE_MS = 60_000;
const DEVICE = { tenant: 't', id: 'd1' };

let server: RealRedis;
let store: Registry;
let anchor: string;
let anchors = 0;
let epoch: bigint;
let lease: Lease;
let copy: AnchorCopy;
/** Of relay and registry, in step. */
let nowMs = 1_700_000_000_000;
/** How long the relay's process stands still before it hears an answer. */
let hangsMs = 0;
/** Lease → until when the engine forwards for it. */
const until = new Map<string, number>();

beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

async function passes(ms: number): Promise<void> {
  nowMs += ms;
  await server.client().set('test:now', nowMs);
}

const engine = {
  async command(command: EngineCommand): Promise<unknown> {
    if (command.op === 'lease') until.set(command.lease.id, command.untilMs);
    if (command.op === 'drop-lease') until.delete(command.id);
    return null;
  },
};

beforeEach(async () => {
  anchors += 1;
  anchor = `a${anchors}`;
  hangsMs = 0;
  until.clear();
  await passes(0);
  const connection = commandConnection(server.client(), commandsWithTestClock());
  const opened = createStore(connection, silent, async () => undefined);
  const late = <A extends unknown[], R>(call: (...args: A) => Promise<R>) => {
    return async (...args: A) => {
      const answer = await call(...args);
      if (hangsMs > 0) await passes(hangsMs);
      return answer;
    };
  };
  store = { ...opened, events: late(opened.events), snapshot: late(opened.snapshot) };
  await claimFor(1e9);
  copy = await copyAnchor({
    ...{ anchor, registry: store, engine, log: silent },
    ...{ siteKey: new Uint8Array(32), timers: { ...processTimers, nowMs: () => nowMs } },
  });
  await copy.tellEngine();
  ({ lease } = await grant('1'));
});

async function claimFor(ttlMs: number): Promise<void> {
  await store.declareAnchor({
    ...{ id: anchor, pool: anchor, sharing: 'whole', home: 'r1' },
    ...{ prefixes: ['192.0.2.0/28'], endpoints: ['198.51.100.1'] },
  });
  ({ epoch } = await store.claim(anchor, 'r1', 'b'.repeat(16), ttlMs));
}

async function grant(key: string) {
  return store.grant({
    ...{ pool: anchor, device: DEVICE, thumbprint: key.repeat(43), kind: 'rsa-ip', leaseMs: LEASE_MS },
    ...{ requestId: randomBytes(16).toString('hex'), quota: 4 },
  });
}

describe('a relay forwards for a lease until its end and no longer', () => {
  test('when it hung before it heard of the grant', async () => {
    const endsMs = nowMs + LEASE_MS;
    hangsMs = 7_000;
    await copy.follow();
    expect(until.get(lease.id)).toBe(endsMs);
  });

  test('when it hung before it heard the whole anchor', async () => {
    const endsMs = nowMs + LEASE_MS;
    hangsMs = 7_000;
    const another = await copyAnchor({
      ...{ anchor, registry: store, engine, log: silent },
      ...{ siteKey: new Uint8Array(32), timers: { ...processTimers, nowMs: () => nowMs } },
    });
    await passes(500);
    await another.tellEngine();
    expect(until.get(lease.id)).toBe(endsMs);
  });

  test('when the device came with another key meanwhile', async () => {
    const endsMs = nowMs + LEASE_MS;
    await store.activate(anchor, lease.id, epoch);
    await copy.follow();
    await passes(20_000);
    await store.attach({ leaseId: lease.id, device: DEVICE, thumbprint: '2'.repeat(43) });
    await copy.follow();
    expect(until.get(lease.id)).toBe(endsMs);
  });

  test('and tells a device that attaches how much of its life is left', async () => {
    await store.activate(anchor, lease.id, epoch);
    await copy.follow();
    await passes(20_000);
    const granted = await store.attach({ leaseId: lease.id, device: DEVICE, thumbprint: '1'.repeat(43) });
    const { lease: told } = await plane().install(granted);
    expect(told.remainingMs).toBe(LEASE_MS - 20_000);
  });
});

test('what the registry still answers to a relay that has let go of the anchor is not told to the engine', async () => {
  const told: string[] = [];
  const another: AnchorCopy = await copyAnchor({
    ...{ anchor, log: silent, siteKey: new Uint8Array(32), timers: { ...processTimers, nowMs: () => nowMs } },
    engine: { command: async ({ op }) => void told.push(op) },
    registry: {
      ...store,
      watch: async () => async () => undefined,
      async events(...args) {
        const page = await store.events(...args);
        await another.stop();
        return page;
      },
    },
  });
  await grant('1');
  await expect(another.follow()).rejects.toMatchObject({ code: 'ERR_MOORING_NOT_OWNER', temporary: true });
  expect(told).toEqual([]);
});

test('a grant that finds the epoch over is asked for again, not refused', async () => {
  await copy.follow();
  await store.claim(anchor, 'r1', 'c'.repeat(16), 1e9);
  await expect(plane().install({ lease, session: copy.session(lease.session)! })).rejects.toMatchObject({
    code: 'ERR_MOORING_NOT_OWNER',
    temporary: true,
  });
});

test('an extension that a former primary has answered, and the present one does not know, is not acknowledged', async () => {
  await store.activate(anchor, lease.id, epoch);
  const device = DEVICE;
  const extend = { leaseId: lease.id, device, leaseMs: LEASE_MS, requestId: 'e'.repeat(32) };
  await passes(10_000);
  const event = await store.extend(extend);
  await expect(plane().apply({ anchor, event })).resolves.toEqual({});
  const lost = (fence: string) => ({
    ...event,
    fence,
    lease: { ...event.lease, fence, remainingMs: LEASE_MS + 5_000 },
  });
  const wider = { ...event.lease, fence: `${epoch - 1n}-99`, ports: { first: 4_096, count: 128 } };
  await expect(
    plane().apply({ anchor, event: { ...event, fence: wider.fence, lease: wider } }),
  ).rejects.toMatchObject({ temporary: true });
  for (const fence of [`${epoch}-99`, `${epoch - 1n}-99`]) {
    await expect(plane().apply({ anchor, event: lost(fence) })).rejects.toMatchObject({ temporary: true });
  }
});

test('a lease that may be acknowledged at any moment is reported as active', async () => {
  await copy.follow();
  expect(copy.held().leases).toMatchObject([{ id: lease.id, state: 'pending' }]);
  await copy.witness(lease.id);
  expect(copy.held().leases).toMatchObject([{ id: lease.id, state: 'active' }]);
  expect(copy.base().leases).toMatchObject([{ lease: { id: lease.id, state: 'active' } }]);
});

const nobodyAsks = () => Promise.reject(new Error('nobody asks for that here'));

function plane() {
  const served = { ...copy, epoch, sweep: async () => undefined } as unknown as ServedAnchor;
  return createRelayPlane({
    ...{ owned: () => served, engine, registry: store, port: 4556, mtu: 1280 },
    ...{ adopt: async () => undefined, prepare: async () => undefined, promise: () => false },
    ...{ handOver: () => nobodyAsks(), claim: () => nobodyAsks() },
  });
}

const serve = (through: typeof engine, resumed: Parameters<typeof serveAnchor>[1] = []) =>
  serveAnchor(
    {
      ...{ anchor, epoch, untilMs: nowMs + 1_000, registry: store, engine: through, log: silent },
      ...{ siteKey: new Uint8Array(32), timers: { ...processTimers, nowMs: () => nowMs } },
      ...{ relay: 'r1', outageGraceMs: 0, isCurrent: () => true },
      ...{ onEnded: () => undefined, onResized: () => undefined, onInstalled: () => undefined },
    },
    resumed,
  );

test('what an owner alone knows stays with it when it reads of another owner before it hears that it is none', async () => {
  await server.client().set('test:server', 'first');
  anchor += '-lost';
  await claimFor(450);
  const other = { id: 'r2', boot: 'c'.repeat(16) };
  await store.appoint(anchor, 'r1', epoch, other, 450);
  const failOver = await cutOff(server.client(), anchor);
  const { lease: lost } = await grant('1');
  const served = (await serve(engine))!;
  await failOver();
  const claims = () => store.claim(anchor, other.id, other.boot, 1e9);
  await expect(claims()).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED' });
  await passes(QUARANTINE_MS);
  await claims();
  await expect(served.follow()).rejects.toMatchObject({ code: 'ERR_MOORING_NOT_OWNER' });
  expect(served.held().leases.map(({ id }) => id)).toContain(lost.id);
  expect([...until.keys()]).toContain(lost.id);
  await served.stop();
  await server.client().set('test:server', 'first');
});

test('an engine that goes on with what a former process left hears of every lease before it is told that this was all', async () => {
  await store.activate(anchor, lease.id, epoch);
  const said: string[] = [];
  const listening = {
    // What is not said at once is said a turn of the event loop later.
    async command({ op }: EngineCommand): Promise<unknown> {
      said.push(op);
      await new Promise(setImmediate);
      return null;
    },
  };
  const served = await serve(listening, [{ id: 'left' } as never]);
  expect(said).toEqual(['anchor', 'session', 'lease', 'import', 'installed']);
  await served?.stop();
});
