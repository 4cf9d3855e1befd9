/** A child process of the lab: started in its own process group, output in a file, its end watched. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { Duplex, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface LabProcess {
  readonly label: string;
  readonly pid: number;
  /** File with its standard output and standard error. */
  readonly log: string;
  readonly stdin: Writable;
  /** Both ways, descriptor 3 of the program; only if asked for. */
  readonly control: Duplex | undefined;
  /** Resolves when it has ended; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly running: boolean;
  /** Tells the lab that this process may now end by itself, or is about to be killed. */
  expectEnd(): void;
  /** Sends a signal to the process group; the end it may cause counts as expected. */
  kill(signal: NodeJS.Signals): void;
  /** SIGTERM, then SIGKILL after `graceMs` (default 2,000). Resolves when it has ended. */
  stop(graceMs?: number): Promise<ProcessEnd>;
  /** What it has printed so far. */
  output(): string;
}

export interface ProcessOptions {
  readonly label: string;
  readonly log: string;
  readonly env?: NodeJS.ProcessEnv;
  readonly directory: string;
  /** The process may end with status 0 by itself. */
  readonly mayEnd?: boolean;
  /** Open a control channel on descriptor 3. */
  readonly control?: boolean;
}

/** Ticks of /proc/PID/stat: Linux shows 100 a second to programs, whatever the kernel's own. */
const TICK_MS = 10;

/** Processor time, user and kernel, of a running process in milliseconds, to 10 ms. */
export function processorMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * TICK_MS;
}

/** Last lines of a log, for error messages. */
export function tail(text: string, lines = 15): string {
  return text.trimEnd().split('\n').slice(-lines).join('\n');
}

/**
 * @param onUnexpectedEnd called once if it ends while nobody expected it
 * @throws Error if the program cannot be started
 */
export async function startProcess(
  argv: readonly string[],
  options: ProcessOptions,
  onUnexpectedEnd: (error: Error) => void,
): Promise<LabProcess> {
  const [program, ...args] = argv;
  if (!program) throw new Error(`process ${options.label}: the argument list is empty; name a program`);
  const logFile = openSync(options.log, 'a');
  const child: ChildProcess = spawn(program, args, {
    cwd: options.directory,
    env: { ...process.env, ...options.env },
    detached: true,
    stdio: ['pipe', logFile, logFile, ...(options.control ? (['pipe'] as const) : [])],
  });
  closeSync(logFile);
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve);
    child.once('error', (cause) => reject(new Error(`${options.label}: cannot start ${program}`, { cause })));
  });
  const pid = child.pid!;
  const stdin = child.stdin!;
  // A process that died with unread input is reported by its end, not by EPIPE.
  stdin.on('error', () => {});
  const control = options.control ? (child.stdio[3] as Duplex) : undefined;

  let expected = false;
  let running = true;
  const output = () => readFileSync(options.log, 'utf8');
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('exit', (code, signal) => {
      running = false;
      if (!expected && !(options.mayEnd && code === 0)) {
        const how = signal ? `by ${signal}` : `with status ${code}`;
        onUnexpectedEnd(
          new Error(`${options.label} (${program}) ended ${how}; its last output:\n${tail(output())}`),
        );
      }
      resolve({ code, signal });
    });
  });
  const kill = (signal: NodeJS.Signals) => {
    expected = true;
    if (!running) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // It ended between the check and the signal.
    }
  };
  return {
    label: options.label,
    pid,
    log: options.log,
    stdin,
    control,
    ended,
    get running() {
      return running;
    },
    expectEnd() {
      expected = true;
    },
    kill,
    async stop(graceMs = 2_000) {
      kill('SIGTERM');
      const abort = new AbortController();
      const late = delay(graceMs, undefined, { signal: abort.signal }).then(
        () => kill('SIGKILL'),
        () => {},
      );
      const end = await ended;
      abort.abort();
      await late;
      return end;
    },
    output,
  };
}
