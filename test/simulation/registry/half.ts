import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { DATABASES_IN_ALL, drawn, playAll, shrink } from './playing.ts';
import { realProduct } from './product.ts';
import { simulatedCommands } from './servers.ts';

/** In how many of a thousand schedules each of these is to happen at least: where nothing happens, nothing is shown. */
const AT_LEAST: Readonly<Record<string, number>> = {
  grants: 950,
  acknowledged: 800,
  failOvers: 300,
  lostFailOvers: 50,
  settledByReport: 20,
  settledByClaim: 50,
  restored: 3,
  takeovers: 50,
  handOvers: 100,
  restarts: 300,
  hostLosses: 100,
  retries: 200,
  freed: 80,
  extended: 80,
  withdrawn: 10,
  expired: 2,
};

/** The half of the schedules that one process plays. */
export function testHalf(firstSeed: number, runs = 500): void {
  let server: RealRedis;
  beforeAll(async () => {
    // What is thrown is for the actors; nobody reads where it came from.
    Error.stackTraceLimit = 0;
    server = await realRedis('--databases', String(DATABASES_IN_ALL));
  });
  afterAll(() => server.stop());

  test(`in ${runs} schedules of relays, doors and devices no rule of leases or ownership is broken`, async () => {
    const { seed, numRuns, path } = drawn(firstSeed, runs);
    const product = await realProduct();
    const commands = simulatedCommands();
    const redis = server.client();
    if (path !== undefined) {
      await shrink(redis, product, commands, { seed, path });
      return;
    }
    const began = performance.now();
    const { schedules, coverage, broken } = await playAll(redis, product, commands, { seed, numRuns });
    console.log(`seed ${seed}: ${schedules} schedules, ${Math.round(performance.now() - began)} ms`);
    if (broken !== undefined) {
      await shrink(redis, product, commands, { seed, path: String(broken.at) });
      throw new Error(`schedule ${broken.at} of seed ${seed}: ${broken.why.message}`);
    }
    console.log(said(coverage));
    expect(schedules).toBe(numRuns);
    for (const [what, permille] of Object.entries(AT_LEAST)) {
      const often = ((coverage[`schedules with ${what}`] ?? 0) / schedules) * 1000;
      expect
        .soft(often, `schedules in a thousand with ${what}`)
        .toBeGreaterThanOrEqual(numRuns < 500 ? 0 : permille);
    }
  });
}

/** How many schedules had each thing, and how often it happened. */
function said(coverage: Readonly<Record<string, number>>): string {
  return Object.entries(coverage)
    .filter(([what]) => !what.startsWith('schedules with '))
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([what, times]) => `${what}: ${coverage[`schedules with ${what}`] ?? 0} schedules, ${times} times`)
    .join('\n');
}
