import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { MooringError } from '../../src/protocol/errors.ts';
import { type Random, seededRandom } from './mutate.ts';

/** Something that reads what others send. */
export interface Target {
  readonly name: string;
  /** Good inputs, which it reads without a complaint: what is drawn is made of them. */
  readonly inputs: readonly (Uint8Array | string)[];
  /** Draws an input. */
  draw(random: Random): Uint8Array | string;
  /** Reads it. May throw a MooringError and nothing else. */
  read(input: Uint8Array | string): void;
}

export interface FuzzResult {
  readonly runs: number;
  /** What the heap has grown by since the warm-up, octets. */
  readonly grownOctets: number;
}

/** Between the two measurements of the heap; what is bounded has reached its bound before. */
const WARM_UP_SHARE = 0.4;
const MOST_GROWN_OCTETS = 24 * 1024 * 1024;
const SLOWEST_MS = 2_000;

/**
 * Gives a target random inputs for some seconds. Throws, naming the input, when it throws what is no MooringError or
 * takes seconds over one; and when the heap goes on growing.
 */
export function fuzz(
  target: Target,
  { seed, seconds }: { readonly seed: number; readonly seconds: number },
): FuzzResult {
  const random = seededRandom(seed);
  const beganMs = performance.now();
  const warmMs = beganMs + seconds * 1_000 * WARM_UP_SHARE;
  const endMs = beganMs + seconds * 1_000;
  let warmOctets: number | null = null;
  let runs = 0;
  for (let nowMs = beganMs; nowMs < endMs; ) {
    const input = target.draw(random);
    runs += 1;
    try {
      target.read(input);
    } catch (error) {
      if (!(error instanceof MooringError)) throw found(target, seed, runs, input, 'threw', error);
    }
    const tookMs = performance.now() - nowMs;
    if (tookMs > SLOWEST_MS) throw found(target, seed, runs, input, `took ${Math.round(tookMs)} ms`);
    nowMs += tookMs;
    if (warmOctets === null && nowMs >= warmMs) {
      warmOctets = usedOctets();
      nowMs = performance.now();
    }
  }
  const grownOctets = usedOctets() - (warmOctets ?? 0);
  if (grownOctets > MOST_GROWN_OCTETS) {
    throw new Error(
      `${target.name} (seed ${seed}): the heap has grown by ${grownOctets} octets over ${runs} inputs`,
    );
  }
  return { runs, grownOctets };
}

function found(
  { name }: Target,
  seed: number,
  run: number,
  input: Uint8Array | string,
  what: string,
  cause?: unknown,
): Error {
  const shown = typeof input === 'string' ? JSON.stringify(input) : Buffer.from(input).toString('hex');
  const why = cause instanceof Error ? ` ${cause.stack}` : '';
  return new Error(`${name} (seed ${seed}, input ${run}) ${what} over ${shown}:${why}`, { cause });
}

let collect: (() => void) | null = null;

/** What is in use after everything unused is gone, buffers included. */
function usedOctets(): number {
  if (collect === null) {
    setFlagsFromString('--expose-gc');
    collect = runInNewContext('gc') as () => void;
  }
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
