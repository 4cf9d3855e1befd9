import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { QUARANTINE_MS } from '../../../src/registry/hold.ts';
import type { AnchorDeclaration, GrantRequest, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

const LEASE_MS = 60_000;
const COOLING_MS = 120_000;
const BOOT = 'b'.repeat(16);
const COMMANDS = commandsWithTestClock();

let server: RealRedis;
let registry: Registry;
let epoch: bigint;
let nowMs = 1_700_000_000_000;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  await passes(0);
  const connection = commandConnection(server.client(), COMMANDS, QUARANTINE_MS);
  registry = createStore(connection, silent, async () => undefined);
});

async function passes(ms: number): Promise<void> {
  nowMs += ms;
  await server.client().set('test:now', nowMs);
}

/** Seven shares of 8,192 ports on the one address, from 8192 on. */
const declare = (more: Partial<AnchorDeclaration> = {}) =>
  registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'shared', home: 'r1', portBlock: 8_192, maxPortBlock: 32_768 },
    ...{ spiBlock: 16, coolingMs: COOLING_MS, prefixes: ['192.0.2.0/32'], endpoints: ['203.0.113.1'] },
    ...more,
  });

async function serve(more: Partial<AnchorDeclaration> = {}): Promise<void> {
  await declare(more);
  ({ epoch } = await registry.claim('a1', 'r1', BOOT, 1e9));
}

const sessions = new Map<string, Session>();

async function grant(id: string, more: Partial<GrantRequest> = {}): Promise<Lease> {
  const { lease, session } = await registry.grant({
    ...{ pool: 'p', device: { tenant: 't', id }, thumbprint: 'k'.repeat(43), kind: 'rsipsec' },
    ...{ leaseMs: LEASE_MS, requestId: randomBytes(16).toString('hex'), quota: 9 },
    ...more,
  });
  sessions.set(session.id, session);
  return registry.activate('a1', lease.id, epoch);
}

async function extend({ id, device }: Lease, ports?: number, requestId?: string): Promise<Lease> {
  const { lease } = await registry.extend({
    ...{ leaseId: id, device, leaseMs: LEASE_MS, ports },
    requestId: requestId ?? randomBytes(16).toString('hex'),
  });
  return lease;
}

const free = ({ id, device }: Lease) =>
  registry.free({ leaseId: id, device, requestId: randomBytes(16).toString('hex') });
const at = (port: number) => ({ local: { address: '192.0.2.0', port } });
const only = async () => (await registry.snapshot('a1')).leases;
const unavailable = { code: 'ERR_MOORING_PORTS_UNAVAILABLE', rsip: 309, temporary: false };
const inUse = { rsip: 311 };

describe('a port block', () => {
  beforeEach(() => serve());

  test('doubles in place, downwards too, and all else of its lease stays', async () => {
    const before = await grant('d', at(49_152));
    const twice = await extend(before, 16_384);
    expect(twice).toEqual({ ...before, fence: twice.fence, ports: { first: 49_152, count: 16_384 } });
    const four = await extend(before, 32_768);
    expect(four).toEqual({ ...before, fence: four.fence, ports: { first: 32_768, count: 32_768 } });
    expect(await only()).toEqual([four]);
  });

  test('is asked for by a number of ports: asking again, or for no more than it has, doubles nothing', async () => {
    const lease = await grant('d', at(16_384));
    const { ports } = await extend(lease, 10_000, 'f'.repeat(32));
    expect(ports).toEqual({ first: 16_384, count: 16_384 });
    await passes(10_000);
    const again = await extend(lease, 10_000, 'f'.repeat(32));
    expect(again).toMatchObject({ ports, remainingMs: LEASE_MS - 10_000 });
    for (const wish of [10_000, 1, undefined]) {
      expect(await extend(lease, wish)).toMatchObject({ ports, remainingMs: LEASE_MS });
    }
  });

  test('R26: is refused as a whole when a part of it is leased, and the lease is as it was', async () => {
    const lease = await grant('d', at(32_768));
    await grant('e', at(57_344));
    await passes(10_000);
    const before = await only();
    await expect(extend(lease, 32_768)).rejects.toMatchObject(unavailable);
    expect(await only()).toEqual(before);
    expect((await extend(lease, 16_384)).ports).toEqual({ first: 32_768, count: 16_384 });
  });

  test('does not reach over the ports that are never leased, nor beyond what the pool allows', async () => {
    await expect(extend(await grant('d', at(8_192)), 16_384)).rejects.toMatchObject(unavailable);
    const lease = await grant('e', at(32_768));
    await expect(extend(lease, 65_536)).rejects.toMatchObject(unavailable);
    await declare({ maxPortBlock: 8_192 });
    await expect(extend(lease, 16_384)).rejects.toMatchObject(unavailable);
    await declare();
    expect((await extend(lease, 16_384)).ports!.count).toBe(16_384);
  });

  test('takes what rests after its own device at once, and after another when that is cool', async () => {
    const lease = await grant('d', at(16_384));
    await free(await grant('d', at(24_576)));
    expect((await extend(lease, 16_384)).ports!.count).toBe(16_384);
    const other = await grant('e', { ...at(49_152), leaseMs: 2 * COOLING_MS });
    await free(await grant('f', at(57_344)));
    await passes(COOLING_MS - 1);
    await expect(extend(other, 16_384)).rejects.toMatchObject(unavailable);
    await passes(1);
    expect((await extend(other, 16_384)).ports).toEqual({ first: 49_152, count: 16_384 });
  });

  test('is nobody else’s while it is held, and rests as a whole for its device when its lease ends', async () => {
    const lease = await extend(await grant('d', at(32_768)), 32_768);
    for (const port of [32_768, 45_000, 65_535])
      await expect(grant('e', at(port))).rejects.toMatchObject(inUse);
    const others = await Promise.all(['1', '2', '3'].map((id) => grant(id)));
    expect(others.map(({ ports }) => ports!.first).sort()).toEqual([16_384, 24_576, 8_192]);
    await expect(grant('e')).rejects.toMatchObject({ rsip: 309 });
    await free(lease);
    await expect(grant('e')).rejects.toMatchObject({ rsip: 309 });
    const again = await extend(await grant('d', at(65_535)), 32_768);
    expect(again.ports).toEqual(lease.ports);
    await passes(LEASE_MS);
    expect((await registry.sweep('a1', epoch, 64)).ended).toHaveLength(4);
    await passes(COOLING_MS);
    const all = await Promise.all(Array.from({ length: 7 }, (_, n) => grant(`s${n}`)));
    expect(new Set(all.map(({ ports }) => ports!.first)).size).toBe(7);
  });

  test('keeps its SPIs for nobody else, whichever of its ports are asked for', async () => {
    const lease = await extend(await grant('d', at(49_152)), 32_768);
    await expect(grant('e', { local: { spi: lease.spis!.first } })).rejects.toMatchObject({ rsip: 403 });
    expect((await extend(lease)).spis).toEqual(lease.spis);
  });
});

