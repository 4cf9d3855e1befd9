import { monotonicMs } from '../telemetry/clock.ts';

/** Time as ownership sees it; tests put their own in. */
export interface Timers {
  /** Milliseconds on the clock that deadlines are told in: monotonic, shared with the packet worker. */
  nowMs(): number;
  /** Runs `run` once, `delayMs` from now. Returns how to call it off. */
  after(delayMs: number, run: () => void): () => void;
}

export const processTimers: Timers = {
  nowMs: monotonicMs,
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
};
