/** Goals: a figure of this run against what was promised. Pure. */
import type { Goal } from './record.ts';

type Promised = Pick<Goal, 'id' | 'op' | 'goal'>;

/** What could not be measured is not met, and says why. */
export function unmeasured(promised: Promised, reason: string): Goal {
  return { ...promised, value: null, met: false, reason };
}

export function judged(promised: Promised, value: number, reason?: string): Goal {
  if (!Number.isFinite(value)) return unmeasured(promised, reason ?? `the figure is ${value}`);
  const met = promised.op === '>=' ? value >= promised.goal : value <= promised.goal;
  return {
    ...promised,
    value: Math.round(value * 1_000) / 1_000,
    met,
    ...(reason === undefined ? {} : { reason }),
  };
}

export interface Ratio {
  /** What it compares, for people. */
  readonly name: string;
  /** Undefined when it was not measured. */
  readonly ours: number | undefined;
  readonly theirs: number | undefined;
}

/**
 * The least of several ratios ours / theirs: a goal about several cases is met only by the worst of them. A case that was not
 * measured on both sides leaves the goal without a value.
 */
export function worstRatio(promised: Promised, ratios: readonly Ratio[]): Goal {
  if (ratios.length === 0) return unmeasured(promised, 'no case was measured');
  let worst: { readonly name: string; readonly value: number } | undefined;
  for (const { name, ours, theirs } of ratios) {
    if (ours === undefined || theirs === undefined || !(theirs > 0)) {
      return unmeasured(promised, `${name} was not measured on both sides`);
    }
    const value = ours / theirs;
    if (worst === undefined || value < worst.value) worst = { name, value };
  }
  return judged(promised, worst!.value, `the least of ${ratios.length} cases: ${worst!.name}`);
}
