import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePool } from '../../../src/config/pools.ts';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import { createOwnership, type Ownership } from '../../../src/ownership/ownership.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { openJournal } from '../../../src/relay/journal/journal.ts';
import { createRelayNode, type RelayNode } from '../../../src/relay/node.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { type RealRedis, realRedis, silent, until } from '../registry/real-redis.ts';

const QUARANTINE_MS = 400;
const TTL_MS = 800;

let server: RealRedis;
let registry: Registry;
let folder: string;
const relays: { stop(): Promise<void> }[] = [];
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  folder = mkdtempSync(join(tmpdir(), 'mooring-emptied-'));
  const connection = commandConnection(server.client(), undefined, QUARANTINE_MS);
  registry = createStore(connection, silent, async () => undefined);
  await declare();
});
afterEach(async () => {
  for (const relay of relays.splice(0)) await relay.stop();
  rmSync(folder, { recursive: true, force: true });
});

async function declare(prefixes: readonly string[] = ['192.0.2.8/31']): Promise<void> {
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'shared', home: 'r1', portBlock: 1024, spiBlock: 256 },
    ...{ prefixes, endpoints: ['198.51.100.1'], coolingMs: 60_000 },
  });
}

/** A relay without packets: ownership, node and journal as they are put together for real. */
async function relay(): Promise<{ node: RelayNode; ownership: Ownership; installed: Map<string, Lease> }> {
  const boot = randomBytes(8).toString('hex');
  const journal = await openJournal(join(folder, 'journal'));
  const former = await journal.read();
  const installed = new Map<string, Lease>();
  const engine = {
    async command(command: EngineCommand) {
      if (command.op === 'lease') installed.set(command.lease.id, command.lease);
      if (command.op === 'drop-lease') installed.delete(command.id);
      if (command.op === 'drop-anchor') installed.clear();
      return (command.op === 'export' ? { sessions: [] } : null) as never;
    },
  };
  const node = createRelayNode({
    settings: { id: 'r1', port: 4556, innerMtu: 1280, outageGraceMs: 3_600_000 } as never,
    ...{ boot, registry, engine, journal, former, log: silent },
    siteKey: new Uint8Array(32),
    announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
    planeFor: () => Promise.reject(new Error('nobody is asked')),
    onEnded: () => undefined,
  });
  const ownership = createOwnership({
    ...{ registry, relay: 'r1', boot, ttlMs: TTL_MS, log: silent },
    report: (anchor, _, ttlMs) =>
      registry.report(anchor, { relay: 'r1', boot, hasStandby: false, ...node.held(anchor) }, ttlMs),
    nobodyElse: () => true,
    knownEpoch: (anchor) => former.get(anchor)?.epoch,
    redeclare: (anchor) => node.redeclare(anchor),
    onOwned: (anchor, epoch, untilMs) => node.serve(anchor, epoch, untilMs),
    onDeadline: (anchor, untilMs) => node.deadline(anchor, untilMs),
    onLost: (anchor) => void node.forsake(anchor),
  });
  node.useOwnership(ownership);
  relays.push({
    async stop() {
      ownership.stop();
      await node.close();
    },
  });
  await ownership.start(['a1']);
  return { node, ownership, installed };
}

/** Asked again, as by a signalling node, while the anchor is taken up under its next epoch. */
async function acknowledged(node: RelayNode, device: string, requestId = hex()): Promise<Lease> {
  const { lease, session } = await registry.grant(request(device, requestId));
  let installed: Lease | undefined;
  await until(async () => {
    const answer = await node.plane.install({ lease, session }).catch((error: MooringError) => error);
    if (answer instanceof Error && !answer.temporary) throw answer;
    if (!(answer instanceof Error)) installed = answer.lease;
    return installed !== undefined;
  });
  return installed!;
}

const hex = () => randomBytes(16).toString('hex');
const request = (device: string, requestId: string) => ({
  ...{ pool: 'p', device: { tenant: 't', id: device }, thumbprint: '0'.repeat(43) },
  ...({ kind: 'rsipsec', leaseMs: 600_000, requestId, quota: 4 } as const),
});
const resources = ({ address, ports, spis, ikeSpis }: Lease) => ({ address, ports, spis, ikeSpis });

