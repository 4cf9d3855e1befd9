import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { cluster, type RedisShape, until } from '../../../infra/lab/redis-shapes.ts';
import { parsePool } from '../../../src/config/pools.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { type Connection, commandConnection } from '../../../src/registry/connection.ts';
import { anchorKeys, indexName, serversKey, tenantKeys } from '../../../src/registry/keys.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { GrantRequest, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { tenantCommands } from '../../oracle/tenant-run.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

const BOOT = '00'.repeat(8);
const LEASE_MS = 600_000;
const ANCHORS = ['a0', 'a1', 'a2'];

const pool = (maxLeasesPerTenant: number | null, anchors: readonly string[] = ANCHORS) =>
  parsePool({
    ...{ name: 'p', sharing: 'whole', leaseMs: { default: LEASE_MS, max: LEASE_MS } },
    ...(maxLeasesPerTenant === null ? {} : { maxLeasesPerTenant }),
    anchors: anchors.map((id, at) => ({
      ...{ id, home: 'r1', endpoints: [`203.0.113.${at}`], prefixes: [`192.0.2.${at * 16}/28`] },
    })),
  });
let devices = 0;
const wish = (tenant: string, more: Partial<GrantRequest> = {}): GrantRequest => {
  devices += 1;
  return {
    ...{ pool: 'p', device: { tenant, id: `d${devices}` }, thumbprint: 'k'.repeat(43), kind: 'rsa-ip' },
    ...{ leaseMs: LEASE_MS, requestId: hex128(), quota: 9, ...more },
  };
};
const heldBy = async (registry: Registry, tenant: string, anchors: readonly string[] = ANCHORS) => {
  const all = await Promise.all(anchors.map((id) => registry.snapshot(id)));
  return all.flatMap(({ leases }) => leases.filter(({ device }) => device.tenant === tenant));
};
const free = (registry: Registry, { id, device }: Lease) =>
  registry.free({ leaseId: id, device, requestId: hex128() });
const outcome = (promise: Promise<unknown>) =>
  promise.then(
    () => 'granted',
    (error: MooringError) => error.code,
  );

