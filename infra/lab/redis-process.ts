/** One redis-server, or sentinel, of a shape: started, stopped, paused and asked by way of a unix socket. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';

const READY_WITHIN_MS = 15_000;
const CALL_TIMEOUT_MS = 2_000;

export interface RedisProcess {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly pid: number;
  /** Started and not ended; a paused one is running. */
  readonly running: boolean;
  /** Runs a command as an operator would on the machine itself: no cut link is in the way. Rejects after 2 s. */
  call(command: string, ...args: readonly (string | number)[]): Promise<unknown>;
  /** Resolves when it answers and has loaded its files. */
  ready(): Promise<void>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<void>;
  /** SIGSTOP: its sockets stay open and nobody answers. */
  pause(): void;
  resume(): void;
  /** Starts it again after `kill` with what its files hold; `empty`: with none (a cluster node keeps its id). */
  restart(options?: { readonly empty?: boolean }): Promise<void>;
  /** Its log so far. */
  log(): string;
  /** Ends it for good. */
  stop(): Promise<void>;
}

export interface RedisProcessOptions {
  readonly name: string;
  readonly address: string;
  readonly port: number;
  readonly directory: string;
  /** Lines of its configuration file. */
  readonly lines: readonly string[];
  readonly sentinel: boolean;
  /** Default: `redis-server`. */
  readonly program?: string | undefined;
  readonly user: { readonly name: string; readonly password: string } | undefined;
}

export function redisProcess({
  name,
  address,
  port,
  directory,
  lines,
  sentinel,
  program = 'redis-server',
  user,
}: RedisProcessOptions): RedisProcess {
  const socket = path.join(directory, 'redis.sock');
  const logFile = path.join(directory, 'redis.log');
  const configFile = path.join(directory, 'redis.conf');
  mkdirSync(directory, { mode: 0o700 });
  const text = [
    ...lines,
    `dir ${directory}`,
    `logfile ${logFile}`,
    `unixsocket ${socket}`,
    'unixsocketperm 700',
  ];
  // A sentinel writes what it learns into this file.
  writeFileSync(configFile, `${text.join('\n')}\n`, { mode: 0o600 });
  let server: ChildProcess;
  let operator: Redis | undefined;

  const launch = () => {
    const words = [program, configFile, ...(sentinel ? ['--sentinel'] : [])];
    // Ends also when whoever started it is killed.
    server = spawn('setpriv', ['--pdeathsig', 'KILL', ...words], { stdio: 'ignore' });
    server.on('error', () => undefined);
  };
  const running = () => server.pid !== undefined && server.exitCode === null && server.signalCode === null;
  const connection = () => {
    operator ??= new Redis(socket, {
      retryStrategy: () => 20,
      maxRetriesPerRequest: null,
      commandTimeout: CALL_TIMEOUT_MS,
      // A replica without its primary loads for ever.
      enableReadyCheck: false,
      ...(user === undefined || sentinel ? {} : { username: user.name, password: user.password }),
    });
    if (operator.listenerCount('error') === 0) operator.on('error', () => undefined);
    return operator;
  };
  const signal = (name: NodeJS.Signals) => {
    if (running()) server.kill(name);
  };
  const kill = async () => {
    if (!running()) return;
    const ended = once(server, 'exit');
    server.kill('SIGKILL');
    await ended;
  };
  const log = () => {
    try {
      return readFileSync(logFile, 'utf8');
    } catch {
      return '';
    }
  };
  const ready = async () => {
    const deadline = Date.now() + READY_WITHIN_MS;
    for (;;) {
      const answer = await connection()
        .call('PING')
        .catch((error: Error) => error.message);
      if (answer === 'PONG' || String(answer).startsWith('MASTERDOWN')) return;
      if (!running() || Date.now() > deadline) {
        throw new Error(`${name} did not come up (${answer}): ${log().split('\n').slice(-6).join('\n')}`);
      }
      await delay(10);
    }
  };
  launch();

  return {
    name,
    address,
    port,
    get pid() {
      if (server.pid === undefined) throw new Error(`${name} could not be started`);
      return server.pid;
    },
    get running() {
      return running();
    },
    call: (command, ...args) => connection().call(command, ...args),
    ready,
    kill,
    pause: () => signal('SIGSTOP'),
    resume: () => signal('SIGCONT'),
    async restart({ empty = false } = {}) {
      await kill();
      if (empty) {
        rmSync(path.join(directory, 'appendonlydir'), { recursive: true, force: true });
        rmSync(path.join(directory, 'dump.rdb'), { force: true });
      }
      launch();
      await ready();
    },
    log,
    async stop() {
      operator?.disconnect();
      await kill();
    },
  };
}
