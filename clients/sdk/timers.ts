/** Time as the sdk needs it; tests inject their own. */
export interface Timers {
  /** Milliseconds on a clock that never goes back. */
  nowMs(): number;
  /** Runs `run` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, run: () => void): () => void;
}

/** What setTimeout can hold: a longer delay would fire at once. */
const LONGEST_DELAY_MS = 2 ** 31 - 1;

/** Timers of the platform. Delays of any length (a lease may live for a year). */
export const systemTimers: Timers = {
  nowMs: () => performance.now(),
  after(delayMs, run) {
    let handle: ReturnType<typeof setTimeout>;
    const wait = (leftMs: number): void => {
      handle =
        leftMs > LONGEST_DELAY_MS
          ? setTimeout(() => wait(leftMs - LONGEST_DELAY_MS), LONGEST_DELAY_MS)
          : setTimeout(run, Math.max(0, leftMs));
    };
    wait(delayMs);
    return () => clearTimeout(handle);
  },
};