describe('a pool that limits its tenants', () => {
  let server: RealRedis;
  let connection: Connection;
  let registry: Registry;
  let nowMs = 1e9;
  let asked: { command: string; args: readonly unknown[]; again: () => Promise<unknown> }[];
  const pass = async (ms: number) => {
    nowMs += ms;
    await server.client().set('test:now', nowMs);
  };
  beforeAll(async () => {
    server = await realRedis();
    connection = commandConnection(server.client(), tenantCommands(), 1_000);
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    const redis = server.client();
    await redis.flushall();
    await pass(1);
    await redis.mset('test:tenants', 't1', 'test:anchors', 's1');
    await redis.hset(serversKey(), indexName('s1'), 0);
    asked = [];
    const noting: Connection = {
      ...connection,
      run(command, keys, args) {
        asked.push({ command, args, again: () => connection.run(command, keys, args) });
        return connection.run(command, keys, args);
      },
    };
    registry = createStore(noting, silent, async () => undefined);
  });
  const declare = async (limit: number | null) => {
    await registry.declarePool(pool(limit), 'operator');
    for (const id of ANCHORS) await registry.claim(id, 'r1', BOOT, 1e9);
  };
  const grant = (tenant: string, anchor?: string) =>
    registry.grant(wish(tenant, anchor === undefined ? {} : { anchor }));
  const fill = async (tenant: string, anchor?: string) => {
    for (let count = 0, refused = 0; ; ) {
      if ((await outcome(grant(tenant, anchor))) === 'granted') count += 1;
      else if (++refused === 2) return count;
      // Whom others were dealt to was asked just now.
      else await pass(300);
    }
  };

  test('refuses a tenant that holds as many as it may, and says which, where, how many and what to do', async () => {
    await declare(5);
    expect(await fill('acme')).toBe(5);
    const error: MooringError = await grant('acme').catch((cause) => cause);
    expect(error).toBeInstanceOf(MooringError);
    expect(error).toMatchObject({
      ...{ code: 'ERR_MOORING_TENANT_QUOTA', rsip: 304, temporary: false },
      data: { tenant: 'acme', pool: 'p', limit: 5 },
    });
    expect(error.message).toBe(
      'pool p: tenant acme holds as many leases of the pool as it may (5); free one, or have the operator raise maxLeasesPerTenant',
    );
    expect(await outcome(grant('globex'))).toBe('granted');
  });

  test('grants again what was given back, by whatever way and on whichever anchor', async () => {
    await declare(4);
    for (const end of [
      (lease: Lease) => free(registry, lease),
      ({ id }: Lease) => registry.withdraw(id),
      ({ id }: Lease) => registry.revoke({ leaseId: id }),
      async ({ anchor }: Lease) => {
        await pass(LEASE_MS);
        await registry.sweep(anchor, (await registry.owner(anchor))!.epoch, 1);
      },
    ]) {
      await fill('acme');
      const [lease] = await heldBy(registry, 'acme');
      await end(lease!);
      await pass(300);
      const other = ANCHORS.find((id) => id !== lease!.anchor)!;
      expect(await outcome(grant('acme', other))).toBe('granted');
      expect(await outcome(grant('acme'))).toBe('ERR_MOORING_TENANT_QUOTA');
    }
  });

  test('counts a request once, however often it is asked, and one that it refused anew', async () => {
    await declare(2);
    const request = wish('acme');
    const ids = await Promise.all([1, 2, 3].map(async () => (await registry.grant(request)).lease.id));
    expect(new Set(ids).size).toBe(1);
    await grant('acme');
    const refused = wish('acme');
    expect(await outcome(registry.grant(refused))).toBe('ERR_MOORING_TENANT_QUOTA');
    await free(registry, (await heldBy(registry, 'acme'))[0]!);
    await pass(300);
    expect(await outcome(registry.grant(refused))).toBe('granted');
    // A copy of the grant that was refused arrives only now.
    const late = asked.find(({ command, args }) => command === 'grant' && args[3] === refused.device.id)!;
    expect(await late.again()).not.toContain(refused.device.id);
    expect(await heldBy(registry, 'acme')).toHaveLength(2);
  });

  test('is limited, raised, lowered and freed of its limit while it leases', async () => {
    await declare(null);
    for (let at = 0; at < 6; at += 1) await grant('acme');
    // What is held counts from the first moment on.
    await declare(8);
    expect(await fill('acme')).toBe(2);
    await declare(10);
    expect(await fill('acme')).toBe(2);
    await declare(3);
    expect(await heldBy(registry, 'acme')).toHaveLength(10);
    for (const lease of (await heldBy(registry, 'acme')).slice(0, 7)) {
      expect(await outcome(grant('acme'))).toBe('ERR_MOORING_TENANT_QUOTA');
      await free(registry, lease);
    }
    await pass(300);
    expect(await outcome(grant('acme'))).toBe('ERR_MOORING_TENANT_QUOTA');
    await declare(null);
    expect(await outcome(grant('acme'))).toBe('granted');
  });

  test('counts what was leased between two limits', async () => {
    await declare(4);
    await grant('acme', 'a0');
    await declare(null);
    for (let at = 0; at < 3; at += 1) await grant('acme', 'a1');
    await declare(4);
    expect(await outcome(grant('acme', 'a0'))).toBe('ERR_MOORING_TENANT_QUOTA');
  });

  test('allows nothing by a word that arrives after it was taken back', async () => {
    await declare(10);
    await grant('acme', 'a0');
    const late = asked.findLast(({ command }) => command === 'allow')!;
    expect(await fill('acme', 'a1')).toBeLessThan(10);
    expect((await heldBy(registry, 'acme')).length).toBe(10);
    await late.again();
    expect(await outcome(grant('acme', 'a0'))).toBe('ERR_MOORING_TENANT_QUOTA');
  });

  test('asks nothing more of anybody where there is no limit', async () => {
    await declare(null);
    await grant('acme');
    asked.length = 0;
    await grant('acme');
    expect(asked.map(({ command }) => command)).toEqual(['intend', 'grant', 'confirm']);
    expect(await server.client().keys('*{t:*')).toEqual([]);
    expect(await server.client().keys('mooring*:tenants')).toEqual([]);
  });

  test('asks no tenant for most of its grants', async () => {
    await declare(40);
    for (let at = 0; at < 16; at += 1) await grant('acme', 'a0');
    expect(asked.filter(({ command }) => command === 'allow').length).toBeLessThan(5);
  });

  test('leaves nothing behind of a tenant that holds nothing', async () => {
    await declare(1);
    await grant('acme', 'a0');
    expect(await outcome(grant('acme', 'a1'))).toBe('ERR_MOORING_TENANT_QUOTA');
    await free(registry, (await heldBy(registry, 'acme'))[0]!);
    expect(await server.client().keys('mooring*:tenants')).toEqual([]);
    const expiries = await Promise.all(tenantKeys('acme', 'p').map((key) => server.client().pttl(key)));
    expect(Math.min(...expiries)).toBeGreaterThan(0);
  });

  describe('whose servers fail over', () => {
    const dump = (keys: readonly string[]) =>
      Promise.all(keys.map(async (key) => [key, await server.client().dumpBuffer(key)] as const));
    const restore = async (dumped: readonly (readonly [string, Buffer | null])[]) => {
      for (const [key, value] of dumped) {
        await server.client().del(key);
        if (value) await server.client().restore(key, 0, value);
      }
    };

    test('counts again what its tenant’s server may have lost', async () => {
      await declare(6);
      await grant('acme', 'a0');
      const former = await dump(tenantKeys('acme', 'p'));
      for (const anchor of ['a1', 'a2', 'a1', 'a2', 'a1']) await grant('acme', anchor);
      await restore(former);
      await server.client().set('test:tenants', 't2');
      expect(await fill('acme')).toBe(0);
    });

    test('allows nothing by what an anchor’s server has forgotten to have given back', async () => {
      await declare(10);
      await grant('acme', 'a0');
      const former = await dump(anchorKeys('a0'));
      await fill('acme', 'a1');
      const before = await registry.snapshot('a0');
      await restore(former);
      await server.client().set('test:anchors', 's2');
      await server.client().hset(serversKey(), indexName('s2'), 0);
      for (const id of ANCHORS) {
        const { leases, sessions, lastId } =
          id === 'a0' ? before : { leases: [], sessions: [], lastId: '1-0' };
        await settle(id, leases, sessions, lastId);
      }
      expect(await server.client().hgetall(anchorKeys('a0')[12]!)).toMatchObject({
        acme: expect.stringMatching(/^1 /),
      });
      expect(await outcome(grant('acme', 'a0'))).toBe('ERR_MOORING_TENANT_QUOTA');
    });

    /** Reports what is held until the anchor goes on. */
    async function settle(
      ...[id, leases, sessions, lastId]: [string, readonly Lease[], readonly Session[], string]
    ) {
      for (let tries = 0; ; tries += 1) {
        try {
          const report = {
            relay: 'r1',
            boot: BOOT,
            epoch: 1n,
            counter: 1n,
            hasStandby: false,
            leases,
            sessions,
          };
          await registry.report(id, { ...report, counter: BigInt(lastId.split('-')[1]!) }, 1e9);
          return;
        } catch (error) {
          if (!(error instanceof MooringError) || !error.temporary || tries > 20) throw error;
          await pass(500);
        }
      }
    }
  });
});

