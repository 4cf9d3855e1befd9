import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { Broken } from './ledger.ts';
import { play } from './play.ts';
import { realProduct } from './product.ts';
import { type Schedule, schedules } from './schedule.ts';
import { simulatedCommands } from './scripts.ts';
import { playAll, REDIS_SETTINGS, type Stage, shorten, stage } from './series.ts';
import { DATABASES } from './servers.ts';
import { Wire } from './wire.ts';

let server: RealRedis;
let on: Stage;
beforeAll(async () => {
  Error.stackTraceLimit = 0;
  server = await realRedis(...REDIS_SETTINGS);
  on = await stage(new Wire(server.socket), await realProduct(), simulatedCommands());
});
afterAll(() => server.stop());

/** Everything that happens in a schedule, as one number. */
async function history(schedule: Schedule, place = 0): Promise<string> {
  const hash = createHash('sha1');
  await play({ ...on, first: place * DATABASES, trace: (line) => hash.update(line) }, schedule);
  return hash.digest('hex');
}

test('a schedule that is played again is the same to the last message, among others or alone', async () => {
  const some = fc.sample(schedules, { seed: 4, numRuns: 12 });
  const together = await Promise.all(some.map(history));
  const alone: string[] = [];
  for (const schedule of some) alone.push(await history(schedule));
  expect(alone).toEqual(together);
  expect(new Set(alone).size).toBe(some.length);
});

test('schedules that break a rule are made shorter, and found again by seed and path', async () => {
  const skipsQuarantine = simulatedCommands((_, lua) =>
    lua.replace('if of[1] and of[1] ~= server then', 'if false then'),
  );
  const faulty = await stage(on.wire, on.product, skipsQuarantine);
  const steps = { found: 0, left: 0 };
  for (const seed of [6, 7, 8]) {
    const { broken } = await playAll(faulty, { seed, numRuns: 300 });
    const found = fc.sample(schedules, { seed, numRuns: broken!.at + 1 }).at(-1)!;
    const shortened = await shorten(faulty, { seed, path: String(broken!.at) }, 300);
    steps.found += found.steps.length;
    steps.left += shortened!.schedule.steps.length;
    expect(JSON.stringify(shortened!.schedule).length).toBeLessThan(JSON.stringify(found).length);
    const again = await shorten(faulty, { seed, path: shortened!.path }, 1);
    expect(again!.schedule).toEqual(shortened!.schedule);
    expect(again!.why).toBeInstanceOf(Broken);
    expect(again!.why.message).toBe(shortened!.why.message);
    await expect(play({ ...on, first: 0 }, again!.schedule), 'without the fault').resolves.toBeDefined();
  }
  console.log(`${steps.found} steps made ${steps.left}`);
  expect(steps.left).toBeLessThan(steps.found);
});
