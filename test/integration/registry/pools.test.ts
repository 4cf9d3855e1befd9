import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePool } from '../../../src/config/pools.ts';
import type { PoolSettings } from '../../../src/config/schema.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { type Connection, commandConnection } from '../../../src/registry/connection.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { GrantRequest, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let connection: Connection;
let registry: Registry;
let nowMs = 1_000_000;
const turnClock = async (ms: number) => {
  nowMs += ms;
  await server.client().set('test:now', nowMs);
};
beforeAll(async () => {
  server = await realRedis();
  connection = commandConnection(server.client(), commandsWithTestClock());
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  await turnClock(0);
  registry = createStore(connection, silent, async () => undefined);
});

const LEASE_MS = 60_000;
const pool = (prefixes: readonly string[], more: object = {}, anchor: object = {}) =>
  parsePool({
    name: 'p',
    sharing: 'whole',
    leaseMs: { default: LEASE_MS, max: LEASE_MS },
    maxLeasesPerDevice: 100,
    anchors: [{ id: 'a1', home: 'r1', endpoints: ['203.0.113.1'], prefixes, ...anchor }],
    ...more,
  });
const declare = (...of: Parameters<typeof pool>) => registry.declarePool(pool(...of), 'operator');
const serve = async (...of: Parameters<typeof pool>) => {
  await declare(...of);
  return (await registry.claim('a1', 'r1', '00'.repeat(8), 1e9)).epoch;
};
const grant = async (id: string, more: Partial<GrantRequest> = {}): Promise<Lease> => {
  const { lease } = await registry.grant({
    pool: 'p',
    device: { tenant: 't', id },
    thumbprint: 'k'.repeat(43),
    kind: 'rsa-ip',
    leaseMs: LEASE_MS,
    requestId: hex128(),
    quota: 100,
    ...more,
  });
  return registry.activate('a1', lease.id, (await registry.owner('a1'))!.epoch);
};
const free = ({ id, device }: Lease) => registry.free({ leaseId: id, device, requestId: hex128() });
const view = async () => (await registry.pool('p'))?.anchors[0];
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: MooringError) => error.code,
  );

