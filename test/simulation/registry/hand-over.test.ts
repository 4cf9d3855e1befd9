import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { play } from './play.ts';
import { realProduct } from './product.ts';
import type { Schedule } from './schedule.ts';
import { simulatedCommands } from './scripts.ts';
import { REDIS_SETTINGS, type Stage, stage } from './series.ts';
import { Wire } from './wire.ts';

let server: RealRedis;
let on: Stage;
beforeAll(async () => {
  Error.stackTraceLimit = 0;
  server = await realRedis(...REDIS_SETTINGS);
  on = await stage(new Wire(server.socket), await realProduct(), simulatedCommands());
});
afterAll(() => server.stop());

/** Worlds in which the taker's copy is behind when it is given the anchor, and one in which it is not. */
const SEEDS = [0, 1, 11];
const LAG_MS = 180;

/** A lease of which no replica hears, and a hand-over that the fail-over meets somewhere on its way. */
const schedule = (seed: number, beforeMs: number): Schedule => ({
  shape: {
    ...{ seed, relays: 2, anchors: 1, devices: 3, sharing: 'shared', cluster: false },
    ...{ weather: { lost: 0, late: 0, twice: 0 }, rates: [1, 1, 1] },
  },
  steps: [
    {
      afterMs: 100,
      what: { act: 'fail-over', server: 0, lagMs: LAG_MS, deceived: 0, forMs: 0, skewMs: 0 },
    },
    { afterMs: 5, what: { act: 'lease', device: 2, leaseMs: 60_000, both: false } },
    { afterMs: LAG_MS - 5 - beforeMs, what: { act: 'hand-over', anchor: 0, to: 0 } },
  ],
});

test.each([16, 18, 20, 22])(
  'an acknowledged lease outlives a hand-over that begins %i ms before a fail-over which loses both',
  async (beforeMs) => {
    for (const seed of SEEDS) {
      await expect(
        play({ ...on, first: 0 }, schedule(seed, beforeMs)),
        `seed ${seed}`,
      ).resolves.toMatchObject({
        lostFailOvers: 1,
      });
    }
  },
);

test('a giver that does not know whether a deposed primary has given its anchor away does not go on', async () => {
  const found: Schedule = {
    shape: {
      ...{ seed: 1987224985, relays: 3, anchors: 1, devices: 3, sharing: 'whole', cluster: false },
      ...{ weather: { lost: 40, late: 60, twice: 60 }, rates: [1, 1, 1] },
    },
    steps: [
      {
        afterMs: 0,
        what: { act: 'fail-over', server: 0, lagMs: 498, deceived: 38, forMs: 334, skewMs: 0 },
      },
      { afterMs: 0, what: { act: 'hand-over', anchor: 0, to: 0 } },
      { afterMs: 0, what: { act: 'cut', link: 5, silent: false } },
    ],
  };
  await expect(play({ ...on, first: 0 }, found)).resolves.toMatchObject({ failOvers: 1, handOvers: 1 });
});