test('blocks are granted first where they may double, then beside each other', async () => {
  await serve();
  const firsts = [];
  for (let n = 0; n < 7; n += 1) firsts.push((await grant(`d${n}`)).ports!.first);
  expect(firsts.slice(0, 2), 'the blocks below 8192 are never leased').toEqual([8_192, 32_768]);
  expect(new Set(firsts).size).toBe(7);
});

test('a block does not double on an address that is drained', async () => {
  await serve({ prefixes: ['192.0.2.0/31'] });
  const lease = await grant('d', at(16_384));
  await declare({ prefixes: ['192.0.2.1/32'] });
  await expect(extend(lease, 16_384)).rejects.toMatchObject(unavailable);
});

test('a lease of a whole address has all ports', async () => {
  await serve({ sharing: 'whole' });
  await expect(extend(await grant('d', { kind: 'rsa-ip' }), 16_384)).rejects.toMatchObject(unavailable);
});

test('lease times fall with the shares that are left, however few leases have them', async () => {
  await serve({ longestLeaseMs: 64_000, shortestLeaseMs: 8_000 });
  const lease = await grant('d', at(32_768));
  expect((await extend(lease)).remainingMs).toBe(LEASE_MS);
  await extend(lease, 32_768);
  const left = 1 - 4 / 7;
  expect((await extend(lease)).remainingMs).toBe(Math.floor(8_000 + 56_000 * 2 * left));
});

test('a registry that was emptied gets a doubled block back as it was', async () => {
  await serve();
  await grant('first', at(8_192));
  const lease = await extend(await grant('d', at(49_152)), 32_768);
  const plan = await registry.plan('a1');
  await server.client().flushall();
  await passes(0);
  await declare();
  await registry.claim('a1', 'r1', BOOT, 1e9, false, epoch).catch(() => undefined);
  const counter = BigInt(lease.fence.slice(lease.fence.indexOf('-') + 1));
  const held = {
    ...{ relay: 'r1', boot: BOOT, epoch, counter, hasStandby: false, plan },
    ...{ leases: [lease], sessions: [...sessions.values()].filter(({ id }) => id === lease.session) },
  };
  await expect(registry.report('a1', held, 1e9)).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED' });
  await passes(QUARANTINE_MS);
  ({ epoch } = await registry.report('a1', held, 1e9));
  expect(await only()).toEqual([expect.objectContaining({ id: lease.id, ports: lease.ports })]);
  for (const port of [32_768, 49_152]) await expect(grant('e', at(port))).rejects.toMatchObject(inUse);
  await free(lease);
  expect((await grant('d', at(65_535))).ports).toEqual({ first: 57_344, count: 8_192 });
});
