import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { play } from './play.ts';
import { realProduct } from './product.ts';
import type { Step } from './schedule.ts';
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

const told = (seed: number, steps: readonly Step[]) =>
  play(
    { ...on, first: 0 },
    {
      shape: {
        ...{ seed, relays: 2, anchors: 1, devices: 3, sharing: 'shared', cluster: false },
        ...{ weather: { lost: 0, late: 0, twice: 0 }, rates: [1, 1, 1] },
      },
      steps,
    },
  );

/** Whoever owns the anchor, by its own word, starts anew while it cannot reach the registry. */
const startsAnew: readonly Step[] = [
  { afterMs: 0, what: { act: 'part', relay: 0 } },
  { afterMs: 4, what: { act: 'restart', relay: 0, pinned: false } },
];

describe.each([0, 1, 11])(
  'a relay that starts anew does not go on by its journal alone, in world %i',
  (seed) => {
    test('when it was given the anchor and has not named a standby', async () => {
      const steps: Step[] = [
        { afterMs: 0, what: { act: 'hand-over', anchor: 0, to: 0 } },
        // Its journal is written by then, and it looks for a standby later.
        { afterMs: 650, what: { act: 'mend' } },
        ...startsAnew,
        { afterMs: 1_500, what: { act: 'mend' } },
      ];
      await expect(told(seed, steps)).resolves.toMatchObject({ handOvers: 1, carriedOn: 1, takeovers: 1 });
    });

    test('when the registry has lost its claim, and names the owner before', async () => {
      const lagMs = 1_500;
      const steps: Step[] = [
        { afterMs: 0, what: { act: 'fail-over', server: 0, lagMs, deceived: 0, forMs: 0, skewMs: 0 } },
        { afterMs: 0, what: { act: 'lose', relay: 0, withDisk: false } },
        { afterMs: lagMs, what: { act: 'mend' } },
        ...startsAnew,
        { afterMs: 0, what: { act: 'restart', relay: 1, pinned: false } },
        { afterMs: 3_000, what: { act: 'mend' } },
      ];
      const happened = { lostFailOvers: 1, carriedOn: 1, takeovers: 1 };
      await expect(told(seed, steps)).resolves.toMatchObject(happened);
    });
  },
);
