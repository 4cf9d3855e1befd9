import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { importMutant } from '../mutants.ts';
import { CALM } from './network.ts';
import { play } from './play.ts';
import { MODULES, type Product, productOf, realProduct } from './product.ts';
import { emptyings } from './schedule.ts';
import { simulatedCommands } from './scripts.ts';
import { drawn, playAll, REDIS_SETTINGS, type Stage, stage } from './series.ts';
import type { Shape } from './shape.ts';
import { Wire } from './wire.ts';

let server: RealRedis;
let on: Stage;
beforeAll(async () => {
  Error.stackTraceLimit = 0;
  server = await realRedis(...REDIS_SETTINGS);
  on = await stage(new Wire(server.socket), await realProduct(), simulatedCommands());
});
afterAll(() => server.stop());

const shape: Omit<Shape, 'seed'> = {
  ...{ relays: 2, anchors: 1, devices: 3, sharing: 'shared' as const, cluster: false },
  ...{ weather: CALM, rates: [1, 1, 1] },
};

/** Both relays are lost, and start again when the registry has come back empty. */
const startAgain = (product: Product, seed: number) =>
  stage(on.wire, product, simulatedCommands()).then((there) =>
    play(
      { ...there, first: 0 },
      {
        shape: { ...shape, seed },
        steps: [
          { afterMs: 0, what: { act: 'lose', relay: 1, withDisk: false } },
          { afterMs: 0, what: { act: 'lose', relay: 3, withDisk: false } },
          { afterMs: 1_500, what: { act: 'empty', server: 0, declaredMs: 0 } },
        ],
      },
    ),
  );

test.each([0, 1, 11])('leases come back from the journals alone, in world %i', async (seed) => {
  const played = startAgain(await realProduct(), seed);
  await expect(played).resolves.toMatchObject({ emptied: 1, hostLosses: 2, settledByReport: 1, restored: 2 });
});

test('a start that does not say what its former process wrote down is found', async () => {
  const find = 'if (known === undefined || options.report === undefined) return false;';
  const { modules, dispose } = await importMutant(
    {
      name: 'a start that does not say',
      edits: [{ file: 'src/ownership/ownership.ts', find, replace: 'return false;' }],
    },
    ...MODULES,
  );
  try {
    await expect(startAgain(productOf(modules), 0)).resolves.toMatchObject({ restored: 0 });
  } finally {
    dispose();
  }
});

const SEED = 1;
const SCHEDULES = 200;

test(`in ${SCHEDULES} schedules in which the registry comes back empty no rule is broken`, async () => {
  const { seed, numRuns } = drawn(SEED, SCHEDULES);
  const { schedules, coverage, broken } = await playAll(on, { seed, numRuns }, emptyings);
  expect(broken, `seed ${seed}`).toBeUndefined();
  expect(schedules).toBe(numRuns);
  console.log(`seed ${seed}: ${JSON.stringify(coverage)}`);
  expect(coverage['schedules with restored']).toBeGreaterThan(numRuns / 3);
});

test('a registry that takes its own word once it is empty is found', async () => {
  const faulty = simulatedCommands((_, lua) =>
    lua.replace('tonumber(of[1]) >= tonumber(epoch or 0)', 'true'),
  );
  const { broken } = await playAll(
    await stage(on.wire, on.product, faulty),
    { seed: SEED, numRuns: SCHEDULES },
    emptyings,
  );
  expect(broken).toBeDefined();
});