describe('a pool', () => {
  test('grows while it leases, and everything new is leased once', async () => {
    await serve(['192.0.2.0/30']);
    const before = [await grant('d0'), await grant('d1')];
    await declare(['192.0.2.0/29', '2001:db8::/127']);
    const after = await Promise.all(Array.from({ length: 8 }, (_, at) => grant(`e${at}`)));
    const addresses = [...before, ...after].map(({ address }) => address).sort();
    expect(new Set(addresses).size).toBe(10);
    expect(addresses.filter((address) => address.includes(':'))).toEqual(['2001:db8::', '2001:db8::1']);
    expect(await code(grant('f'))).toBe('ERR_MOORING_EXHAUSTED');
    expect(await view()).toMatchObject({ capacity: 10, held: 10, free: 0 });
  });

  test('shrinks by draining: nothing new there, leases run to their end, and the prefix goes once they are cool', async () => {
    const epoch = await serve(['192.0.2.0/31', '192.0.2.8/31']);
    const held = await Promise.all(['a', 'b', 'c', 'd'].map((id) => grant(id)));
    const leaving = held.filter(({ address }) => /\.[01]$/.test(address));
    await declare(['192.0.2.8/31']);
    expect((await view())?.draining).toEqual([{ prefix: '192.0.2.0/31', remainingMs: LEASE_MS }]);
    await free(leaving[0]!);
    // Its former holder does not get it back, either.
    expect(await code(grant(leaving[0]!.device.id))).toBe('ERR_MOORING_EXHAUSTED');
    await registry.finishDraining('a1');
    expect((await view())?.draining).toHaveLength(1);
    await turnClock(LEASE_MS);
    await registry.sweep('a1', epoch, 100);
    await registry.finishDraining('a1');
    expect((await view())?.draining).toHaveLength(1);
    await turnClock(120_001);
    await registry.finishDraining('a1');
    expect(await view()).toMatchObject({ draining: [], capacity: 2, prefixes: ['192.0.2.8/31'] });
    const again = await Promise.all(['x', 'y'].map((id) => grant(id)));
    expect(again.map(({ address }) => address).sort()).toEqual(['192.0.2.8', '192.0.2.9']);
    expect(await code(grant('z'))).toBe('ERR_MOORING_EXHAUSTED');
  });

  test('extends a lease on what is drained up to the longest lease time from then, and no longer', async () => {
    await serve(['192.0.2.0/32', '192.0.2.8/32']);
    const held = [await grant('a'), await grant('b')];
    const leaving = held.find(({ address }) => address === '192.0.2.0')!;
    await turnClock(1_000);
    await declare(['192.0.2.8/32']);
    await turnClock(20_000);
    for (const lease of held) {
      const { id, device } = lease;
      const { lease: extended } = await registry.extend({
        leaseId: id,
        device,
        leaseMs: 1e9,
        requestId: hex128(),
      });
      expect(extended.remainingMs).toBe(lease === leaving ? LEASE_MS - 20_000 : LEASE_MS);
    }
  });

  test('takes back what it was about to drain, with the leases on it', async () => {
    await serve(['192.0.2.0/30']);
    const lease = await grant('a');
    await declare(['192.0.2.8/32']);
    await declare(['192.0.2.0/30']);
    expect((await view())?.draining.map(({ prefix }) => prefix)).toEqual(['192.0.2.8/32']);
    const others = await Promise.all(['b', 'c', 'd'].map((id) => grant(id)));
    expect(new Set([lease, ...others].map(({ address }) => address)).size).toBe(4);
    expect(await code(grant('e'))).toBe('ERR_MOORING_EXHAUSTED');
  });

  test('retires: no grants, and it goes with its last lease', async () => {
    await serve(['192.0.2.0/31']);
    const lease = await grant('a');
    await registry.retirePool('p');
    expect(await code(grant('b'))).toBe('ERR_MOORING_UNKNOWN_POOL');
    await registry.finishDraining('a1');
    expect(await view()).toMatchObject({ retiring: true, held: 1, capacity: 0 });
    await free(lease);
    await turnClock(120_001);
    await registry.finishDraining('a1');
    expect(await registry.pools()).toEqual([]);
    expect(await registry.anchor('a1')).toBeNull();
    // Its addresses are free for another, and its epochs go on should it come back.
    const other = {
      anchors: [{ id: 'a2', home: 'r1', endpoints: ['203.0.113.1'], prefixes: ['192.0.2.0/31'] }],
    };
    await registry.declarePool(pool([], other), 'operator');
    await declare(['192.0.2.16/32'], { name: 'q' }, { endpoints: ['203.0.113.2'] });
    expect((await registry.claim('a1', 'r1', '11'.repeat(8), 1e9)).epoch).toBeGreaterThan(1n);
  });

  test('gets no address that another anchor has or drains, and says whose it is', async () => {
    await serve(['192.0.2.0/28']);
    const other = (prefix: string, endpoint: string) =>
      registry.declarePool(
        pool([], {
          name: 'q',
          anchors: [{ id: 'a2', home: 'r1', endpoints: [endpoint], prefixes: [prefix] }],
        }),
        'operator',
      );
    for (const [prefix, endpoint] of [
      ['192.0.2.8/31', '203.0.113.2'],
      ['192.0.0.0/16', '203.0.113.2'],
      ['198.51.100.0/30', '203.0.113.1'],
      ['198.51.100.0/30', '192.0.2.15'],
    ] as const) {
      const error = await other(prefix, endpoint).catch((thrown: MooringError) => thrown);
      expect(error).toMatchObject({ code: 'ERR_MOORING_OVERLAP', data: { other: 'a1' } });
    }
    await grant('a');
    await declare(['192.0.2.0/29']);
    expect(await code(other('192.0.2.8/29', '203.0.113.2'))).toBe('ERR_MOORING_OVERLAP');
    expect(await code(other('192.0.2.16/28', '203.0.113.2'))).toBe('ok');
  });

  test('keeps the shape of its leases while there are any', async () => {
    await serve(['192.0.2.0/31']);
    await grant('a');
    expect(await code(declare(['192.0.2.0/31'], { sharing: 'shared' }))).toBe('ERR_MOORING_ANCHOR_IN_USE');
    expect((await view())?.prefixes).toEqual(['192.0.2.0/31']);
  });

  test('is what an operator made of it until its file says something else', async () => {
    const file = pool(['192.0.2.0/30']);
    await registry.declareFile([file]);
    await declare(['192.0.2.0/29']);
    await registry.declareFile([file]);
    expect((await view())?.prefixes).toEqual(['192.0.2.0/29']);
    // Another node's file, which names the same in another order.
    const reversed = (value: object) => Object.fromEntries(Object.entries(value).reverse());
    await registry.declareFile([
      { ...reversed(file), anchors: file.anchors.map(reversed) } as unknown as PoolSettings,
    ]);
    expect((await view())?.prefixes).toEqual(['192.0.2.0/29']);
    await registry.declareFile([pool(['192.0.2.0/31'])]);
    expect((await view())?.prefixes).toEqual(['192.0.2.0/31']);
  });

  test('has the policy that an operator gave it, and what the file says when an operator says it too', async () => {
    const file = pool(['192.0.2.0/30']);
    const policy = async () => (await registry.pool('p'))?.policy.coolingMs;
    await registry.declareFile([file]);
    await declare(['192.0.2.0/29'], { coolingMs: 130_000 });
    await registry.declareFile([file]);
    expect(await policy()).toBe(130_000);
    await registry.declarePool(file, 'operator');
    expect(await policy()).toBe(120_000);
    expect((await view())?.prefixes).toEqual(['192.0.2.0/30']);
  });

  test('has anchors that follow its policy, whether they are named with it or not', async () => {
    const more = { id: 'a2', home: 'r1', endpoints: ['203.0.113.2'], prefixes: ['192.0.2.8/31'] };
    await declare(['192.0.2.0/31']);
    await declare([], { anchors: [more] });
    const leaseMs = { default: LEASE_MS, max: 2 * LEASE_MS };
    await declare(['192.0.2.0/31'], { leaseMs });
    const { anchors } = (await registry.roster())!;
    expect(anchors.map(({ longestLeaseMs }) => longestLeaseMs)).toEqual([2 * LEASE_MS, 2 * LEASE_MS]);
    expect((await registry.pool('p'))?.policy.leaseMs).toEqual(leaseMs);
  });

  test('tells those who look that it changed, and nothing otherwise', async () => {
    const { revision } = (await registry.roster())!;
    await declare(['192.0.2.0/30']);
    const changed = (await registry.roster(revision))!;
    expect(changed.anchors.map(({ id }) => id)).toEqual(['a1']);
    expect(await registry.roster(changed.revision)).toBeNull();
  });

  test('leases for a shorter time from half of it leased on, down to its least', async () => {
    await serve(['192.0.2.0/29'], { leaseMs: { default: LEASE_MS, max: LEASE_MS, min: 20_000 } });
    const leases: Lease[] = [];
    for (let at = 0; at < 8; at += 1) leases.push(await grant(`d${at}`));
    const times = leases.map(({ remainingMs }) => remainingMs);
    expect(times).toEqual([60_000, 60_000, 60_000, 60_000, 60_000, 50_000, 40_000, 30_000]);
    const [first, ...others] = leases;
    const extended = async () => {
      const asked = { leaseId: first!.id, device: first!.device, leaseMs: 1e9, requestId: hex128() };
      return (await registry.extend(asked)).lease.remainingMs;
    };
    expect(await extended()).toBe(20_000);
    for (const lease of others.slice(0, 4)) await free(lease);
    expect(await extended()).toBe(60_000);
  });
});

describe('of shares that are cool', () => {
  test('those whose SPIs still rest go to leases of ports alone, the others to leases of SPIs', async () => {
    const leaseMs = 24 * 3_600_000;
    const times = { default: leaseMs, max: leaseMs };
    const shape = { sharing: 'shared', portBlock: 16_384, spiBlock: 16, leaseMs: times };
    await serve(['192.0.2.0/32'], shape);
    const held = [];
    for (const id of ['a', 'b', 'c']) held.push(await grant(id, { kind: 'rsipsec', leaseMs }));
    await free(held[0]!);
    await turnClock(3_600_000);
    await free(held[1]!);
    await turnClock(120_001);
    expect((await grant('ports', { kind: 'rsap-ip', leaseMs })).ports).toEqual(held[1]!.ports);
    expect((await grant('spis', { kind: 'rsipsec', leaseMs })).spis).toEqual(held[0]!.spis);
  });
});