async function heldInRegistry(): Promise<Map<string, Lease>> {
  const { leases } = await registry.snapshot('a1');
  return new Map(leases.map((lease) => [lease.id, lease]));
}

/** Grants are refused until the owner has said what it holds. */
async function settled(): Promise<void> {
  await until(async () => {
    const owner = await registry.owner('a1').catch(() => null);
    return (
      owner !== null && owner.remainingMs > 0 && (await registry.snapshot('a1').catch(() => null)) !== null
    );
  });
}

describe('a registry that was emptied', () => {
  test('gets every acknowledged lease back from its owner’s memory, with its resources, above all former epochs', async () => {
    const { node, ownership, installed } = await relay();
    const leases = [];
    for (const device of ['ann', 'ben', 'cat']) leases.push(await acknowledged(node, device));
    const { epoch } = ownership.owned().get('a1')!;
    await server.client().flushall();
    await settled();
    const found = await heldInRegistry();
    for (const lease of leases) {
      expect(found.get(lease.id)).toMatchObject({
        ...resources(lease),
        session: lease.session,
        state: 'active',
      });
    }
    await until(() => ownership.owned().get('a1')!.epoch > epoch && installed.size === 3);
    // What was never seen is not given either: nothing overlaps.
    const next = await acknowledged(node, 'dan');
    const all = [...leases, next].map((lease) => JSON.stringify(resources(lease)));
    expect(new Set(all).size).toBe(all.length);
    const spis = [...leases, next].map((lease) => `${lease.address} ${lease.spis!.first}`);
    expect(new Set(spis).size).toBe(spis.length);
  });

  test('never stops the owner’s forwarding meanwhile: nobody else may claim the anchor', async () => {
    const { node, ownership } = await relay();
    await acknowledged(node, 'ann');
    await server.client().flushall();
    let lapsed = 0;
    const looking = setInterval(() => {
      const one = ownership.owned().get('a1');
      if (one === undefined || one.untilMs < monotonicMs()) lapsed += 1;
    }, 10);
    await settled();
    clearInterval(looking);
    expect(ownership.owned().has('a1')).toBe(true);
    expect(lapsed).toBe(0);
  });

  test('and whose owner was killed at the same time gets them back from its journal', async () => {
    const first = await relay();
    const lease = await acknowledged(first.node, 'ann');
    const { epoch } = first.ownership.owned().get('a1')!;
    await relays.pop()!.stop();
    await server.client().flushall();
    await declare();
    const second = await relay();
    await settled();
    const found = await heldInRegistry();
    expect(found.get(lease.id)).toMatchObject({ ...resources(lease), session: lease.session });
    await until(() => second.installed.has(lease.id));
    expect(second.ownership.owned().get('a1')!.epoch).toBeGreaterThan(epoch);
  });

  test('and whose owner’s journal is gone too starts anew', async () => {
    const first = await relay();
    const lease = await acknowledged(first.node, 'ann');
    await relays.pop()!.stop();
    rmSync(join(folder, 'journal'), { recursive: true, force: true });
    await server.client().flushall();
    await declare();
    const { node } = await relay();
    expect((await heldInRegistry()).has(lease.id)).toBe(false);
    await acknowledged(node, 'ann');
  });

  test('counts leases that came back against their devices', async () => {
    const { node } = await relay();
    const lease = await acknowledged(node, 'ann');
    await server.client().flushall();
    await settled();
    // By the device's own word which lease it has: the index is repaired from the anchor.
    const extended = await registry.extend({
      ...{ leaseId: lease.id, device: lease.device, leaseMs: 700_000, requestId: hex() },
    });
    expect(extended.lease.id).toBe(lease.id);
  });
});

test('an owner believes its own memory, not a registry that knows less', async () => {
  const { node, ownership, installed } = await relay();
  const lease = await acknowledged(node, 'ann');
  // From here on it hears of everything, and says nothing.
  ownership.stop();
  await server.client().flushall();
  await declare();
  await expect(
    node.plane.apply({ anchor: 'a1', event: { type: 'owned', fence: '1-1', relay: 'r1' } }),
  ).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED', temporary: true });
  expect(installed.has(lease.id)).toBe(true);
  expect(node.held('a1').leases.map(({ id }) => id)).toEqual([lease.id]);
});

