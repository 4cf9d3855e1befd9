import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LinkJudge } from '../../../clients/laptop/link-judge.ts';
import { LinkQuality } from '../../../clients/laptop/link-quality.ts';

/** Probes every half second from 0 on, each with its fate: the round trip, or null. */
function probed(fates: readonly (number | null)[]): LinkQuality {
  const quality = new LinkQuality();
  for (const [i, rttMs] of fates.entries()) {
    quality.pass(i * 500);
    quality.sent(i + 1, i * 500);
    if (rttMs !== null) quality.answered(i + 1, rttMs, i * 500 + rttMs);
  }
  quality.pass(fates.length * 500 + 2_000);
  return quality;
}

describe('what probes tell of a link', () => {
  test('nothing as long as they are few', () => {
    expect(probed([20, 20, 20]).costMs).toBeNull();
    expect(probed([20, 20, 20, 20]).costMs).toBe(20);
  });

  test('loss weighs like round trip, and both are forgotten in time', () => {
    expect(probed([20, null, 20, null]).measured).toEqual({ rttMs: 20, lossPercent: 50 });
    expect(probed([20, null, 20, null]).costMs).toBe(520);
    const mended = probed([900, null, null, 900, ...Array.from({ length: 20 }, () => 20)]);
    expect(mended.measured!.lossPercent).toBe(0);
    expect(mended.measured!.rttMs).toBeCloseTo(20, -1);
  });

  test('three unanswered in a row: dead, until one is answered', () => {
    expect(probed([20, 20, 20, null, null, null]).costMs).toBe(Number.POSITIVE_INFINITY);
    expect(probed([20, 20, 20, null, null, null, 20]).costMs).toBeLessThan(1_000);
  });

  test('an answer that comes when it has been given up does not count twice', () => {
    const quality = new LinkQuality();
    quality.sent(1, 0);
    quality.pass(1_500);
    quality.answered(1, 1_600, 1_600);
    expect(quality.measured).toEqual({ rttMs: null, lossPercent: 100 });
  });
});

describe('the verdict on a link', () => {
  const costs = (wifi: number | null, cell: number | null) =>
    new Map([
      ['wifi', wifi],
      ['cell', cell],
    ]);
  /** Judges these costs every half second; when the verdict on wifi changed, in milliseconds. */
  function changes(wifi: readonly (number | null)[], cell: number | null = 40): number[] {
    const judge = new LinkJudge();
    const changed: number[] = [];
    let was = false;
    for (const [i, cost] of wifi.entries()) {
      const isPoor = judge.judge(costs(cost, cell), i * 500).has('wifi');
      if (isPoor !== was) changed.push(i * 500);
      was = isPoor;
    }
    return changed;
  }
  const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

  test('takes 2 s of much worse, and 10 s of as good, to change', () => {
    expect(changes([...times(4, 20), ...times(40, 500), ...times(40, 20)])).toEqual([4_000, 32_000]);
  });

  test('does not come of a spike, nor without another link to compare with', () => {
    expect(changes([...times(4, 20), ...times(3, 2_000), ...times(40, 20)])).toEqual([]);
    expect(changes(times(40, 2_000), null)).toEqual([]);
    expect(changes(times(40, Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY)).toEqual([]);
  });

  test('between the two limits, whatever it was, it stays', () => {
    expect(changes([...times(20, 20), ...times(200, 120)])).toEqual([]);
    expect(changes([...times(20, 500), ...times(200, 120)])).toEqual([2_000]);
  });

  test('is ever more patient with one that relapses', () => {
    const swing = [...times(5, 500), ...times(60, 20)];
    const found = changes([...swing, ...swing, ...swing]);
    expect(found).toHaveLength(5);
    expect(found[1]! - 2_500).toBe(10_000);
    expect(found[3]! - (65 * 500 + 2_500)).toBe(20_000);
  });

  test('property: in ten minutes it swings at most 6 times, whatever is measured', () => {
    const cost = fc.oneof(
      fc.constant(null),
      fc.constantFrom(10, 500, Number.POSITIVE_INFINITY),
      fc.double({ min: 0, max: 400, noNaN: true }),
    );
    /** Stretches of one cost: what is measured at random alone never lasts. */
    const stretch = fc.record({ cost, rounds: fc.integer({ min: 1, max: 60 }) });
    fc.assert(
      fc.property(fc.array(stretch, { minLength: 20, maxLength: 80 }), (stretches) => {
        const measured = stretches.flatMap(({ cost: value, rounds }) => times(rounds, value)).slice(0, 1_200);
        expect(changes(measured).length).toBeLessThanOrEqual(12);
      }),
      { numRuns: 200, seed: 20 },
    );
  });
});
