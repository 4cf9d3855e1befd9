import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createDeviceRebinding } from '../../src/rebinding/device.ts';
import { createRelayRebinding } from '../../src/rebinding/relay.ts';
import { play, scenario } from '../simulation/rebinding-scenario.ts';

const machines = { createDeviceRebinding, createRelayRebinding };
/** MOORING_SEED repeats a run that failed; the seed of a failure is printed with its smallest scenario. */
const seed = Number(process.env.MOORING_SEED ?? Date.now() & 0x7fff_ffff);

test(`whatever happens, no promise of the relay is broken and both ends agree again (seed ${seed})`, () => {
  fc.assert(
    fc.property(scenario, (story) => {
      const { world, disagreement } = play(machines, story);
      expect(world.broken).toEqual([]);
      expect(disagreement).toBeNull();
    }),
    { numRuns: Number(process.env.MOORING_RUNS ?? 3_000), seed },
  );
}, 120_000);
