import fc from 'fast-check';
import { assembleCommands } from '../../infra/build/lua.ts';
import { parsePool } from '../../src/config/pools.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import {
  type CommandName,
  type Commands,
  type Connection,
  commandConnection,
} from '../../src/registry/connection.ts';
import { indexName, serversKey, tenantKeys } from '../../src/registry/keys.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { createStore } from '../../src/registry/store.ts';
import { type RealRedis, silent } from '../integration/registry/real-redis.ts';

/** Addresses of an anchor; two more than a tenant is ever allowed on all of them. */
const ADDRESSES = 4;
const ANCHORS = 3;
const MOST = 10;
const TENANTS = ['acme', 'globex'] as const;
const LEASE_MS = 3_600_000;
/** What crosses between a tenant's slot and the anchors. */
const DEALING: ReadonlySet<CommandName> = new Set(['deal', 'take_back', 'call_in', 'allow']);

/** Scripts with a clock that the test turns, and tenants and anchors on servers of their own. */
export function tenantCommands(mutate?: (command: string, lua: string) => string): Commands {
  const replace = {
    now: "local now = tonumber(redis.call('GET', 'test:now'))",
    server:
      "local server = redis.call('GET', string.find(KEYS[1], '{t:', 1, true) and 'test:tenants' or 'test:anchors')",
  };
  return assembleCommands(mutate === undefined ? { replace } : { replace, mutate })
    .commands as unknown as Commands;
}

export type TenantOp =
  /** So many devices ask at once, over two nodes; `twice`: each of them twice; `installed`: what is granted by now is activated. */
  | { op: 'grants'; tenant: number; count: number; anchor: number | null; twice: boolean; installed: boolean }
  | { op: 'end'; lease: number; how: 'free' | 'withdraw' | 'revoke' }
  /** Time passes, and what has run out is swept. */
  | { op: 'pass'; ms: number }
  | { op: 'limit'; most: number | null }
  /** Another start of an anchor's relay. */
  | { op: 'claim'; anchor: number }
  /** What a tenant's slot was `back` operations ago is all that its next primary has. */
  | { op: 'fail over'; tenant: number; back: number }
  /** What was said between a tenant's slot and an anchor arrives again. */
  | { op: 'late'; which: number };

const tenant = fc.nat(TENANTS.length - 1);
const anchor = fc.nat(ANCHORS - 1);
const anyOp: fc.Arbitrary<TenantOp> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('grants' as const),
      tenant,
      count: fc.integer({ min: 1, max: 5 }),
      anchor: fc.option(anchor, { nil: null }),
      twice: fc.boolean(),
      installed: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('end' as const),
      lease: fc.nat(11),
      how: fc.constantFrom('free' as const, 'withdraw' as const, 'revoke' as const),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('late' as const), which: fc.nat(1000) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      op: fc.constant('pass' as const),
      ms: fc.constantFrom(50, 300, 20_000, LEASE_MS),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('limit' as const),
      most: fc.option(fc.integer({ min: 1, max: MOST }), { nil: null, freq: 5 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('claim' as const), anchor }) },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constant('fail over' as const),
      tenant,
      back: fc.integer({ min: 1, max: 6 }),
    }),
  },
);

export const tenantHistory = fc.record({
  limit: fc.integer({ min: 1, max: MOST }),
  ops: fc.array(anyOp, { minLength: 1, maxLength: 14, size: 'max' }),
});

