import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commandConnection } from '../../src/registry/connection.ts';
import { type RealRedis, realRedis } from '../integration/registry/real-redis.ts';
import { commandsWithFault, commandsWithTestClock } from '../oracle/registry-run.ts';
import { World, type WorldOptions } from '../oracle/takeover-run.ts';

type Op =
  | { op: 'cut' | 'mend'; link: string }
  | { op: 'pause' | 'resume' | 'lose' | 'restart' | 'restart-pinned'; relay: string }
  | { op: 'cut-replica' | 'fail-over' }
  | { op: 'advance'; ms: number };

const RELAYS = ['r1', 'r2', 'r3'];
const LINKS = [...RELAYS.map((id) => `${id} registry`), 'r1 r2', 'r1 r3', 'r2 r3'];

const anyOp: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ op: fc.constant('cut' as const), link: fc.constantFrom(...LINKS) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ op: fc.constant('mend' as const), link: fc.constantFrom(...LINKS) }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      op: fc.constantFrom(...(['pause', 'resume', 'lose', 'restart', 'restart-pinned'] as const)),
      relay: fc.constantFrom(...RELAYS),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom(...(['cut-replica', 'fail-over'] as const)) }),
  },
  {
    weight: 5,
    arbitrary: fc.record({ op: fc.constant('advance' as const), ms: fc.integer({ min: 10, max: 900 }) }),
  },
);

/** No two clocks part by more than the drift that relays allow for. */
const rates = fc.record({
  r1: fc.constantFrom(0.9955, 1, 1.0045),
  r2: fc.constantFrom(0.9955, 1, 1.0045),
  r3: fc.constantFrom(0.9955, 1, 1.0045),
});

let server: RealRedis;
let worlds = 0;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

function property(commands: ReturnType<typeof commandsWithTestClock>, options: WorldOptions = {}) {
  // Longer than any claim of these worlds.
  const connection = commandConnection(server.client(), commands, 1_500);
  return fc.asyncProperty(
    fc.array(anyOp, { minLength: 4, maxLength: 24, size: 'max' }),
    rates,
    async (ops, of) => {
      worlds += 1;
      const world = new World(connection, `w${worlds}`, { rates: of, aloneMs: 900, ...options });
      try {
        await world.begin(RELAYS);
        await world.advance(1_500);
        for (const op of ops) await apply(world, op);
        await world.advance(1_000);
      } finally {
        world.stop();
      }
    },
  );
}

async function apply(world: World, op: Op): Promise<void> {
  switch (op.op) {
    case 'cut':
      world.cuts.add(op.link);
      return;
    case 'mend':
      world.cuts.delete(op.link);
      return;
    case 'pause':
    case 'resume':
      world.pause(op.relay, op.op === 'pause');
      return;
    case 'lose':
      world.lose(op.relay);
      return;
    case 'restart':
    case 'restart-pinned':
      world.start(op.relay, { pinned: op.op === 'restart-pinned' });
      return;
    case 'cut-replica':
      await world.cutReplica();
      return;
    case 'fail-over':
      await world.failOver();
      return;
    case 'advance':
      await world.advance(op.ms);
      return;
    default:
      op satisfies never;
  }
}

test('whatever is cut, hangs, fails over, is lost or starts again: one forwarder at any instant, under epochs that rise', async () => {
  // A failure prints its seed and its shortest history.
  await fc.assert(property(commandsWithTestClock()), { numRuns: 120 });
});

describe('the check finds', () => {
  const scripts: Record<string, [from: string, to: string]> = {
    'a claim before the owner’s has run out': ['current.untilMs > now', 'false'],
    'a quarantine that is skipped': ['if of[1] and of[1] ~= server then', 'if false then'],
    'an epoch that does not rise': [
      "redis.call('HINCRBY', META, 'epoch', 1)",
      "tonumber(redis.call('HGET', META, 'epoch'))",
    ],
  };
  test.each(Object.entries(scripts))('%s', async (_, [from, to]) => {
    const commands = commandsWithFault(from, to, 'claim');
    const found = await fc.check(property(commands), { numRuns: 400, endOnFailure: true, seed: 11 });
    expect(found.failed).toBe(true);
  });
});
