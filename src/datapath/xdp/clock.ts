import { bootTimeNs } from '../../linux/boot-time.ts';
import { monotonicMs } from '../../telemetry/clock.ts';

/** A time that never comes. */
export const NEVER_NS = 0xffff_ffff_ffff_ffffn;

/**
 * A moment of the process's monotonic clock as the program compares it: nanoseconds of the boottime clock, which goes
 * on while the machine sleeps. −Infinity and what is long past become 0, Infinity the largest number there is.
 */
export function boottimeOf(atMs: number): bigint {
  if (atMs === Number.POSITIVE_INFINITY) return NEVER_NS;
  if (atMs === Number.NEGATIVE_INFINITY) return 0n;
  const ns = bootTimeNs() + BigInt(Math.round((atMs - monotonicMs()) * 1e6));
  return ns > 0n ? ns : 0n;
}
