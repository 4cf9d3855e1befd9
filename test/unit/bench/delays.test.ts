import { describe, expect, it } from 'vitest';
import { DELAY_STEPS, quantile } from '../../../infra/bench/relay/delays.ts';

/** As `note_delay` in infra/bench/relay/xdp/ends.bpf.c finds the step of a delay. */
function stepOf(ns: number): number {
  let units = Math.floor(ns / 128);
  let octave = 0;
  for (; octave < 19 && units >= 64; octave += 1) units = Math.floor(units / 2);
  return octave === 0 ? units : 32 + octave * 32 + Math.min(units, 63) - 32;
}

function counted(delaysNs: readonly number[]): number[] {
  const counts: number[] = new Array(DELAY_STEPS).fill(0);
  for (const ns of delaysNs) counts[stepOf(ns)]! += 1;
  return counts;
}

describe('delays by step', () => {
  it('are told to 2 % and 64 ns of what they were, from nanoseconds to seconds', () => {
    for (let ns = 1; ns < 3e9; ns = Math.ceil(ns * 1.37)) {
      expect(Math.abs(quantile(counted([ns]), 1) - ns), `${ns} ns`).toBeLessThanOrEqual(64 + ns * 0.02);
    }
  });

  it('are what that share of the packets did not exceed', () => {
    const delays = Array.from({ length: 1_000 }, (_, i) => (i < 990 ? 10_000 : 1_000_000));
    expect(quantile(counted(delays), 0.5)).toBeCloseTo(10_000, -3);
    expect(quantile(counted(delays), 0.99)).toBeCloseTo(10_000, -3);
    expect(quantile(counted(delays), 0.995)).toBeGreaterThan(900_000);
  });

  it('are none of no packets', () => {
    expect(quantile(counted([]), 0.5)).toBeNaN();
  });
});
