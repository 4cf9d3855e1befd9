import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createDeviceRebinding } from '../../src/rebinding/device.ts';
import { createRelayRebinding } from '../../src/rebinding/relay.ts';
import { play, scenario } from '../simulation/rebinding/scenario.ts';

const seed = Number(process.env.MOORING_SEED ?? Date.now() & 0x7fff_ffff);

test(`100,000 new scenarios break no promise of rebinding (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, (story) => {
      const { world, disagreement } = play({ createDeviceRebinding, createRelayRebinding }, story);
      expect(world.broken).toEqual([]);
      expect(disagreement).toBeNull();
    }),
    { numRuns: 100_000, seed },
  );
});
