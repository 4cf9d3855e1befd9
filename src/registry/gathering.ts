import { Cluster, type Redis } from 'ioredis';
import type { RedisClient } from './reaching.ts';

/**
 * From now on all that a turn of the event loop asks of a server leaves in one system call (and one TLS record), where it
 * would have been one a command. Commands still go out one by one in their order, and each has its answer.
 */
export function gatherWrites(client: RedisClient): void {
  if (client instanceof Cluster) client.on('+node', onEachConnection);
  else onEachConnection(client);
}

function onEachConnection(redis: Pick<Redis, 'on' | 'stream'>): void {
  redis.on('connect', () => {
    const { stream } = redis;
    const write = stream.write as (...args: unknown[]) => boolean;
    let gathers = false;
    stream.write = (...args: unknown[]): boolean => {
      if (!gathers) {
        gathers = true;
        stream.cork();
        setImmediate(() => {
          gathers = false;
          stream.uncork();
        });
      }
      return write.apply(stream, args);
    };
  });
}
