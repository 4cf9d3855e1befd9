import { mkdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Lab, Namespace } from '../../lab/lab.ts';

/** A Redis of the benchmark's own on a unix socket: append-only file, written out every second. */
export interface BenchRedis {
  readonly socket: string;
  readonly pid: number;
  /** Memory of the data, octets (used_memory). */
  memory(): Promise<number>;
  /** Forgets everything. */
  empty(): Promise<void>;
  /** Loads a script; resolves with its SHA-1. */
  script(lua: string): Promise<string>;
  close(): void;
}

const READY_WITHIN_MS = 10_000;

export async function startBenchRedis(lab: Lab, namespace: Namespace, name: string): Promise<BenchRedis> {
  const directory = lab.file(name);
  mkdirSync(directory, { mode: 0o700 });
  const socket = `${directory}/redis.sock`;
  const { pid } = await lab.spawn(
    namespace,
    [
      'redis-server',
      ...['--port', '0', '--unixsocket', socket, '--dir', directory, '--save', ''],
      ...['--appendonly', 'yes', '--appendfsync', 'everysec', '--auto-aof-rewrite-percentage', '0'],
    ],
    { label: name },
  );
  const redis = new Redis(socket, { lazyConnect: true, retryStrategy: () => null });
  redis.on('error', () => undefined);
  const deadline = Date.now() + READY_WITHIN_MS;
  while (redis.status !== 'ready') {
    await redis.connect().catch(async (error: Error) => {
      if (Date.now() > deadline) throw error;
      await delay(20);
    });
  }
  return {
    socket,
    pid,
    async memory() {
      return usedMemory(await redis.info('memory'));
    },
    async empty() {
      await redis.flushall('SYNC');
    },
    script: async (lua) => String(await redis.script('LOAD', lua)),
    close: () => redis.disconnect(),
  };
}

/** What a server's INFO says of the memory of its data, octets. */
export function usedMemory(info: string): number {
  return Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
}
