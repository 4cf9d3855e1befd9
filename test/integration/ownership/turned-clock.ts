import type { Timers } from '../../../src/ownership/timers.ts';

/** A clock that stands until it is turned; what falls due runs then. */
export function turnedClock() {
  let nowMs = 1000;
  const due = new Map<symbol, { atMs: number; run: () => void }>();
  const timers: Timers = {
    nowMs: () => nowMs,
    after(delayMs, run) {
      const id = Symbol('timer');
      due.set(id, { atMs: nowMs + delayMs, run });
      return () => void due.delete(id);
    },
  };
  return {
    timers,
    waiting: () => due.size,
    turn(ms: number) {
      nowMs += ms;
      for (const [id, { atMs, run }] of [...due]) {
        if (atMs <= nowMs && due.delete(id)) run();
      }
    },
  };
}
