import { randomFillSync } from 'node:crypto';

/** Octets drawn from the kernel's generator at a time. */
const POOL_OCTETS = 16_384;

/**
 * Cryptographic octets, drawn in large pieces: a session needs a few of them for each of its challenges, and a takeover challenges
 * thousands at one moment. What was given out is wiped from the pool.
 */
export function createRandomPool(): (octets: number) => Uint8Array {
  const pool = new Uint8Array(POOL_OCTETS);
  let next = POOL_OCTETS;
  return (octets) => {
    if (octets > POOL_OCTETS) return randomFillSync(new Uint8Array(octets));
    if (next + octets > POOL_OCTETS) {
      randomFillSync(pool);
      next = 0;
    }
    const drawn = pool.slice(next, next + octets);
    pool.fill(0, next, next + octets);
    next += octets;
    return drawn;
  };
}
