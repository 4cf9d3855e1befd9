import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { assembleCommands } from '../../infra/build/lua.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import { type Commands, commandConnection } from '../../src/registry/connection.ts';
import type { Registry } from '../../src/registry/registry.ts';
import { createStore } from '../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from '../integration/registry/real-redis.ts';

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

const BOOT = '00'.repeat(8);
const ANCHORS = 3;

type Op =
  /** One wish of each device named, all at once, over two nodes. A device has one wish for ever. */
  | { op: 'grants'; devices: number[] }
  | { op: 'withdraw'; device: number }
  | { op: 'owner goes'; anchor: number }
  | { op: 'owner comes'; anchor: number };

const device = fc.nat(3);
const anchor = fc.nat(ANCHORS - 1);
const anyOp: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constant('grants' as const),
      devices: fc.array(device, { minLength: 1, maxLength: 8 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('withdraw' as const), device }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('owner goes' as const), anchor }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('owner comes' as const), anchor }) },
);

let runs = 0;

/** Throws when a wish was answered by two leases, or a device's index and its anchors differ. */
async function runHistory(nodes: readonly Registry[], ops: readonly Op[]): Promise<void> {
  runs += 1;
  const run = runs;
  const [registry] = nodes as [Registry];
  const name = (at: number) => `c${run}-${at}`;
  const owner = (id: string) => ({ tenant: `t${run}`, id });
  for (let at = 0; at < ANCHORS; at += 1) {
    await registry.declareAnchor({
      id: name(at),
      pool: `p${run}`,
      sharing: 'whole',
      prefixes: [`192.0.2.${at * 8}/31`],
      endpoints: [`198.51.100.${at}`],
      home: 'r',
    });
    await registry.claim(name(at), 'r', BOOT, 600_000);
  }
  const grant = (of: number, node: number) =>
    nodes[node % nodes.length]!.grant({
      pool: `p${run}`,
      device: owner(`d${of}`),
      thumbprint: 'k'.repeat(43),
      kind: 'rsa-ip',
      leaseMs: 600_000,
      requestId: `${of}`.padStart(32, '0'),
      quota: 3,
    }).then(
      ({ lease }) => lease.id,
      (error) => {
        if (error instanceof MooringError) return undefined;
        throw error;
      },
    );
  const everywhere = async () =>
    (await Promise.all([0, 1, 2].map((at) => registry.snapshot(name(at))))).flatMap(({ leases }) => leases);

  for (const op of ops) {
    switch (op.op) {
      case 'grants': {
        const answers = await Promise.all(op.devices.map((of, at) => grant(of, at)));
        const held = await everywhere();
        for (const [at, id] of answers.entries()) {
          if (id !== undefined && !held.some((lease) => lease.id === id)) {
            throw new Error(`d${op.devices[at]} was told ${id}, which nobody holds`);
          }
        }
        break;
      }
      case 'withdraw': {
        const lease = (await everywhere()).find((one) => one.device.id === `d${op.device}`);
        if (lease !== undefined) await registry.withdraw(lease.id);
        break;
      }
      case 'owner goes': {
        const now = await registry.owner(name(op.anchor));
        if (now !== null) await registry.release(name(op.anchor), 'r', now.epoch);
        break;
      }
      case 'owner comes':
        await registry.claim(name(op.anchor), 'r', BOOT, 600_000);
        break;
    }
    const held = await everywhere();
    for (const of of new Set(held.map((lease) => lease.device.id))) {
      const ids = held.filter((lease) => lease.device.id === of).map((lease) => lease.id);
      if (ids.length > 1) throw new Error(`one wish of ${of} holds ${ids}`);
      const indexed = (await registry.deviceLeases(owner(of))).map((lease) => lease.id);
      if (indexed.join() !== ids.join())
        throw new Error(`the index of ${of} says ${indexed}, anchors say ${ids}`);
    }
  }
}

const property = (commands?: Commands) => {
  const nodes = [1, 2].map(() =>
    createStore(commandConnection(server.client(), commands), silent, async () => undefined),
  );
  return fc.asyncProperty(fc.array(anyOp, { minLength: 1, maxLength: 12, size: 'max' }), (ops) =>
    runHistory(nodes, ops),
  );
};

test('a wish is never answered by two leases, whatever anchors come and go and however often it is asked', async () => {
  // A failure prints its seed and its shortest history.
  await fc.assert(property(), { numRuns: 60 });
});

test('the check finds an intent that does not stand', async () => {
  const faulty = assembleCommands({
    mutate: (command, lua) =>
      command === 'intend'
        ? lua.replace('if answer then', 'if false then').replace("ARGV[4] == '1' and former or ", '')
        : lua,
  }).commands as unknown as Commands;
  const found = await fc.check(property(faulty), { numRuns: 60, endOnFailure: true, seed: 7 });
  expect(String(found.errorInstance)).toMatch(/one wish of d\d holds/);
});
