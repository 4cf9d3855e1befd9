import { describe, expect, it } from 'vitest';
import { judged, unmeasured, worstRatio } from '../../../infra/bench/goals.ts';
import { goalLine } from '../../../infra/bench/table.ts';

const atLeast = { id: 'x.ratio', op: '>=', goal: 1 } as const;
const atMost = { id: 'x.lost', op: '<=', goal: 0 } as const;

describe('goals of a benchmark', () => {
  it('are met at the very goal, and missed beyond it, in either direction', () => {
    expect(judged(atLeast, 1).met).toBe(true);
    expect(judged(atLeast, 0.99).met).toBe(false);
    expect(judged(atMost, 0).met).toBe(true);
    expect(judged(atMost, 1).met).toBe(false);
  });

  it('are judged by the whole figure, not by the rounded one', () => {
    expect(judged(atLeast, 0.99999)).toMatchObject({ value: 1, met: false });
  });

  it('are not met when nothing was measured, and say why', () => {
    expect(unmeasured(atLeast, 'no rival here')).toEqual({
      ...atLeast,
      value: null,
      met: false,
      reason: 'no rival here',
    });
    expect(judged(atMost, Number.NaN)).toMatchObject({ value: null, met: false });
  });

  it('about several cases are judged by the worst of them, which is named', () => {
    const goal = worstRatio(atLeast, [
      { name: 'small', ours: 300, theirs: 200 },
      { name: 'large', ours: 90, theirs: 100 },
      { name: 'other', ours: 100, theirs: 100 },
    ]);
    expect(goal).toMatchObject({ value: 0.9, met: false });
    expect(goal.reason).toContain('large');
  });

  it('have no value while one case lacks a side, or the rival did nothing', () => {
    const fine = { name: 'fine', ours: 2, theirs: 1 };
    for (const hole of [
      { name: 'hole', ours: undefined, theirs: 1 },
      { name: 'hole', ours: 1, theirs: undefined },
      { name: 'hole', ours: 1, theirs: 0 },
    ]) {
      expect(worstRatio(atLeast, [fine, hole])).toMatchObject({ value: null, met: false });
    }
    expect(worstRatio(atLeast, [])).toMatchObject({ value: null, met: false });
  });

  it('are shown with verdict, figure and reason', () => {
    expect(goalLine(judged(atLeast, 1.234, 'why'))).toBe('met    x.ratio: 1.23, goal ≥ 1 (why)');
    expect(goalLine(unmeasured(atMost, 'gone'))).toBe('MISSED x.lost: not measured, goal ≤ 0 (gone)');
  });
});