/** Plays histories of grants and ends, and throws where a tenant got more than it may or less than it could. */
export function tenantRuns(server: RealRedis, commands: Commands) {
  const redis = server.client();
  const said: {
    command: CommandName;
    keys: readonly string[];
    args: readonly (string | number | bigint)[];
  }[] = [];
  const connection = commandConnection(server.client(), commands);
  const noting: Connection = {
    ...connection,
    run(command, keys, args) {
      if (DEALING.has(command)) said.push({ command, keys, args });
      return connection.run(command, keys, args);
    },
  };
  const nodes = [1, 2].map(() => createStore(noting, silent, async () => undefined)) as [Registry, Registry];
  const [registry] = nodes;
  let nowMs = 1e9;
  let servers = 0;
  let devices = 0;

  return async function run({
    limit: first,
    ops,
  }: {
    limit: number;
    ops: readonly TenantOp[];
  }): Promise<void> {
    await redis.flushall();
    said.length = 0;
    const advance = async (ms: number) => {
      nowMs += ms;
      await redis.set('test:now', nowMs);
    };
    await advance(1);
    await redis.mset('test:tenants', `t${++servers}`, 'test:anchors', 'anchors');
    await redis.hset(serversKey(), indexName('anchors'), 0);
    let limit: number | null = first;
    const declare = () =>
      registry.declarePool(
        parsePool({
          ...{ name: 'p', sharing: 'whole', leaseMs: { default: LEASE_MS, max: LEASE_MS } },
          ...(limit === null ? {} : { maxLeasesPerTenant: limit }),
          anchors: Array.from({ length: ANCHORS }, (_, at) => ({
            ...{ id: `a${at}`, home: 'r1', endpoints: [`203.0.113.${at}`] },
            prefixes: [`192.0.2.${at * ADDRESSES}/30`],
          })),
        }),
        'operator',
      );
    await declare();
    let boots = 0;
    const claim = (at: number) => registry.claim(`a${at}`, 'r1', `${++boots}`.padStart(16, '0'), 1e9);
    for (let at = 0; at < ANCHORS; at += 1) await claim(at);

    const snapshots = () =>
      Promise.all(Array.from({ length: ANCHORS }, (_, at) => registry.snapshot(`a${at}`)));
    const leases = async (): Promise<Lease[]> => (await snapshots()).flatMap(({ leases: held }) => held);
    const heldBy = async (of: string) => (await leases()).filter(({ device }) => device.tenant === of).length;
    const grant = (of: string, id: string, node: Registry, at: number | null): Promise<boolean> =>
      node
        .grant({
          ...{ pool: 'p', device: { tenant: of, id }, thumbprint: 'k'.repeat(43), kind: 'rsa-ip' },
          ...{ leaseMs: LEASE_MS, requestId: id.padStart(32, '0'), quota: 9 },
          ...(at === null ? {} : { anchor: `a${at}` }),
        })
        .then(
          () => true,
          (error) => {
            if (error instanceof MooringError) return false;
            throw error;
          },
        );
    const install = async () => {
      for (const { id, anchor: on, state } of await leases()) {
        const owner = await registry.owner(on);
        if (state === 'pending') await registry.activate(on, id, owner!.epoch).catch(() => undefined);
      }
    };
    const sweep = async () => {
      for (let at = 0; at < ANCHORS; at += 1) {
        const owner = await registry.owner(`a${at}`);
        await registry.sweep(`a${at}`, owner!.epoch, 100);
      }
    };
    /** What each tenant's slot was after each operation. */
    const past: Map<string, Buffer | null>[] = [];
    const remember = async () => {
      const dumps = new Map<string, Buffer | null>();
      for (const key of TENANTS.flatMap((of) => tenantKeys(of, 'p')))
        dumps.set(key, await redis.dumpBuffer(key));
      past.push(dumps);
    };

    for (const op of ops) {
      await remember();
      const before = await Promise.all(TENANTS.map(heldBy));
      switch (op.op) {
        case 'grants': {
          const of = TENANTS[op.tenant]!;
          const ids = Array.from({ length: op.count }, () => `d${++devices}`);
          const asks = op.twice ? [...ids, ...ids] : ids;
          await Promise.all(asks.map((id, at) => grant(of, id, nodes[at % 2]!, op.anchor)));
          const all = await leases();
          for (const id of ids) {
            const answers = all.filter(({ device }) => device.id === id).length;
            if (answers > 1) throw new Error(`one wish of ${id} holds ${answers} leases`);
          }
          if (op.installed) await install();
          break;
        }
        case 'end': {
          const lease = (await leases())[op.lease];
          if (lease === undefined) break;
          const { id, device, state } = lease;
          if (op.how === 'withdraw' && state === 'pending') await registry.withdraw(id);
          else if (op.how === 'revoke' || lease.remainingMs <= 0)
            await registry.revoke({ leaseId: id }).catch(() => undefined);
          else await registry.free({ leaseId: id, device, requestId: id.slice(-22) });
          break;
        }
        case 'pass':
          await advance(op.ms);
          await sweep();
          break;
        case 'limit':
          limit = op.most;
          await declare();
          break;
        case 'claim':
          await claim(op.anchor);
          break;
        case 'fail over': {
          const dumps = past.at(-op.back) ?? new Map<string, null>();
          for (const key of tenantKeys(TENANTS[op.tenant]!, 'p')) {
            const dump = dumps.get(key);
            await redis.del(key);
            if (dump) await redis.restore(key, 0, dump);
          }
          await redis.set('test:tenants', `t${++servers}`);
          break;
        }
        case 'late': {
          const message = said[said.length - 1 - (op.which % Math.max(1, said.length))];
          if (message !== undefined) await connection.run(message.command, message.keys, message.args);
          break;
        }
      }
      await advance(1);
      for (const [at, of] of TENANTS.entries()) {
        const held = await heldBy(of);
        if (limit !== null && held > Math.max(limit, before[at]!)) {
          throw new Error(`${of} holds ${held} leases, of ${limit}`);
        }
      }
    }

    // Nobody is kept from what is free and within the limit: it is his by the second time that he asks.
    await advance(130_000);
    await sweep();
    for (const of of TENANTS) {
      for (let isDone = false; !isDone; ) {
        const held = await heldBy(of);
        const free = (await registry.pool('p'))!.anchors.some((one) => one.free > 0);
        const mayHave = free && held < (limit ?? Number.POSITIVE_INFINITY);
        const id = `d${++devices}`;
        let got = await grant(of, id, registry, null);
        if (!got) {
          await advance(1_000);
          got = await grant(of, id, registry, null);
        }
        if (got !== mayHave) {
          throw new Error(`${of} with ${held} leases of ${limit} ${got ? 'got' : 'was refused'} another`);
        }
        await install();
        isDone = !got;
      }
    }
  };
}
