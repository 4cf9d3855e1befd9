import type { Redis } from 'ioredis';

/** A replica hears no more of the anchor `id` from now on, and is promoted when the answer is called. */
export async function cutOff(redis: Redis, id: string): Promise<() => Promise<void>> {
  const keysNow = async () => (await redis.keys('*')).filter((key) => key.includes(`{a:${id}}`));
  const keys = await keysNow();
  const replica = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
  return async () => {
    await redis.del(...(await keysNow()));
    await Promise.all(keys.map((key, at) => redis.restore(key, 0, replica[at] as Buffer)));
    await redis.set('test:server', `second ${id}`);
  };
}
