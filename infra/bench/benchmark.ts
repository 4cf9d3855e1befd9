import type { Lab } from '../lab/lab.ts';
import type { Goal, Result } from './record.ts';

export interface BenchOptions {
  /** Only cases whose name contains this. */
  readonly only: string | undefined;
  /** Fewer and shorter repetitions, within 60 s: for watching regressions, not for quoting. */
  readonly quick: boolean;
  readonly say: (text: string) => void;
}

export interface Outcome {
  readonly results: readonly Result[];
  readonly goals: readonly Goal[];
  readonly notes: readonly string[];
}

export interface Benchmark {
  readonly name: string;
  /** One line for the list. */
  readonly summary: string;
  readonly cases: readonly string[];
  run(lab: Lab, options: BenchOptions): Promise<Outcome>;
}

/** The cases that `--only` leaves. @throws Error naming the cases there are, if it leaves none */
export function chosenCases(
  benchmark: Pick<Benchmark, 'name' | 'cases'>,
  only: string | undefined,
): string[] {
  const chosen = benchmark.cases.filter((name) => only === undefined || name.includes(only));
  if (chosen.length === 0) {
    throw new Error(
      `benchmark ${benchmark.name} has no case like ${JSON.stringify(only)}; there are: ${benchmark.cases.join(', ')}`,
    );
  }
  return chosen;
}
