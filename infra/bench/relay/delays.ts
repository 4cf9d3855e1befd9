/** What `note_delay` of xdp/ends.bpf.c counts, as figures. Pure. */

const UNIT_NS = 128;
const LINEAR = 64;
const STEPS_AN_OCTAVE = 32;
export const DELAY_STEPS = LINEAR + 19 * STEPS_AN_OCTAVE;

/** The middle of a step, nanoseconds. */
function delayOf(step: number): number {
  if (step < LINEAR) return (step + 0.5) * UNIT_NS;
  const octave = 1 + Math.floor((step - LINEAR) / STEPS_AN_OCTAVE);
  return (STEPS_AN_OCTAVE + ((step - LINEAR) % STEPS_AN_OCTAVE) + 0.5) * 2 ** octave * UNIT_NS;
}

/** The delay that `share` of the counted packets did not exceed, nanoseconds; NaN of none. */
export function quantile(counts: readonly number[], share: number): number {
  const total = counts.reduce((sum, count) => sum + count, 0);
  let below = 0;
  for (const [step, count] of counts.entries()) {
    below += count;
    if (count > 0 && below >= share * total) return delayOf(step);
  }
  return Number.NaN;
}
