import { describe, expect, it } from 'vitest';
import { DelayLine } from '../../../infra/lab/delay-line.ts';

const shape = { delayMs: 20, lossRate: 0, dead: false };

function drain(line: DelayLine<number>, nowMs: number): number[] {
  const taken: number[] = [];
  for (let frame = line.take(nowMs); frame !== undefined; frame = line.take(nowMs)) taken.push(frame);
  return taken;
}

describe('a delay line', () => {
  it('lets a frame out when its delay has passed, and not before', () => {
    const line = new DelayLine<number>(shape, 1);
    line.offer(1, 100);
    expect(line.nextDueMs).toBe(120);
    expect(drain(line, 119.9)).toEqual([]);
    expect(drain(line, 120)).toEqual([1]);
  });

  it('keeps the order when the delay becomes shorter', () => {
    const line = new DelayLine<number>(shape, 1);
    line.offer(1, 100);
    line.reshape({ delayMs: 1 });
    line.offer(2, 101);
    expect(drain(line, 119)).toEqual([]);
    expect(drain(line, 120)).toEqual([1, 2]);
  });

  it('loses the same frames for the same seed, and as many as asked', () => {
    const survivors = (seed: number) => {
      const line = new DelayLine<number>({ delayMs: 0, lossRate: 0.1, dead: false }, seed);
      const arrived: number[] = [];
      for (let frame = 0; frame < 20_000; frame++) {
        line.offer(frame, frame);
        arrived.push(...drain(line, frame));
      }
      return arrived;
    };
    const first = survivors(7);
    expect(survivors(7)).toEqual(first);
    expect(survivors(8)).not.toEqual(first);
    expect(first.length / 20_000).toBeCloseTo(0.9, 1);
  });

  it('eats what is in flight when it dies, and goes on empty when it lives again', () => {
    const line = new DelayLine<number>(shape, 1);
    line.offer(1, 0);
    line.reshape({ dead: true });
    line.offer(2, 1);
    line.reshape({ dead: false });
    line.offer(3, 2);
    expect(drain(line, 1_000)).toEqual([3]);
    expect(line.counters).toEqual({ offered: 3, lost: 2 });
  });

  it('passes exempt frames at once, before those that wait, also when all others are lost', () => {
    const line = new DelayLine<number>({ delayMs: 20, lossRate: 0, dead: false }, 1);
    line.offer(1, 0);
    line.reshape({ lossRate: 1 });
    line.offer(2, 1, true);
    expect(drain(line, 1)).toEqual([2]);
    expect(drain(line, 20)).toEqual([1]);
  });

  it('holds no more than its capacity', () => {
    const line = new DelayLine<number>(shape, 1);
    for (let frame = 0; frame < 12_000; frame++) line.offer(frame, 0);
    expect(drain(line, 20)).toHaveLength(10_000);
    expect(line.counters.lost).toBe(2_000);
  });
});
