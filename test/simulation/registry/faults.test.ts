import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { importMutant } from '../mutants.ts';
import { IN_ACTORS, IN_SCRIPTS, SCENES } from './planted.ts';
import { MODULES, type Product, productOf, realProduct } from './product.ts';
import { schedulesOf } from './schedule.ts';
import { simulatedCommands } from './scripts.ts';
import { playAll, REDIS_SETTINGS, stage } from './series.ts';
import { Wire } from './wire.ts';

/** Each must be found within so many schedules of one of these seeds. */
const BOUND = 600;
const SEEDS = [5, 25, 14, 7, 9];

let server: RealRedis;
let wire: Wire;
let real: Product;
beforeAll(async () => {
  Error.stackTraceLimit = 0;
  server = await realRedis(...REDIS_SETTINGS);
  wire = new Wire(server.socket);
  real = await realProduct();
});
afterAll(() => server.stop());

async function findsIn(name: string, product: Product, commands = simulatedCommands()): Promise<void> {
  const on = await stage(wire, product, commands);
  for (const seed of SEEDS) {
    const { broken } = await playAll(on, { seed, numRuns: BOUND }, schedulesOf(SCENES[name]));
    if (broken === undefined) continue;
    console.log(
      `${expect.getState().currentTestName}: found by schedule ${broken.at + 1} of seed ${seed}: ${broken.why.message}`,
    );
    return;
  }
  expect.fail(`not found in ${BOUND} schedules of each seed`);
}

describe('a fault in a script is found:', () => {
  test.each(Object.entries(IN_SCRIPTS))('%s', async (name, [of, ...fromAndTo]) => {
    const planted = new Set<string>();
    const commands = simulatedCommands((command, lua) => {
      if (of !== null && command !== of) return lua;
      let faulty = lua;
      for (let at = 0; at < fromAndTo.length; at += 2) {
        const [from, to] = fromAndTo.slice(at) as [string, string];
        if (faulty.includes(from)) planted.add(from);
        faulty = faulty.replace(from, to);
      }
      return faulty;
    });
    expect(planted.size, fromAndTo.join(' → ')).toBe(fromAndTo.length / 2);
    await findsIn(name, real, commands);
  });
});

describe('a fault in an actor is found:', () => {
  test.each(IN_ACTORS)('$name', async (mutation) => {
    const { modules, dispose } = await importMutant(mutation, ...MODULES);
    try {
      await findsIn(mutation.name, productOf(modules));
    } finally {
      dispose();
    }
  });
});
