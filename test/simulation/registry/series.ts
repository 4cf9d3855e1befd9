import fc from 'fast-check';
import type { Commands } from '../../../src/registry/connection.ts';
import { Broken } from './ledger.ts';
import { type Coverage, play } from './play.ts';
import type { Product } from './product.ts';
import { type Schedule, schedules } from './schedule.ts';
import { DATABASES, loadScripts } from './servers.ts';
import type { Wire } from './wire.ts';
import type { Ground } from './world.ts';

/** Schedules that are played side by side over one connection. */
const BESIDE = 16;
/** What the Redis is started with. Small hashes are read in the order in which they were written, as long as their values are short. */
export const REDIS_SETTINGS = [
  ...['--databases', String(BESIDE * DATABASES)],
  ...['--hash-max-listpack-value', '65536'],
] as const;
/** How often a failing schedule is played to make it shorter. */
const SHORTEN_BY = 1_500;

/** What may be set to play other schedules, more of them, or one that failed. */
export const drawn = (seed: number, numRuns: number) => ({
  seed: Number(process.env.MOORING_SEED ?? seed),
  numRuns: Number(process.env.MOORING_RUNS ?? numRuns),
  path: process.env.MOORING_PATH,
});

/** What all schedules of a series are played on. */
export type Stage = Omit<Ground, 'first'>;

export async function stage(wire: Wire, product: Product, commands: Commands): Promise<Stage> {
  const trace = process.env.MOORING_TRACE === undefined ? undefined : console.log;
  return { wire, product, commands, scripts: await loadScripts(wire, commands), trace };
}

export interface Played {
  readonly schedules: number;
  readonly coverage: Coverage;
  /** The first schedule, by its number, that broke a rule, and which. */
  readonly broken?: { readonly at: number; readonly why: Broken };
}

/** Plays the schedules of a seed, from one on, until one breaks a rule. Any other failure is thrown. */
export async function playAll(
  on: Stage,
  { seed, numRuns, from = 0 }: { readonly seed: number; readonly numRuns: number; readonly from?: number },
  of = schedules,
): Promise<Played> {
  const all = fc.sample(of, { seed, numRuns: from + numRuns });
  const coverage: Coverage = {};
  let next = from;
  let played = 0;
  const found: { at: number; why: Broken }[] = [];
  const player = async (first: number): Promise<void> => {
    while (next < all.length && found.length === 0) {
      const at = next;
      next += 1;
      try {
        add(coverage, await play({ ...on, first }, all[at]!));
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

export interface Shortened {
  readonly schedule: Schedule;
  readonly why: Error;
  /** What to play it again with, beside the seed. */
  readonly path: string;
}

/** Plays a schedule of a series again and makes it as short as it can while it still breaks a rule; undefined: it does not. */
export async function shorten(
  on: Stage,
  { seed, path }: { readonly seed: number; readonly path: string },
  mostPlays = SHORTEN_BY,
): Promise<Shortened | undefined> {
  let plays = 0;
  const property = fc.asyncProperty(schedules, async (schedule) => {
    plays += 1;
    if (plays <= mostPlays) await play({ ...on, first: 0 }, schedule);
  });
  const out = await fc.check(property, { seed, path, numRuns: 1 });
  if (!out.failed || out.counterexample === null) return undefined;
  return { schedule: out.counterexample[0], why: out.errorInstance as Error, path: out.counterexamplePath! };
}

/** What to read of a failure, and how to see it again. */
export function told({ schedule, why, path }: Shortened, seed: number): string {
  return [
    why.message,
    JSON.stringify(schedule.shape),
    ...schedule.steps.map((step) => JSON.stringify(step)),
    `again: MOORING_SEED=${seed} MOORING_PATH=${path} (MOORING_TRACE=1 says all that happens)`,
  ].join('\n');
}

function add(sum: Coverage, more: Coverage): void {
  for (const [name, count] of Object.entries(more)) {
    sum[name] = (sum[name] ?? 0) + count;
    if (count > 0) sum[`schedules with ${name}`] = (sum[`schedules with ${name}`] ?? 0) + 1;
  }
}
