import { LONGEST_CLAIM_MS } from '../config/longest-claim.ts';

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

/**
 * How long a primary that was voted out may still answer after another has begun, milliseconds: with `min-replicas-max-lag 10` and
 * a look at it every second it stops within 12 s of its replica's last word, and a vote takes a second at least. In a cluster it
 * stops sooner.
 */
const DEPOSED_MS = 11_000;

/** Until what a deposed primary has renewed in its last instant, for the longest claim, has surely run out. */
export const QUARANTINE_MS = holdMs(DEPOSED_MS + LONGEST_CLAIM_MS);
