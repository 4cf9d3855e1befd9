import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** What a search of every state of a model said. */
export interface Verdict {
  readonly errors: number;
  readonly states: number;
  readonly megabytes: number;
  /** The whole of it: nothing cut off by depth, memory or time. */
  readonly complete: boolean;
  /** Statements that no history executes, but the ends of processes that never end. */
  readonly unreached: readonly string[];
  /** The assertion that failed. */
  readonly violated: string | undefined;
}

/** Memory that a search may take, kilobytes of address space. */
const MEMORY_KB = 2_000_000;
const SEARCH_TIMEOUT_MS = 120_000;
const DEPTH = 200_000;

/** Two at a time: more would only wait for memory. */
const lanes: Promise<unknown>[] = [Promise.resolve(), Promise.resolve()];
let searches = 0;

/** Searches all states of `test/spin/<model>.pml` with Spin, under `defines` such as `T=2`. */
export function verify(model: string, defines: readonly string[]): Promise<Verdict> {
  const lane = searches++ % lanes.length;
  const work = () => search(model, defines);
  const verdict = lanes[lane]!.then(work, work);
  lanes[lane] = verdict;
  return verdict;
}

async function search(model: string, defines: readonly string[]): Promise<Verdict> {
  const cwd = await mkdtemp(join(tmpdir(), 'mooring-spin-'));
  try {
    const source = fileURLToPath(new URL(`${model}.pml`, import.meta.url));
    await run('spin', ['-a', ...defines.map((one) => `-D${one}`), source], { cwd });
    await run('gcc', ['-O2', '-w', '-DSAFETY', '-DNOFAIR', '-DCOLLAPSE', '-o', 'pan', 'pan.c'], { cwd });
    const command = `ulimit -v ${MEMORY_KB} && exec ./pan -E -m${DEPTH} -w24`;
    const limits = { cwd, timeout: SEARCH_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 };
    return verdictIn((await run('sh', ['-c', command], limits)).stdout);
  } finally {
    await rm(cwd, { recursive: true, force: true });
  }
}

/** Reads a verifier's report. */
export function verdictIn(report: string): Verdict {
  const number = (pattern: RegExp) => Number(pattern.exec(report)?.[1] ?? Number.NaN);
  const errors = number(/errors: (\d+)/);
  return {
    errors,
    states: number(/(\d+) states, stored/),
    megabytes: number(/([\d.]+)\s+total actual memory usage/),
    complete:
      Number.isInteger(errors) &&
      !/Search not completed|max search depth too small|out of memory|hash array is full/i.test(report),
    unreached: [...report.matchAll(/^\s*\S+\.pml:\d+, state \d+, "(.*)"$/gm)]
      .map(([, statement]) => statement!)
      .filter((statement) => statement !== '-end-'),
    violated: /^pan:1: assertion violated (.*?) \(at depth/m.exec(report)?.[1],
  };
}

/** The faults that a model can be given: its `FAULT_…` switches. */
export function faultsOf(model: string): string[] {
  const text = readFileSync(new URL(`${model}.pml`, import.meta.url), 'utf8');
  return [...new Set([...text.matchAll(/\bFAULT_[A-Z_]+/g)].map(([name]) => name))].sort();
}
