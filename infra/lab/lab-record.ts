/**
 * What a lab has made, written to disk before it is made, so that a later run can remove what a killed one left.
 * Everything here is synchronous: it must also work from a signal handler and from `process.on('exit')`.
 */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';

export const STATE_DIRECTORY = '/run/mooring-lab';
const NAMESPACE_DIRECTORY = '/run/netns';

/** A process is the same one only if pid and start time agree: pids are reused. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Field 22 of /proc/PID/stat, in clock ticks since boot. */
  readonly startTicks: string;
}

export interface LabRecord {
  readonly id: string;
  readonly owner: ProcessIdentity;
  readonly directory: string;
  readonly namespaces: string[];
  /** Leaders of process groups. */
  readonly processes: ProcessIdentity[];
}

interface ProcessStatus {
  readonly state: string;
  readonly startTicks: string;
}

function statusOf(pid: number): ProcessStatus | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // The command name may contain spaces and parentheses: fields start behind the last one.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '?', startTicks: fields[19] ?? '?' };
  } catch {
    return undefined;
  }
}

/** @throws Error if there is no such process */
export function identify(pid: number): ProcessIdentity {
  const status = statusOf(pid);
  if (!status) throw new Error(`process ${pid} does not exist`);
  return { pid, startTicks: status.startTicks };
}

/** True while that very process runs; a zombie counts as gone. */
export function isAlive(identity: ProcessIdentity): boolean {
  const status = statusOf(identity.pid);
  return status !== undefined && status.startTicks === identity.startTicks && status.state !== 'Z';
}

const recordPath = (id: string) => path.join(STATE_DIRECTORY, `${id}.json`);

/** Whether a lab of this id exists, of whatever process. */
export const isRecorded = (id: string): boolean => existsSync(recordPath(id));

/** Replaces the record on disk in one step. */
export function writeRecord(record: LabRecord): void {
  const temporary = `${recordPath(record.id)}.new`;
  for (let attempt = 1; ; attempt++) {
    mkdirSync(STATE_DIRECTORY, { recursive: true });
    try {
      writeFileSync(temporary, JSON.stringify(record));
      break;
    } catch (error) {
      // Another lab that ended just now has removed the empty directory.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT' || attempt === 5) throw error;
    }
  }
  renameSync(temporary, recordPath(record.id));
}

/** Records of all labs on this machine, dead or alive. Unreadable files are removed: they name nothing. */
function readRecords(): LabRecord[] {
  if (!existsSync(STATE_DIRECTORY)) return [];
  const records: LabRecord[] = [];
  for (const name of readdirSync(STATE_DIRECTORY)) {
    if (!name.endsWith('.json')) continue;
    try {
      records.push(JSON.parse(readFileSync(path.join(STATE_DIRECTORY, name), 'utf8')) as LabRecord);
    } catch {
      rmSync(path.join(STATE_DIRECTORY, name), { force: true });
    }
  }
  return records;
}

/** Every process whose network namespace is one of these, whatever process group it fled to. */
function processesInside(namespaces: readonly string[]): ProcessIdentity[] {
  const inodes = new Set<string>();
  for (const name of namespaces) {
    try {
      inodes.add(`net:[${statSync(path.join(NAMESPACE_DIRECTORY, name)).ino}]`);
    } catch {
      // Recorded but not yet made.
    }
  }
  if (inodes.size === 0) return [];
  const found: ProcessIdentity[] = [];
  for (const entry of readdirSync('/proc')) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (inodes.has(readlinkSync(`/proc/${pid}/ns/net`))) found.push(identify(pid));
    } catch {
      // Ended meanwhile, or a kernel thread.
    }
  }
  return found;
}

function pauseMs(durationMs: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, durationMs);
}

function signalAll(record: LabRecord, signal: NodeJS.Signals): ProcessIdentity[] {
  const alive = [...record.processes, ...processesInside(record.namespaces)].filter(isAlive);
  for (const { pid } of alive) {
    for (const target of [-pid, pid]) {
      try {
        process.kill(target, signal);
      } catch {
        // No such group, or ended meanwhile.
      }
    }
  }
  return alive;
}

/**
 * Removes everything that the record names: processes, namespaces with their interfaces and routes, files, the record.
 * Repeating it is harmless.
 *
 * @param graceMs how long processes get between SIGTERM and SIGKILL
 * @throws Error naming what could not be removed
 */
export function destroy(record: LabRecord, graceMs = 500, keepDirectory = false): void {
  let alive = signalAll(record, 'SIGTERM');
  for (let waitedMs = 0; alive.length > 0 && waitedMs < graceMs; waitedMs += 10) {
    pauseMs(10);
    alive = alive.filter(isAlive);
  }
  // Once more by namespace: a process may have been forked between listing and signal.
  for (let round = 0; round < 100; round++) {
    alive = signalAll(record, 'SIGKILL');
    if (alive.length === 0) break;
    pauseMs(10);
  }
  const present = record.namespaces.filter((name) => existsSync(path.join(NAMESPACE_DIRECTORY, name)));
  if (present.length > 0) {
    const batch = present.map((name) => `netns delete ${name}`).join('\n');
    spawnSync('ip', ['-force', '-batch', '-'], { input: `${batch}\n` });
  }
  if (!keepDirectory) rmSync(record.directory, { recursive: true, force: true });
  const left = [
    ...alive.filter(isAlive).map(({ pid }) => `process ${pid}`),
    ...present
      .filter((name) => existsSync(path.join(NAMESPACE_DIRECTORY, name)))
      .map((n) => `namespace ${n}`),
  ];
  if (left.length > 0) throw new Error(`lab ${record.id} could not remove ${left.join(', ')}`);
  rmSync(recordPath(record.id), { force: true });
  try {
    rmdirSync(STATE_DIRECTORY);
  } catch {
    // Other labs are recorded there.
  }
}

/**
 * Removes labs whose owner no longer runs, for example after SIGKILL. Labs of living processes are left alone.
 *
 * @returns ids of the labs removed
 */
export function cleanStaleLabs(): string[] {
  const removed: string[] = [];
  for (const record of readRecords()) {
    if (isAlive(record.owner)) continue;
    destroy(record, 0);
    removed.push(record.id);
  }
  return removed;
}
