/** The registry's own interface over one server or several: what is measured "at the store". */
import type { RedisShape } from '../../lab/redis-shapes.ts';
import { closedLoop, openLoop, spinning, type Taken } from './load.ts';
import { type BenchRedis, usedMemory } from './server.ts';
import { type Spent, spending } from './spending.ts';
import { openStore, type Store } from './store.ts';

export interface Subject {
  /** Its name in the table. */
  readonly system: string;
  readonly store: Store;
  /** Process ids of its servers. */
  readonly servers: readonly number[];
  /** Memory of the data of all servers, octets. */
  memory(): Promise<number>;
  empty(): Promise<void>;
  close(): Promise<void>;
}

export async function overSocket(system: string, redis: BenchRedis): Promise<Subject> {
  const store = await openStore(redis.socket);
  return {
    system,
    store,
    servers: [redis.pid],
    memory: redis.memory,
    empty: redis.empty,
    close: () => store.close(),
  };
}

/** Over servers on loopback, which it stops in the end. */
export async function overShape(system: string, shape: RedisShape): Promise<Subject> {
  const store = await openStore(shape.url);
  const { servers } = shape;
  return {
    system,
    store,
    servers: servers.map(({ pid }) => pid),
    async memory() {
      const infos = await Promise.all(servers.map((one) => one.call('INFO', 'memory')));
      return infos.reduce<number>((sum, info) => sum + usedMemory(String(info)), 0);
    },
    async empty() {
      await Promise.all(servers.map((one) => one.call('FLUSHALL', 'SYNC')));
    },
    async close() {
      await store.close();
      await shape.stop();
    },
  };
}

/** Operations under way at once. */
export const WIDTH = 200;

/** Full speed for a while, then half of it for as long: what somebody waits who comes when there is room. */
export async function fullAndHalf(
  { servers }: Subject,
  windowMs: number,
  operate: (n: number) => Promise<unknown>,
): Promise<{ readonly full: Spent; readonly half: Taken }> {
  const full = await spending(process.pid, servers, () => closedLoop(WIDTH, { forMs: windowMs }, operate));
  const perSecond = full.perSecond / 2;
  const half = await openLoop(perSecond, Math.floor((perSecond * windowMs) / 1000), spinning, (n) =>
    operate(full.count + n),
  );
  return { full, half };
}
