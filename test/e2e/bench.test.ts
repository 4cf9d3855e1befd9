import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import type { BenchRecord } from '../../infra/bench/record.ts';
import { type LabRecord, STATE_DIRECTORY } from '../../infra/lab/lab-record.ts';
import { missing } from './fixture/requirements.ts';

const BENCH = fileURLToPath(new URL('../../infra/bench.mjs', import.meta.url));
/** What it runs when everything is installed; rivals that no case here needs are left out. */
const BUILT = fileURLToPath(new URL('../../dist/infra/bench/main.js', import.meta.url));
const CASE = 'esp-100B-up';
const LOOP_CASE = 'loop-esp-100B-1-core';

interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  output(): string;
}

function bench(...args: string[]): Run {
  return start(BENCH, ...args);
}

function start(...command: string[]): Run {
  const child = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const ended = new Promise<number | null>((resolve) => child.on('exit', resolve));
  return { child, ended, output: () => output };
}

/** Labs whose process was started by `parent`. */
function labsOf(parent: number): LabRecord[] {
  if (!existsSync(STATE_DIRECTORY)) return [];
  return readdirSync(STATE_DIRECTORY)
    .filter((name) => name.endsWith('.json'))
    .flatMap((name) => {
      try {
        const record = JSON.parse(readFileSync(join(STATE_DIRECTORY, name), 'utf8')) as LabRecord;
        const stat = readFileSync(`/proc/${record.owner.pid}/stat`, 'utf8');
        const [, ppid] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        return Number(ppid) === parent ? [record] : [];
      } catch {
        // Ended meanwhile.
        return [];
      }
    });
}

describe.skipIf(missing('bench'))('npm run bench', () => {
  const directory = mkdtempSync(join(tmpdir(), 'mooring-bench-test-'));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  it('measures one case of ours and of the rivals in turn, and writes what it found', async () => {
    const json = join(directory, 'relay.json');
    const run = bench('relay', '--quick', '--only', CASE, '--json', json);
    expect(await run.ended, run.output()).toBe(0);
    const record = JSON.parse(readFileSync(json, 'utf8')) as BenchRecord;
    expect(record.bench).toBe('relay');
    expect(record.command).toContain(`relay --quick --only ${CASE}`);
    expect(new Set(record.results.map((result) => result.case))).toEqual(new Set([CASE]));
    // A machine that cannot install the rival measures the rest, and says so.
    const rival = existsSync('/usr/bin/turnserver');
    expect(new Set(record.results.map((result) => result.system))).toEqual(
      new Set(['mooring-userspace', 'kernel-forwarding', ...(rival ? ['coturn'] : [])]),
    );
    for (const { runs, median } of record.results) {
      expect(runs).toHaveLength(2);
      expect(median).toBeGreaterThan(0);
    }
    // Whether it is met is the machine's business; that it was judged by what was measured is not.
    const [goal] = record.goals;
    expect(goal).toMatchObject({ id: 'relay.userspace_vs_coturn', op: '>=', goal: 1 });
    if (rival) expect(goal!.met).toBe(goal!.value! >= 1);
    else expect(goal).toMatchObject({ value: null, met: false, reason: expect.stringContaining('coturn') });
    expect(run.output()).toContain('relay.userspace_vs_coturn');
  });

  it('turns packets round in XDP through ours and what it is compared with', async () => {
    const json = join(directory, 'loop.json');
    const run = bench('relay', '--quick', '--only', LOOP_CASE, '--json', json);
    expect(await run.ended, run.output()).toBe(0);
    const record = JSON.parse(readFileSync(json, 'utf8')) as BenchRecord;
    const goal = (id: string) => record.goals.find((one) => one.id === id)!;
    const rates = record.results.filter(({ metric }) => metric === 'packets/s');
    if (rates.length === 0) {
      // No XDP or no clang: the goals say so.
      expect(goal('relay.xdp_vs_bare')).toMatchObject({ value: null, met: false });
      expect(record.notes.join()).toContain('closed loop: ');
      return;
    }
    expect(new Set(rates.map(({ system }) => system))).toEqual(
      new Set(['mooring-xdp', 'mooring-xdp-generic', 'xdp-redirect', 'kernel-forwarding', 'ends-alone']),
    );
    for (const { median } of rates) expect(median).toBeGreaterThan(0);
    const rate = (system: string) => rates.find((result) => result.system === system)!.median;
    expect(goal('relay.xdp_vs_bare').value).toBeCloseTo(rate('mooring-xdp') / rate('xdp-redirect'), 2);
    expect(goal('relay.xdp_vs_kernel').value).toBeCloseTo(rate('mooring-xdp') / rate('kernel-forwarding'), 2);
    expect(goal('relay.scale_1m')).toMatchObject({ value: null, met: false });
  });

  it('asks for leases at the door of the program, and says what that takes', async () => {
    const json = join(directory, 'registry.json');
    const run = start(BUILT, 'registry', '--quick', '--only', 'hello', '--json', json);
    expect(await run.ended, run.output()).toBe(0);
    const record = JSON.parse(readFileSync(json, 'utf8')) as BenchRecord;
    expect(record.results.map(({ system, metric }) => `${system}: ${metric}`)).toEqual([
      'mooring: operations/s',
      'mooring: program µs',
      'mooring: Redis µs',
    ]);
    for (const { runs, median } of record.results) {
      expect(runs).toHaveLength(2);
      expect(median).toBeGreaterThan(0);
    }
    for (const { id, value, reason } of record.goals)
      expect({ id, value, reason: typeof reason }).toEqual({ id, value: null, reason: 'string' });
  });

  it('takes its namespaces along when it is interrupted', async () => {
    const run = bench('relay', '--quick', '--only', CASE);
    const deadline = Date.now() + 30_000;
    while (!run.output().includes('round 1') && Date.now() < deadline) await delay(50);
    const labs = labsOf(run.child.pid!);
    expect(
      labs.flatMap(({ namespaces }) => namespaces),
      run.output(),
    ).toHaveLength(3);
    run.child.kill('SIGINT');
    expect(await run.ended).not.toBe(0);
    for (const { directory: files, namespaces } of labs) {
      for (const namespace of namespaces) expect(existsSync(`/run/netns/${namespace}`)).toBe(false);
      expect(existsSync(files)).toBe(false);
    }
  });

  it('names the benchmarks there are when it is given none, or one that is not', async () => {
    const list = bench();
    expect(await list.ended).toBe(0);
    expect(list.output()).toMatch(/relay: .*\n {2}cases: .*esp-100B-down/);
    const unknown = bench('rleay');
    expect(await unknown.ended).toBe(2);
    expect(unknown.output()).toContain('rleay is not a benchmark; give one of: relay, handover');
  });
});
