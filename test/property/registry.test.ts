import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commandConnection } from '../../src/registry/connection.ts';
import { type RealRedis, realRedis } from '../integration/registry/real-redis.ts';
import {
  anyOp,
  commandsWithFault,
  commandsWithTestClock,
  LAYOUTS,
  type Op,
  runAgainstModel,
} from '../oracle/registry-run.ts';

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

/** The third device asks for its block to double twice, and then once more than the pool allows. */
const TOO_OFTEN: readonly Op[] = [
  ...[0, 1, 2].map((device): Op => ({ op: 'grant', device, leaseMs: 40_000, again: null })),
  { op: 'activate', lease: 2 },
  ...[2, 3].map(
    (doubled): Op => ({ op: 'extend', lease: 2, device: null, leaseMs: 40_000, doubled, twice: false }),
  ),
];
const examples: [(typeof LAYOUTS)[number], Op[]][] = [[LAYOUTS.at(-1)!, [...TOO_OFTEN]]];

const property = (commands: ReturnType<typeof commandsWithTestClock>) => {
  const connection = commandConnection(server.client(), commands);
  return fc.asyncProperty(
    fc.constantFrom(...LAYOUTS),
    fc.array(anyOp, { minLength: 1, maxLength: 60, size: 'max' }),
    async (layout, ops) => runAgainstModel(connection, layout, ops),
  );
};

test('the scripts and the model agree on any history, and every invariant holds after every step', async () => {
  // A failure prints its seed and its shortest history.
  await fc.assert(property(commandsWithTestClock()), { numRuns: 80, examples });
});

describe('the check finds', () => {
  const faults: Record<string, [from: string, to: string]> = {
    'cooling that is skipped': ['now + coolingMs', 'now'],
    'a repeated request that is granted again': ['local answered = recall(request)', 'local answered = nil'],
    'a fence that skips a number': ["'counter', 1)", "'counter', 2)"],
    'a fence that does not rise': ["'counter', 1)", "'counter', 0)"],
    'a slot that is handed out twice': ["redis.call('HSET', META, 'frontier', whole(number + 1))", ''],
    'a lease that anybody may end': ["lease.device == tenant .. '/' .. device", 'true'],
    'an extension that counts twice': ["remember(request, 'E')", ''],
    'a resource that leaks when its lease ends': [
      "redis.call('ZADD', COOLING, whole(now + coolingMs), slot)",
      '',
    ],
    'a doubled block of which a half leaks when its lease ends': [
      'coolSlots(slotsOf(lease), lease.device)',
      'coolSlots({ lease.slot }, lease.device)',
    ],
    'a block that doubles into what another has': ['if not isFree(slot, lease.device) then', 'if false then'],
    'a block that doubles without end': ['count > most or', ''],
    'a lease that outlives its instant': [
      "(lease.state == 'pending' and lease.pendingUntilMs <= now)",
      'false',
    ],
  };
  test.each(Object.entries(faults))('%s', async (_, [from, to]) => {
    const commands = commandsWithFault(from, to);
    const found = await fc.check(property(commands), { numRuns: 200, endOnFailure: true, seed: 7, examples });
    expect(found.failed).toBe(true);
  });
});
