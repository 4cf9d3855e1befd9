/** What a benchmark writes with `--json`: one form for all of them. */
import { cpus, loadavg, release } from 'node:os';
import { median, spread } from './statistics.ts';

export interface BenchRecord {
  readonly bench: string;
  /** ISO 8601. */
  readonly date: string;
  readonly command: string;
  readonly machine: Machine;
  readonly results: readonly Result[];
  readonly goals: readonly Goal[];
  /** What a reader must know to judge the figures. */
  readonly notes: readonly string[];
}

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly kernel: string;
  readonly node: string;
  /** Load average of one minute before the first run and after the last: other work on the machine shows here. */
  readonly load: readonly [before: number, after: number];
}

export interface Result {
  readonly system: string;
  readonly case: string;
  readonly metric: string;
  /** Counted repetitions in their order. */
  readonly runs: readonly number[];
  readonly median: number;
  /** Lowest and highest of the runs. */
  readonly spread: readonly [number, number];
}

export interface Goal {
  readonly id: string;
  /** Null when it could not be measured. */
  readonly value: number | null;
  readonly op: '>=' | '<=';
  readonly goal: number;
  readonly met: boolean;
  /** Why there is no value, or what the value is the least of. */
  readonly reason?: string;
}

export function machine(loadBefore: number): Machine {
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    node: process.versions.node,
    load: [loadBefore, currentLoad()],
  };
}

export function currentLoad(): number {
  return Math.round(loadavg()[0]! * 100) / 100;
}

/** Collects what repetitions measured, in the order in which things were first measured. */
export class Results {
  readonly #runs = new Map<string, { system: string; case: string; metric: string; runs: number[] }>();

  add(system: string, caseName: string, metrics: Readonly<Record<string, number>>): void {
    for (const [metric, value] of Object.entries(metrics)) {
      const key = JSON.stringify([system, caseName, metric]);
      const entry = this.#runs.get(key) ?? { system, case: caseName, metric, runs: [] };
      this.#runs.set(key, entry);
      entry.runs.push(Math.round(value * 100) / 100);
    }
  }

  /** The median of one figure; undefined when it was not measured. */
  median(system: string, caseName: string, metric: string): number | undefined {
    const entry = this.#runs.get(JSON.stringify([system, caseName, metric]));
    return entry === undefined ? undefined : median(entry.runs);
  }

  all(): Result[] {
    return [...this.#runs.values()].map((entry) => ({
      ...entry,
      median: median(entry.runs),
      spread: spread(entry.runs),
    }));
  }
}
