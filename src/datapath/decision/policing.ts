import { badInput } from '../../protocol/errors.ts';

/**
 * The rate of one session in one direction: the generic cell rate algorithm in whole nanoseconds (ITU-T I.371, annex A),
 * so that both engines do the very same arithmetic on one number of state.
 *
 *   cost  = floor(octets · nsPerOctetQ16 / 2^16)
 *   next  = max(tat, now) + cost
 *   drop, tat unchanged, when next − now > burstNs; else tat = next
 *
 * `octets` are those of the inner packet. Time is nanoseconds since any origin; the arithmetic is exact below 2^53 (104 days
 * after it), so a caller with an older clock subtracts one.
 */
export interface Policing {
  /** Nanoseconds an octet takes at the rate, times 2^16, rounded down; below 2^32. */
  readonly nsPerOctetQ16: number;
  /** How far ahead of its rate a session may be; below 2^32. */
  readonly burstNs: number;
}

const Q16 = 2 ** 16;
/** Bounds that keep both numbers within 32 bits. */
export const LEAST_BITS_PER_SECOND = 128_000;
export const MOST_BITS_PER_SECOND = 400_000_000_000;
const MOST_BURST_MS = 4_000;
/** What a burst lasts when nothing else is said: enough for a TCP window on a mobile path. */
const DEFAULT_BURST_MS = 100;

/**
 * The numbers of a rate in bits of inner packets per second (128,000 to 400,000,000,000), with bursts of `burstMs`
 * (default 100, at most 4,000) at that rate and never less than a packet of `mtu` octets. Throws ERR_MOORING_BAD_INPUT.
 */
export function policing(bitsPerSecond: number, mtu: number, burstMs = DEFAULT_BURST_MS): Policing {
  if (!(bitsPerSecond >= LEAST_BITS_PER_SECOND && bitsPerSecond <= MOST_BITS_PER_SECOND)) {
    throw badInput('bitsPerSecond', bitsPerSecond, `use ${LEAST_BITS_PER_SECOND} to ${MOST_BITS_PER_SECOND}`);
  }
  if (!(burstMs >= 0 && burstMs <= MOST_BURST_MS)) {
    throw badInput('burstMs', burstMs, `use 0 to ${MOST_BURST_MS}`);
  }
  const nsPerOctetQ16 = Math.floor((8e9 * Q16) / bitsPerSecond);
  const largest = costNs({ nsPerOctetQ16, burstNs: 0 }, mtu);
  return { nsPerOctetQ16, burstNs: Math.max(Math.floor(burstMs * 1e6), largest) };
}

/** The time that `octets` take at the rate. */
export function costNs({ nsPerOctetQ16 }: Policing, octets: number): number {
  return Math.floor((octets * nsPerOctetQ16) / Q16);
}

/** A moment of the process's clock in the nanoseconds that `admit` counts. */
export function nanoseconds(nowMs: number): number {
  return Math.round(nowMs * 1e6);
}

/** What `admit` returns for a packet that comes too soon. */
export const TOO_SOON = -1;

/**
 * Judges a packet at `nowNs` by the session's state `tatNs` (theoretical arrival time, at first 0): the state to go on
 * with, or {@link TOO_SOON}, and then it stays what it is.
 */
export function admit(rate: Policing, tatNs: number, octets: number, nowNs: number): number {
  const next = Math.max(tatNs, nowNs) + costNs(rate, octets);
  return next - nowNs > rate.burstNs ? TOO_SOON : next;
}
