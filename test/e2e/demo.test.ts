import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DemoResult } from '../../infra/demo/report.ts';
import { eventually } from './fixture/eventually.ts';
import { missing } from './fixture/requirements.ts';

const PROGRAM = fileURLToPath(new URL('../../infra/demo.mjs', import.meta.url));
const RECORDS = '/run/mooring-lab';
const KINDS = ['make-before-break', 'break-before-make', 'nat-change', 'relay-change'];

describe.skipIf(missing('the demo', 'uml', 'strongswan', 'libreswan'))('npm run demo', () => {
  let folder: string;
  const machine = () =>
    ['link', 'address', 'rule', 'route show table all'].map((what) => ip(...what.split(' ')));
  let before: string[];

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mooring-demo-test-'));
    before = machine();
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const ENGINES = missing('the demo in XDP', 'xdp')
    ? (['userspace'] as const)
    : (['xdp', 'userspace'] as const);

  it.each(ENGINES)(
    'keeps every promise by %s, tells so in JSON, and leaves nothing behind',
    async (engine) => {
      const file = join(folder, 'demo.json');
      const demo = start('--engine', engine, '--json', file);
      const lab = await eventually('building its lab', demo.lab, (found) => found !== null, 60_000);
      expect(await demo.ended, demo.output()).toBe(0);
      expect(traces(lab!)).toEqual([]);
      expect(machine()).toEqual(before);

      const result = JSON.parse(readFileSync(file, 'utf8')) as DemoResult;
      expect(result).toMatchObject({ ok: true, engine, faults: [] });
      expect(result.mode).toBe(engine === 'xdp' ? 'native' : null);
      expect(demo.output()).toContain(engine === 'xdp' ? 'engine: xdp, native mode' : 'engine: userspace');
      expect(result.devices).toHaveLength(3);
      for (const { name, lease, moves } of result.devices) {
        const whole = lease.kind === 'rsa-ip';
        expect(lease.address, name).toMatch(/^198\.51\.100\.\d+$/);
        const range = { first: expect.any(Number), count: expect.any(Number) };
        expect(lease.ports, name).toEqual(whole ? null : range);
        expect(lease.spis, name).toEqual(whole ? null : range);
        expect(lease.bindId, name).toBeGreaterThan(0);
        expect(moves.map(({ kind }) => kind)).toEqual(KINDS);
        for (const move of moves) {
          for (const field of [
            'sent',
            'received',
            'lost',
            'duplicated',
            'reordered',
            'gapMs',
            'linkRttMs',
          ] as const) {
            expect(move[field], `${name} ${move.kind} ${field}`).toBeGreaterThanOrEqual(0);
          }
          expect(move.sent - move.received, `${name} ${move.kind}`).toBe(move.lost);
          expect(move.linkRttMs, `${name} ${move.kind}`).toBeGreaterThan(0);
        }
      }
      const shared = result.devices.filter(({ lease }) => lease.ports !== null);
      expect(new Set(shared.map(({ lease }) => lease.address)).size).toBe(1);
      expect(result.peer.sourceAddresses).toEqual(
        [...new Set(result.devices.map(({ lease }) => lease.address))].sort(),
      );
      expect(result.peer.ikeOrSaChanges).toBe(0);
      expect(result.peer.rekeys.map(({ device, of, by }) => `${device} ${of} ${by}`)).toEqual([
        ...['alice child device', 'alice ike device'],
        ...['bob child peer', 'bob ike peer'],
        ...['carol child peer', 'carol ike peer'],
      ]);
      expect(result.relay).toMatchObject({ different: 0, ttlSteps: [1] });
    },
    120_000,
  );

  it.each(['SIGINT', 'SIGTERM'] as const)(
    'leaves nothing behind when it is ended by %s',
    async (signal) => {
      const demo = start();
      await eventually('starting its programs', demo.said, (text) => text.includes('r1 and r2'), 60_000);
      const lab = demo.lab();
      expect(traces(lab!).length).toBeGreaterThan(5);
      demo.process.kill(signal);
      expect(await demo.ended).not.toBe(0);
      expect(traces(lab!)).toEqual([]);
      expect(machine()).toEqual(before);
    },
    90_000,
  );

  // --- the steps -------------------------------------------------------------------------------------

  interface Demo {
    readonly process: ChildProcess;
    /** Resolves with the exit status. */
    readonly ended: Promise<number | null>;
    output(): string;
    /** The same, while it runs; throws when it has ended. */
    said(): string;
    /** The record of its lab, once there is one. */
    lab(): LabRecord | null;
  }

  interface LabRecord {
    readonly id: string;
    readonly directory: string;
    readonly owner: { readonly pid: number };
  }

  function start(...args: string[]): Demo {
    const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8');
      stream.on('data', (text: string) => {
        output += text;
      });
    }
    return {
      process: child,
      ended: new Promise((resolve) => child.once('exit', resolve)),
      output: () => output,
      said() {
        if (child.exitCode !== null) throw new Error(`the demo ended with ${child.exitCode}:\n${output}`);
        return output;
      },
      lab: () => records().find(({ owner }) => parentOf(owner.pid) === child.pid) ?? null,
    };
  }

  function records(): LabRecord[] {
    if (!existsSync(RECORDS)) return [];
    return readdirSync(RECORDS).flatMap((name) => {
      try {
        return [JSON.parse(readFileSync(join(RECORDS, name), 'utf8')) as LabRecord];
      } catch {
        // Being written or removed right now.
        return [];
      }
    });
  }

  /** What is left of a lab: its record, its directory, its namespaces, and every process that works in it. */
  function traces({ id, directory }: LabRecord): string[] {
    const namespaces = ip('netns', 'list')
      .split('\n')
      .filter((line) => line.startsWith(`${id}-`));
    const programs = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .filter((pid) => read(() => readlinkSync(`/proc/${pid}/cwd`)).startsWith(directory))
      .map((pid) => `process ${pid}: ${read(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'))}`);
    return [
      ...records().flatMap((record) => (record.id === id ? [`record ${id}`] : [])),
      ...(existsSync(directory) ? [directory] : []),
      ...namespaces,
      ...programs,
    ];
  }

  function parentOf(pid: number): number {
    return Number(/^PPid:\s*(\d+)/m.exec(read(() => readFileSync(`/proc/${pid}/status`, 'utf8')))?.[1]);
  }

  function ip(...args: string[]): string {
    return execFileSync('ip', args, { encoding: 'utf8' });
  }

  /** Empty when the process ended meanwhile. */
  function read(from: () => string): string {
    try {
      return from();
    } catch {
      return '';
    }
  }
});
