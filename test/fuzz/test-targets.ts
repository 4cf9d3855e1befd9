import { describe, expect, test } from 'vitest';
import { fuzz, type Target } from './fuzzer.ts';

/** Runs every target for as long as `MOORING_FUZZ_SECONDS` says (default `seconds`), from a seed that is printed. */
export function testTargets(targets: readonly Target[], seconds: number, seed: number): void {
  const each = Number(process.env.MOORING_FUZZ_SECONDS ?? seconds);
  const from = Number(process.env.MOORING_SEED ?? seed);
  describe(`whatever the octets (seed ${from}, ${each} s each), nothing is thrown but a MooringError and no memory is lost`, () => {
    for (const target of targets) {
      test(target.name, { timeout: (each + 30) * 1_000 }, () => {
        // Otherwise what is drawn would not get far.
        for (const input of target.inputs) target.read(input);
        const { runs } = fuzz(target, { seed: from, seconds: each });
        expect(runs).toBeGreaterThan(0);
      });
    }
  });
}