describe('on a cluster', () => {
  let shape: RedisShape;
  let nodes: [Registry, Registry];
  beforeAll(async () => {
    shape = await cluster();
    nodes = [
      await openRegistry({ url: shape.url, log: silent }),
      await openRegistry({ url: shape.url, log: silent }),
    ];
  });
  afterAll(async () => {
    for (const node of nodes) await node.close();
    await shape.stop();
  });

  test('many ask two nodes at once, and its server is lost: a tenant gets what it may, not one more', async () => {
    const [registry] = nodes;
    const tenant = 'acme';
    const its = await shape.primaryOf(tenantKeys(tenant, 'p')[0]!);
    const elsewhere = async (keyOf: (at: number) => string, count: number) => {
      const found: number[] = [];
      for (let at = 0; found.length < count; at += 1) {
        if ((await shape.primaryOf(keyOf(at))).name !== its.name) found.push(at);
      }
      return found;
    };
    const anchors = (await elsewhere((at) => anchorKeys(`a${at}`)[0]!, 3)).map((at) => `a${at}`);
    await registry.declarePool(pool(20, anchors), 'operator');
    for (const id of anchors) await registry.claim(id, 'r1', BOOT, 600_000);
    const request = (at: number) => nodes[at % 2]!.grant(wish(tenant));
    const answers = await Promise.all(Array.from({ length: 40 }, (_, at) => outcome(request(at))));
    expect(answers.filter((answer) => answer === 'granted')).toHaveLength(20);
    expect(await heldBy(registry, tenant, anchors)).toHaveLength(20);

    its.pause();
    await until(
      'another primary',
      async () => (await shape.primaryOf(tenantKeys(tenant, 'p')[0]!)).name !== its.name,
    );
    const [lease] = await heldBy(registry, tenant, anchors);
    await free(registry, lease!);
    const persist = async (node: Registry): Promise<string> => {
      const asking = wish(tenant);
      for (;;) {
        const error: MooringError | null = await node.grant(asking).then(
          () => null,
          (cause) => cause,
        );
        if (error === null) return 'granted';
        if (!error.temporary) return error.code;
      }
    };
    const again = await Promise.all([0, 1, 0, 1].map((at) => persist(nodes[at]!)));
    expect(again.filter((answer) => answer === 'granted')).toHaveLength(1);
    expect(await heldBy(registry, tenant, anchors)).toHaveLength(20);
    its.resume();
  });
});
