import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createDeviceRebinding } from '../../src/rebinding/device.ts';
import { createRelayRebinding } from '../../src/rebinding/relay.ts';
import { play, scenario } from '../simulation/rebinding/scenario.ts';

/** The same scenarios every time; `npm run test:soak` draws new ones. Both can be set, to repeat a failure. */
const seed = Number(process.env.MOORING_SEED ?? 1);
const numRuns = Number(process.env.MOORING_RUNS ?? 2_500);

test(`whatever happens, no promise of rebinding is broken and both ends agree again (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, (story) => {
      const { world, disagreement } = play({ createDeviceRebinding, createRelayRebinding }, story);
      expect(world.broken).toEqual([]);
      expect(disagreement).toBeNull();
    }),
    { numRuns, seed },
  );
});
