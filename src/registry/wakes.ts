import { Cluster } from 'ioredis';
import type { Logger } from 'pino';
import type { Connection } from './connection.ts';
import { wakeChannel } from './keys.ts';
import type { RedisClient } from './reaching.ts';

export interface Wakes {
  /** Calls `wake` whenever something may have happened on an anchor; a wake-up can be lost. Returns what ends it. */
  watch(anchor: string, wake: () => void): Promise<() => Promise<void>>;
  close(): Promise<void>;
}

/** One listening connection to each server that has a watched anchor; opened by the first listener. */
export function wakeListener(connection: Connection, log: Logger): Wakes {
  const listeners = new Map<string, Set<() => void>>();
  let listening: RedisClient | undefined;

  const open = () => {
    if (listening !== undefined) return listening;
    // A cluster's client listens beside its other work, by further connections.
    const { redis } = connection;
    listening = redis instanceof Cluster ? redis : redis.duplicate();
    if (listening !== redis) {
      listening.on('error', (error) => log.debug({ err: error.message }, 'registry wake-ups'));
    }
    if (!(listening instanceof Cluster)) {
      const alone = listening;
      // Nothing is asked on it, so nothing would show that the server which it listens to is gone.
      redis.on('ready', () => alone.status === 'ready' && alone.disconnect(true));
    }
    listening.on('smessage', (channel: string) => {
      for (const wake of listeners.get(channel) ?? []) wake();
    });
    return listening;
  };

  return {
    async watch(anchor, wake) {
      const channel = wakeChannel(anchor);
      const redis = open();
      const wakes = listeners.get(channel) ?? new Set();
      listeners.set(channel, wakes);
      wakes.add(wake);
      const end = async () => {
        wakes.delete(wake);
        if (wakes.size > 0 || !listeners.delete(channel)) return;
        // A wake-up too many harms nobody.
        await redis.sunsubscribe(channel).catch((error: Error) => log.debug({ err: error.message, channel }));
      };
      try {
        await connection.plain(() => redis.ssubscribe(channel));
      } catch (error) {
        await end();
        throw error;
      }
      return end;
    },
    async close() {
      listeners.clear();
      if (listening !== connection.redis) listening?.disconnect();
    },
  };
}
