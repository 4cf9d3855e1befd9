/** How far two clocks may part: as much in 1 ms of time as this. */
export const CLOCK_DRIFT = 0.01;
/** How long after its deadline a data path may still let a packet through, milliseconds. */
export const LATE_STOP_MS = 50;

/**
 * How long the registry, or a standby's promise, holds what a relay believes to have for `ttlMs`: until the relay has
 * surely stopped, by whatever clock.
 */
export function holdMs(ttlMs: number): number {
  return Math.ceil(ttlMs * (1 + CLOCK_DRIFT)) + LATE_STOP_MS;
}
