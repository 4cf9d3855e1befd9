import { mkdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { Redis } from 'ioredis';
import type { Lab, Namespace } from '../../lab/lab.ts';

/** A Redis of the benchmark's own on a unix socket: append-only file, written out every second. */
export interface BenchRedis {
  readonly socket: string;
  /** Memory of the data, octets (used_memory). */
  memory(): Promise<number>;
  /** Forgets everything. */
  empty(): Promise<void>;
  close(): Promise<void>;
}

const READY_WITHIN_MS = 10_000;

export async function startBenchRedis(lab: Lab, namespace: Namespace, name: string): Promise<BenchRedis> {
  const directory = lab.file(name);
  mkdirSync(directory, { mode: 0o700 });
  const socket = `${directory}/redis.sock`;
  await lab.spawn(
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
    async memory() {
      const info = await redis.info('memory');
      return Number(/^used_memory:(\d+)/m.exec(info)?.[1]);
    },
    async empty() {
      await redis.flushall('SYNC');
    },
    async close() {
      redis.disconnect();
    },
  };
}