test('a relay that has read nothing of an anchor has nothing to report of it, and outdoes nobody', async () => {
  const { node } = await relay();
  expect(() => node.held('a2')).toThrow(
    expect.objectContaining({ code: 'ERR_MOORING_QUARANTINED', temporary: true }),
  );
});

test('leases that came back from a prefix that is not declared any more are drained, and nobody gets their addresses', async () => {
  await declare(['192.0.2.8/31', '192.0.2.16/30']);
  const { node } = await relay();
  const leases: Lease[] = [];
  while (!leases.some(({ address }) => address.startsWith('192.0.2.1')))
    leases.push(await acknowledged(node, `cat${leases.length}`));
  await server.client().flushall();
  // A file of before the growth is first.
  await declare();
  await settled();
  await registry.enlist('a1');
  const found = await heldInRegistry();
  for (const lease of leases) expect(found.get(lease.id)).toMatchObject(resources(lease));
  const { prefixes, draining } = (await registry.anchor('a1'))!;
  expect([...prefixes, ...draining.map(({ prefix }) => prefix)]).toEqual(['192.0.2.8/31', '192.0.2.16/30']);
  const thief = { id: 'a2', home: 'r1', endpoints: ['198.51.100.2'], prefixes: ['192.0.2.17/32'] };
  await expect(
    registry.declarePool(parsePool({ name: 'q', sharing: 'whole', anchors: [thief] }), 'operator'),
  ).rejects.toMatchObject({ code: 'ERR_MOORING_OVERLAP' });
  const again = await registry.plan('a1');
  await registry.enlist('a1');
  expect(await registry.plan('a1')).toBe(again);
});

describe('a registry that was put back to an old backup', () => {
  test('gets later leases back, and those that ended since end again', async () => {
    const { node, ownership } = await relay();
    const early = await acknowledged(node, 'ann');
    const kept = await acknowledged(node, 'ben');
    const restore = await backup();
    const late = await acknowledged(node, 'cat');
    await registry.free({ leaseId: early.id, device: early.device, requestId: hex() });
    await node.plane.apply({ anchor: 'a1', event: { type: 'owned', fence: '1-1', relay: 'r1' } });
    const { lastId } = await registry.snapshot('a1');
    // The owner claims anew after the backup: the data is behind by an epoch.
    ownership.stop();
    await node.close();
    const again = await relay();
    await restore();
    await settledAbove(again.ownership.owned().get('a1')!.epoch);
    const found = await heldInRegistry();
    expect([...found.keys()].sort()).toEqual([kept.id, late.id].sort());
    const counter = (fence: string) => Number(fence.slice(fence.indexOf('-') + 1));
    expect(counter((await registry.snapshot('a1')).lastId)).toBeGreaterThan(counter(lastId));
  });

  test('gets leases back on what was added to their anchor since', async () => {
    const { node, ownership } = await relay();
    const early = await acknowledged(node, 'ann');
    const restore = await backup();
    await declare(['192.0.2.8/31', '192.0.2.16/30']);
    const late: Lease[] = [];
    while (!late.some(({ address }) => address.startsWith('192.0.2.1')))
      late.push(await acknowledged(node, `cat${late.length}`));
    await node.plane.apply({ anchor: 'a1', event: { type: 'owned', fence: '1-1', relay: 'r1' } });
    ownership.stop();
    await node.close();
    const again = await relay();
    await restore();
    await settledAbove(again.ownership.owned().get('a1')!.epoch);
    const found = await heldInRegistry();
    for (const lease of [early, ...late]) expect(found.get(lease.id)).toMatchObject(resources(lease));
  });
});

/** What the registry holds now; returns how to put it back at one moment, as a server that starts with another file. */
async function backup(): Promise<() => Promise<void>> {
  const redis = server.client();
  const keys = await redis.keys('*');
  const values = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  return async () => {
    const replaced = redis.multi().flushall();
    for (const [at, key] of keys.entries()) replaced.restore(key, 0, values[at] as Buffer);
    await replaced.exec();
  };
}

async function settledAbove(epoch: bigint): Promise<void> {
  await until(async () => {
    const owner = await registry.owner('a1').catch(() => null);
    return (
      owner !== null && owner.epoch > epoch && (await registry.snapshot('a1').catch(() => null)) !== null
    );
  });
}
