import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { importBuilt } from '../mutants.ts';
import { simulatedCommands } from './scripts.ts';
import { drawn, REDIS_SETTINGS, told } from './series.ts';

/** In how many of a thousand schedules each of these is to happen at least: where nothing happens, nothing is shown. */
const AT_LEAST: Readonly<Record<string, number>> = {
  grants: 950,
  acknowledged: 900,
  failOvers: 650,
  lostFailOvers: 280,
  quarantined: 450,
  settledByReport: 380,
  settledByClaim: 80,
  restored: 150,
  takeovers: 250,
  handOvers: 55,
  restarts: 500,
  hostLosses: 280,
  diskLosses: 140,
  carriedOn: 100,
  retries: 450,
  freed: 170,
  extended: 180,
  withdrawn: 30,
  expired: 1,
  comebacks: 200,
};

/** The half of the schedules that one process plays: `runs` of a seed, from one on. */
export function testHalf(firstSeed: number, runs = 5_000, from = 0): void {
  let server: RealRedis;
  let players: Players;
  beforeAll(async () => {
    // What is thrown is for the actors; nobody reads where it came from.
    Error.stackTraceLimit = 0;
    server = await realRedis(...REDIS_SETTINGS);
    players = await builtPlayers();
  });
  afterAll(async () => {
    players.dispose();
    await server.stop();
  });

  test(`in ${runs} schedules of relays, doors and devices no rule of leases or ownership is broken`, async () => {
    const { seed, numRuns, path } = drawn(firstSeed, runs);
    const { series, product, wire } = players;
    const { playAll, shorten } = series;
    const on = await series.stage(
      new wire.Wire(server.socket),
      await product.realProduct(),
      simulatedCommands(),
    );
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

interface Players {
  readonly series: typeof import('./series.ts');
  readonly product: typeof import('./product.ts');
  readonly wire: typeof import('./wire.ts');
  dispose(): void;
}

async function builtPlayers(): Promise<Players> {
  const files = ['series', 'product', 'wire'] as const;
  const { modules, dispose } = await importBuilt(
    ...files.map((file) => `test/simulation/registry/${file}.ts`),
  );
  const [series, product, wire] = modules as unknown as [
    Players['series'],
    Players['product'],
    Players['wire'],
  ];
  return { series, product, wire, dispose };
}

/** How many schedules had each thing, and how often it happened. */
function said(coverage: Readonly<Record<string, number>>): string {
  return Object.entries(coverage)
    .filter(([what]) => !what.startsWith('schedules with '))
    .sort(([one], [other]) => (one < other ? -1 : 1))
    .map(([what, times]) => `${what}: ${coverage[`schedules with ${what}`] ?? 0} schedules, ${times} times`)
    .join('\n');
}
