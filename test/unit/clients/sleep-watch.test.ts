import { expect, test } from 'vitest';
import { watchSleep } from '../../../clients/laptop/sleep-watch.ts';
import { ManualTimers } from './manual-timers.ts';

test('a machine that was suspended is found out within a second of its clock, once, and for how long', () => {
  const timers = new ManualTimers();
  let asleepMs = 5_000;
  const slept: number[] = [];
  const stop = watchSleep({
    timers,
    bootTimeMs: () => timers.nowMs() + asleepMs,
    onWake: (ms) => slept.push(ms),
  });
  timers.advance(60_000);
  expect(slept).toEqual([]);
  asleepMs += 3_600_000;
  timers.advance(1_000);
  expect(slept).toEqual([3_600_000]);
  // Readings that differ a little add up to nothing.
  for (let i = 0; i < 100; i += 1) {
    asleepMs += i % 2 === 0 ? 3 : -3;
    timers.advance(1_000);
  }
  expect(slept).toHaveLength(1);
  stop();
  asleepMs += 3_600_000;
  timers.advance(5_000);
  expect(slept).toHaveLength(1);
});
