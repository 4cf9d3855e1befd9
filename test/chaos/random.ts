import { seededRandom } from '../../infra/lab/seeded-random.ts';

/** Numbers that follow from a seed, so that a run's choices can be made again. */
export function numbersFrom(seed: number): { below(limit: number): number; of<T>(choices: readonly T[]): T } {
  const next = seededRandom(seed);
  const below = (limit: number) => Math.floor(next() * limit);
  return { below, of: (choices) => choices[below(choices.length)]! };
}
