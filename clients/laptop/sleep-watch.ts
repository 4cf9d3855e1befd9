import type { Timers } from '../sdk/timers.ts';

/** So soon behind the end of a sleep it is noticed. */
const LOOK_EVERY_MS = 1_000;
/** Less is the difference of two readings. */
const LEAST_SLEEP_MS = 500;

export interface SleepWatchOptions {
  /** Their clock stands still while the machine is suspended, and so do they. */
  readonly timers: Timers;
  /** Milliseconds on a clock that does not. */
  readonly bootTimeMs: () => number;
  /** The machine was suspended for so long, and is awake again. */
  readonly onWake: (sleptMs: number) => void;
}

/** Finds out that the machine was suspended. Returns how to stop. */
export function watchSleep({ timers, bootTimeMs, onWake }: SleepWatchOptions): () => void {
  const asleepMs = (): number => bootTimeMs() - timers.nowMs();
  let knownMs = asleepMs();
  let cancel = timers.after(LOOK_EVERY_MS, look);

  function look(): void {
    cancel = timers.after(LOOK_EVERY_MS, look);
    const sleptMs = asleepMs() - knownMs;
    if (sleptMs < LEAST_SLEEP_MS) return;
    knownMs += sleptMs;
    onWake(sleptMs);
  }

  return () => cancel();
}
