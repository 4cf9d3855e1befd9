import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { realProduct } from './product.ts';
import { simulatedCommands } from './scripts.ts';
import { drawn, playAll, REDIS_SETTINGS, shorten, stage, told } from './series.ts';
import { Wire } from './wire.ts';

/** In how many of a thousand schedules each of these is to happen at least: where nothing happens, nothing is shown. */
const AT_LEAST: Readonly<Record<string, number>> = {
  grants: 950,
  acknowledged: 700,
  failOvers: 600,
  lostFailOvers: 180,
  quarantined: 400,
  settledByReport: 200,
  settledByClaim: 120,
  restored: 60,
  takeovers: 150,
  handOvers: 50,
  restarts: 450,
  hostLosses: 180,
  diskLosses: 80,
  retries: 400,
  freed: 90,
  extended: 100,
  withdrawn: 40,
  expired: 0.5,
  comebacks: 200,
};

/** The half of the schedules that one process plays: `runs` of a seed, from one on. */
export function testHalf(firstSeed: number, runs = 1_750, from = 0): void {
  let server: RealRedis;
  beforeAll(async () => {
    // What is thrown is for the actors; nobody reads where it came from.
    Error.stackTraceLimit = 0;
    server = await realRedis(...REDIS_SETTINGS);
  });
  afterAll(() => server.stop());

  test(`in ${runs} schedules of relays, doors and devices no rule of leases or ownership is broken`, async () => {
    const { seed, numRuns, path } = drawn(firstSeed, runs);
    const on = await stage(new Wire(server.socket), await realProduct(), simulatedCommands());
    if (path !== undefined) {
      const shortened = await shorten(on, { seed, path });
      if (shortened !== undefined) throw new Error(told(shortened, seed));
      return;
    }
    const began = performance.now();

    const { schedules, coverage, broken } = await playAll(on, { seed, numRuns, from });
    const tookMs = performance.now() - began;
    console.log(
      `seed ${seed}: ${schedules} schedules, ${Math.round(tookMs)} ms, ${(tookMs / schedules).toFixed(1)} ms each`,
    );
    if (broken !== undefined) {
      const shortened = await shorten(on, { seed, path: String(broken.at) });
      const more = shortened === undefined ? 'not when it is played alone' : told(shortened, seed);
      throw new Error(`schedule ${broken.at} of seed ${seed}: ${broken.why.message}\n${more}`);
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
