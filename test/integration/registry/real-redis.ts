import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Redis } from 'ioredis';
import pino from 'pino';

export const silent = pino({ level: 'silent' });

export interface RealRedis {
  readonly socket: string;
  readonly process: ChildProcess;
  client(): Redis;
  stop(): Promise<void>;
}

/** A Redis of the test's own: a unix socket in a temporary directory, no file kept. */
export function realRedis(...settings: string[]): Promise<RealRedis> {
  return realServer('redis-server', ...settings);
}

/** The same of another program, Valkey's. */
export async function realServer(program: string, ...settings: string[]): Promise<RealRedis> {
  const folder = await mkdtemp(join(tmpdir(), 'mooring-redis-'));
  const socket = join(folder, 'redis.sock');
  const server = spawn(
    program,
    ['--port', '0', '--unixsocket', socket, '--dir', folder, '--save', '', ...settings],
    { stdio: 'ignore' },
  );
  const clients: Redis[] = [];
  const client = () => {
    const redis = new Redis(socket, { retryStrategy: () => 20 });
    redis.on('error', () => undefined);
    clients.push(redis);
    return redis;
  };
  await until(async () => (await client().ping()) === 'PONG');
  return {
    socket,
    process: server,
    client,
    async stop() {
      for (const one of clients) one.disconnect();
      const ended = server.exitCode === null && server.signalCode === null ? once(server, 'exit') : undefined;
      server.kill('SIGKILL');
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Polls until `holds`, for at most ten seconds. */
export async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    if (await holds()) return;
    if (Date.now() > deadline) throw new Error(`did not come to hold: ${holds}`);
    await wait(10);
  }
}
