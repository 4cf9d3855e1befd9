import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { poolOperations } from '../../../src/admin/operations/pools.ts';
import { parseSettings } from '../../../src/config/load.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';
import { type Connection, commandConnection } from '../../../src/registry/connection.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** One history of declarations, said by configuration files and said by the API: the pools are the same after each. */
let server: RealRedis;
let connection: Connection;
let drawn = 0;
beforeAll(async () => {
  server = await realRedis();
  const random = (octets: number) =>
    Buffer.from(
      Array.from({ length: octets }, () => {
        drawn = (Math.imul(drawn, 1_664_525) + 1_013_904_223) >>> 0;
        return drawn >>> 24;
      }),
    );
  connection = commandConnection(server.client(), commandsWithTestClock(), undefined, undefined, random);
});
afterAll(() => server.stop());

type Way = 'file' | 'api';
type Said = Readonly<Record<string, unknown>>;
type Step =
  | { readonly do: 'declare'; readonly pool: Said }
  | { readonly do: 'lease' }
  | { readonly do: 'wait'; readonly ms: number };

const declarePool = poolOperations.find(({ id }) => id === 'declarePool')!;

const SAY: Readonly<Record<Way, (registry: Registry, pool: Said) => Promise<unknown>>> = {
  async file(registry, pool) {
    const relay = { id: 'r1', interface: 'pub0' };
    await registry.declareFile(parseSettings(JSON.stringify({ relay, pools: [pool] })).pools);
  },
  api(registry, pool) {
    const params = { pool: String(pool.name) };
    const asked = { params, query: {}, body: pool, ifMatch: '*', parts: { registry } };
    return declarePool.run(asked as never);
  },
};

/** An empty registry, whose clock and chance are the same every time. */
async function freshRegistry(): Promise<Registry> {
  await server.client().flushall();
  await server.client().set('test:now', 1_000_000);
  drawn = 0;
  return createStore(connection, silent, async () => undefined);
}

/** What the pools are after each step, or the code of the refusal. */
async function play(way: Way, steps: readonly Step[]): Promise<unknown[]> {
  const registry = await freshRegistry();
  const seen: unknown[] = [];
  let before: unknown = { policies: [], anchors: [], held: [] };
  let leases = 0;
  for (const step of steps) {
    const outcome = await carryOut(step).then(
      () => 'done',
      (error: MooringError) => error.code,
    );
    const { policies, anchors } = (await registry.roster())!;
    const state = { policies, anchors, held: await held(anchors.map(({ id }) => id)) };
    // What is refused changes nothing.
    if (step.do === 'declare' && outcome !== 'done') expect(state).toEqual(before);
    before = state;
    // What is in order is left as it is by those who look after it.
    for (const { id } of anchors) {
      const plan = await registry.plan(id);
      await registry.enlist(id);
      expect(await registry.plan(id)).toBe(plan);
    }
    seen.push({ step, outcome, ...state });
  }
  return seen;

  async function held(anchors: readonly string[]) {
    const views = await Promise.all(anchors.map((id) => registry.anchorView(id)));
    return views.map((view) => [view?.id, view?.held, view?.free, view?.retiring]);
  }

  async function carryOut(step: Step): Promise<unknown> {
    if (step.do === 'declare') return SAY[way](registry, step.pool);
    if (step.do === 'wait') {
      await server.client().incrby('test:now', step.ms);
      for (const { id } of (await registry.roster())!.anchors) {
        const owner = await registry.owner(id);
        const { epoch } = owner ?? (await registry.claim(id, 'r1', '00'.repeat(8), 1e12));
        await registry.sweep(id, epoch, 100);
        await registry.finishDraining(id);
      }
      return undefined;
    }
    leases += 1;
    for (const { id } of (await registry.roster())!.anchors) {
      if ((await registry.owner(id)) === null) await registry.claim(id, 'r1', '00'.repeat(8), 1e12);
    }
    return registry.grant({
      ...{ pool: 'p', device: { tenant: 't', id: `d${leases}` }, thumbprint: 'k'.repeat(43), quota: 9 },
      ...{ kind: 'rsa-ip', leaseMs: 60_000, requestId: hex128() },
    });
  }
}

async function sameBothWays(steps: readonly Step[]): Promise<unknown[]> {
  const byFile = await play('file', steps);
  expect(await play('api', steps)).toEqual(byFile);
  return byFile;
}

const anchor = (id: string, prefixes: readonly string[], more: Said = {}) => ({
  ...{ id, home: 'r1', endpoints: [`203.0.113.${id.slice(1)}`], prefixes, ...more },
});
const declare = (pool: Said): Step => ({
  do: 'declare',
  pool: { name: 'p', sharing: 'whole', leaseMs: { default: 60_000, max: 60_000 }, ...pool },
});
const of = (...prefixes: string[]) => ({ anchors: [anchor('a1', prefixes)] });
const wait: Step = { do: 'wait', ms: 200_000 };
const lease: Step = { do: 'lease' };

