import { describe, expect, it } from 'vitest';
import { median, readable, spread } from '../../../infra/bench/statistics.ts';

describe('figures of repeated runs', () => {
  it('has the middle value for its median, whatever the order and however far the others are', () => {
    expect(median([5, 1, 1_000_000])).toBe(5);
    expect(median([9, 10, 2])).toBe(9);
    expect(median([7])).toBe(7);
  });

  it('takes the mean of the two in the middle of an even number', () => {
    expect(median([4, 1, 2, 100])).toBe(3);
  });

  it('leaves its argument in the order of the runs', () => {
    const runs = [3, 1, 2];
    median(runs);
    expect(runs).toEqual([3, 1, 2]);
  });

  it('spreads from the lowest to the highest, negative and multi-digit numbers included', () => {
    expect(spread([9, 100, -5])).toEqual([-5, 100]);
    expect(spread([4])).toEqual([4, 4]);
  });

  it('has no figure for no runs, and shows that as a dash', () => {
    expect(median([])).toBeNaN();
    expect(spread([])).toEqual([Number.NaN, Number.NaN]);
    expect(readable(median([]))).toBe('–');
  });

  it('shows no more digits than repetitions can carry', () => {
    expect([0.7149, 12.345, 203_598.4, 0, 99.96].map(readable)).toEqual([
      '0.71',
      '12.3',
      '203,598',
      '0',
      '100',
    ]);
  });
});
