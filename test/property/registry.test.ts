import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commandConnection } from '../../src/registry/connection.ts';
import { type RealRedis, realRedis } from '../integration/registry/real-redis.ts';
import { anyOp, commandsWithTestClock, LAYOUTS, runAgainstModel } from '../oracle/registry-run.ts';

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

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
  await fc.assert(property(commandsWithTestClock()), { numRuns: 80 });
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
    'a lease that outlives its instant': [
      "(lease.state == 'pending' and lease.pendingUntilMs <= now)",
      'false',
    ],
  };
  test.each(Object.entries(faults))('%s', async (_, [from, to]) => {
    let planted = 0;
    const commands = commandsWithTestClock((_command, lua) => {
      if (!lua.includes(from)) return lua;
      planted += 1;
      return lua.replace(from, to);
    });
    expect(planted).toBeGreaterThan(0);
    const found = await fc.check(property(commands), { numRuns: 200, endOnFailure: true, seed: 7 });
    expect(found.failed).toBe(true);
  });
});