describe('a file and the API make the same pools, and none where they refuse:', () => {
  test.each<[string, Step[], string[]?]>([
    [
      'grown, shrunk with leases on it, and grown back',
      [
        declare(of('192.0.2.0/31')),
        lease,
        lease,
        declare(of('192.0.2.0/31', '192.0.2.8/30')),
        lease,
        declare(of('192.0.2.8/30')),
        wait,
        declare(of('192.0.2.0/30')),
        wait,
        lease,
      ],
    ],
    [
      'limited for each tenant, more, less and not at all',
      [
        declare(of('192.0.2.0/29')),
        lease,
        declare({ ...of('192.0.2.0/29'), maxLeasesPerTenant: 1 }),
        lease,
        declare({ ...of('192.0.2.0/29'), maxLeasesPerTenant: 3 }),
        lease,
        lease,
        lease,
        declare({ ...of('192.0.2.0/29'), maxLeasesPerTenant: 1 }),
        wait,
        lease,
        lease,
        declare(of('192.0.2.0/29')),
        lease,
      ],
      ['TENANT_QUOTA', 'TENANT_QUOTA', 'TENANT_QUOTA'],
    ],
    [
      'retired, and taken back before it has gone',
      [
        declare(of('192.0.2.0/31')),
        lease,
        declare({ ...of('192.0.2.0/31'), retire: true }),
        lease,
        declare(of('192.0.2.0/31')),
        lease,
        wait,
      ],
      ['UNKNOWN_POOL'],
    ],
    [
      'retired, gone, and declared anew',
      [
        declare(of('192.0.2.0/31')),
        declare({ ...of('192.0.2.0/31'), retire: true }),
        wait,
        wait,
        declare(of('192.0.2.0/31')),
        lease,
      ],
    ],
    [
      'an anchor of it retired, and taken back',
      [
        declare(of('192.0.2.0/31')),
        declare({ anchors: [anchor('a1', ['192.0.2.0/31'], { retire: true })] }),
        lease,
        declare(of('192.0.2.0/31')),
        lease,
      ],
      ['UNKNOWN_POOL'],
    ],
    [
      'of another shape, with leases and without',
      [
        declare(of('192.0.2.0/31')),
        lease,
        declare({ ...of('192.0.2.0/31'), sharing: 'shared' }),
        wait,
        wait,
        declare({ ...of('192.0.2.0/31'), sharing: 'shared' }),
        declare({ ...of('192.0.2.0/31'), sharing: 'shared', portBlock: 8 }),
      ],
      ['ANCHOR_IN_USE'],
    ],
    [
      'overlapping itself, another one, a tunnel endpoint',
      [
        declare(of('192.0.2.0/30', '192.0.2.2/31')),
        declare(of('192.0.2.0/30')),
        declare({ name: 'q', anchors: [anchor('a2', ['192.0.2.3/32'])] }),
        declare({ name: 'q', anchors: [anchor('a2', ['192.0.0.0/16'])] }),
        declare({ name: 'q', anchors: [anchor('a2', ['203.0.113.1/32'])] }),
        declare({ name: 'q', anchors: [anchor('a1', ['198.51.100.0/32'])] }),
      ],
      ['CONFIG', 'OVERLAP', 'OVERLAP', 'OVERLAP', 'ANCHOR_TAKEN'],
    ],
    [
      'of the least and the largest prefixes of both families',
      [
        declare(of('192.0.2.7/32')),
        declare(of('192.0.2.6/31')),
        declare(of('2001:db8::1/128')),
        declare(of('2001:db8:1::/64')),
        declare(of('2001:db8:1::/64', '2001:db8:2::/64')),
        declare(of('2001:db8:1::/65')),
        declare(of('::/0')),
        declare(of('192.0.2.0/33')),
        wait,
      ],
      ['ANCHOR_FULL', 'BAD_INPUT', 'CONFIG', 'CONFIG'],
    ],
    [
      'refused in its second anchor, and mended',
      [
        declare({ anchors: [anchor('a1', ['192.0.2.0/31']), anchor('a2', ['203.0.113.1/32'])] }),
        declare({
          coolingMs: 130_000,
          anchors: [anchor('a1', ['192.0.2.0/31']), anchor('a2', ['192.0.2.4/31'])],
        }),
      ],
      ['CONFIG'],
    ],
    [
      'refused in its second anchor for what another pool has, and nothing of its first one is taken',
      [
        declare(of('192.0.2.0/31')),
        declare({ name: 'q', anchors: [anchor('a2', ['192.0.2.8/31']), anchor('a3', ['192.0.2.1/32'])] }),
        declare({ name: 'q', anchors: [anchor('a4', ['192.0.2.9/32'])] }),
        declare({ name: 'q', anchors: [anchor('a3', ['192.0.2.0/32'])] }),
      ],
      ['OVERLAP', 'OVERLAP'],
    ],
  ])('%s', async (_, steps, refusals = []) => {
    const seen = await sameBothWays(steps);
    const outcomes = seen.map((one) => (one as { outcome: string }).outcome.replace('ERR_MOORING_', ''));
    expect(outcomes.filter((outcome) => outcome !== 'done')).toEqual(refusals);
  });

  test('whatever is declared, in whatever order', async () => {
    const prefixes = fc.subarray(['192.0.2.0/30', '192.0.2.2/31', '192.0.2.8/29', '2001:db8::/127'], {
      minLength: 1,
    });
    const one = fc.record({ id: fc.constantFrom('a1', 'a2', 'a3'), prefixes, retire: fc.boolean() });
    const step = fc.oneof(
      {
        weight: 6,
        arbitrary: fc
          .record({
            ...{ name: fc.constantFrom('p', 'p', 'q'), sharing: fc.constantFrom('whole', 'whole', 'shared') },
            retire: fc.constantFrom(false, false, false, true),
            anchors: fc.uniqueArray(one, { minLength: 1, maxLength: 2, selector: ({ id }) => id }),
          })
          .map(({ name, sharing, retire, anchors }) =>
            declare({
              ...{ name, sharing, retire },
              anchors: anchors.map((said) => anchor(said.id, said.prefixes, { retire: said.retire })),
            }),
          ),
      },
      { weight: 2, arbitrary: fc.constant(lease) },
      { weight: 2, arbitrary: fc.constant(wait) },
    );
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 4, maxLength: 10 }), async (steps) => {
        await sameBothWays(steps);
      }),
      { numRuns: 50, seed: 4 },
    );
  });
});
