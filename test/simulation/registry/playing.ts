import fc from 'fast-check';
import type { Redis } from 'ioredis';
import type { Commands } from '../../../src/registry/connection.ts';
import { Broken } from './ledger.ts';
import type { Product } from './product.ts';
import { type Coverage, play, type Schedule, schedules } from './schedule.ts';
import { DATABASES, Wire } from './servers.ts';

/** Schedules that are played side by side over one connection. */
const BESIDE = 8;
/** Databases that the Redis must have. */
export const DATABASES_IN_ALL = BESIDE * DATABASES;
/** How long a failing schedule may be shrunk, milliseconds. */
const SHRINK_MS = 40_000;

/** What may be set to play other schedules, more of them, or one that failed. */
export const drawn = (seed: number, numRuns: number) => ({
  seed: Number(process.env.MOORING_SEED ?? seed),
  numRuns: Number(process.env.MOORING_RUNS ?? numRuns),
  path: process.env.MOORING_PATH,
});

export interface Played {
  readonly schedules: number;
  readonly coverage: Coverage;
  /** The first schedule, by its number, that broke a rule, and which. */
  readonly broken?: { readonly at: number; readonly why: Broken };
}

/** Plays schedules until one breaks a rule. Any other failure is thrown. */
export async function playAll(
  redis: Redis,
  product: Product,
  commands: Commands,
  { seed, numRuns }: { readonly seed: number; readonly numRuns: number },
): Promise<Played> {
  await redis.ping();
  const wire = new Wire(redis);
  const all = fc.sample(schedules, { seed, numRuns });
  const coverage: Coverage = {};
  let next = 0;
  let played = 0;
  const found: { at: number; why: Broken }[] = [];
  const player = async (first: number): Promise<void> => {
    while (next < all.length && found.length === 0) {
      const at = next;
      next += 1;
      try {
        add(coverage, await play({ wire, first, product, commands }, all[at]!));
        played += 1;
      } catch (error) {
        if (!(error instanceof Broken)) throw error;
        found.push({ at, why: error });
      }
    }
  };
  await Promise.all(Array.from({ length: BESIDE }, (_, at) => player(at * DATABASES)));
  const [broken] = found.sort((one, other) => one.at - other.at);
  return { schedules: played, coverage, ...(broken === undefined ? {} : { broken }) };
}

/** Plays one schedule again as fast-check numbers it, makes it as short as it can, and throws it. */
export async function shrink(
  redis: Redis,
  product: Product,
  commands: Commands,
  { seed, path }: { readonly seed: number; readonly path: string },
): Promise<void> {
  const wire = new Wire(redis);
  const out = await fc.check(
    fc.asyncProperty(schedules, async (schedule) => {
      await play({ wire, first: 0, product, commands }, schedule);
    }),
    { seed, path, numRuns: 1, interruptAfterTimeLimit: SHRINK_MS, markInterruptAsFailure: true },
  );
  if (!out.failed || out.counterexample === null) return;
  const [schedule] = out.counterexample;
  throw new Error(
    [
      String((out.errorInstance as Error | null)?.message),
      told(schedule),
      `again: MOORING_SEED=${seed} MOORING_PATH=${out.counterexamplePath} (MOORING_TRACE=1 says all that happens)`,
    ].join('\n'),
  );
}

function told({ shape, steps }: Schedule): string {
  return [JSON.stringify(shape), ...steps.map((step) => JSON.stringify(step))].join('\n');
}

function add(sum: Coverage, more: Coverage): void {
  for (const [name, count] of Object.entries(more)) {
    sum[name] = (sum[name] ?? 0) + count;
    if (count > 0) sum[`schedules with ${name}`] = (sum[`schedules with ${name}`] ?? 0) + 1;
  }
}
