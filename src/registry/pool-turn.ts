import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { MooringError } from '../protocol/errors.ts';
import { monotonicMs } from '../telemetry/clock.ts';
import type { Connection } from './connection.ts';
import { poolTurnKey } from './keys.ts';

/** A turn that is not given back, because its holder is gone, ends by itself: milliseconds. */
const TURN_MS = 15_000;
/** After this time it may be another's before a word of ours arrives. */
const GIVE_BACK_MS = 10_000;
const WAIT_MS = 5_000;
const LOOK_EVERY_MS = 50;

/** Operators take turns at a pool. */
export interface PoolTurns {
  /**
   * Runs `work` while nobody else changes the pool in this way, so that it may read, decide and write. It keeps operators
   * from overwriting each other; no lease depends on it. ERR_MOORING_POOL_BUSY, temporary, when others take too long.
   */
  changing<T>(pool: string, work: () => Promise<T>): Promise<T>;
}

export function poolTurns(connection: Connection): PoolTurns {
  return {
    async changing(pool, work) {
      const key = poolTurnKey(pool);
      const token = randomBytes(16).toString('hex');
      const deadlineMs = monotonicMs() + WAIT_MS;
      for (;;) {
        const taken = await connection.plain((redis) => redis.set(key, token, 'PX', TURN_MS, 'NX'));
        // A first sending whose answer was lost has taken it.
        if (taken === 'OK' || (await connection.plain((redis) => redis.get(key))) === token) break;
        if (monotonicMs() > deadlineMs) {
          throw new MooringError(
            'ERR_MOORING_POOL_BUSY',
            `pool ${pool}: somebody else has been changing it for ${WAIT_MS / 1000} s; try again`,
            { temporary: true, retryAfterMs: 1_000, data: { pool } },
          );
        }
        await delay(LOOK_EVERY_MS);
      }
      const sinceMs = monotonicMs();
      try {
        return await work();
      } finally {
        if (monotonicMs() - sinceMs < GIVE_BACK_MS) await connection.plain((redis) => redis.del(key));
      }
    },
  };
}
