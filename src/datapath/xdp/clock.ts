import { bootTimeNs } from '../../linux/boot-time.ts';

/** A time that never comes. */
export const NEVER_NS = 0xffff_ffff_ffff_ffffn;

/** The two clocks are read at one moment if no more than this passed between; so often it is tried. */
const AT_ONCE_NS = 50_000n;
const TRIES = 5;
/** Differences below are the reading's, not the clocks': they only go apart while the machine sleeps. */
const SAME_NS = 1_000_000n;

let aheadNs: bigint | null = null;

/**
 * A moment of the process's monotonic clock as the program compares it: nanoseconds of the boottime clock, which goes
 * on while the machine sleeps. −Infinity and what is long past become 0, Infinity the largest number there is.
 */
export function boottimeOf(atMs: number): bigint {
  if (atMs === Number.POSITIVE_INFINITY) return NEVER_NS;
  if (atMs === Number.NEGATIVE_INFINITY) return 0n;
  const ns = boottimeAheadNs() + BigInt(Math.round(atMs * 1e6));
  return ns > 0n ? ns : 0n;
}

/** How far the boottime clock is ahead of the monotonic one: the same at every call until the machine has slept. */
function boottimeAheadNs(): bigint {
  let leastNs: bigint | null = null;
  let readNs = 0n;
  for (let n = 0; n < TRIES && (leastNs === null || leastNs > AT_ONCE_NS); n += 1) {
    const before = process.hrtime.bigint();
    const boot = bootTimeNs();
    const tookNs = process.hrtime.bigint() - before;
    if (leastNs !== null && tookNs >= leastNs) continue;
    leastNs = tookNs;
    readNs = boot - before - tookNs / 2n;
  }
  const differsNs = aheadNs === null ? SAME_NS : aheadNs > readNs ? aheadNs - readNs : readNs - aheadNs;
  if (aheadNs === null || differsNs >= SAME_NS) aheadNs = readNs;
  return aheadNs;
}
