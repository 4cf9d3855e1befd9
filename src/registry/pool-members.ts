import { MooringError } from '../protocol/errors.ts';
import type { Connection } from './connection.ts';
import { poolKey, poolPolicyKey, poolRevisionKey, poolsKey, spaceKeys } from './keys.ts';
import type { Registry } from './registry.ts';
import { takeSpace } from './space.ts';

const fieldOf = (anchor: string) => `anchor:${anchor}`;

/**
 * Which pools there are, which anchors they have, and which addresses these have: beside the anchors, in slots of their
 * own, so that a fail-over or a process that is killed between two of them may leave them at odds.
 */
export interface PoolMembers {
  /** In order. */
  names(): Promise<readonly string[]>;
  /** In order; one that is being removed may be among them. */
  anchorIds(pool: string): Promise<readonly string[]>;
  /** Notes that these are all the addresses of an anchor. Throws ERR_MOORING_OVERLAP when another has one of them. */
  take(anchor: string, prefixes: readonly string[]): Promise<void>;
  add(pool: string, anchor: string): Promise<void>;
  /** Whether addresses and pool of an anchor are noted. */
  has(pool: string, anchor: string): Promise<boolean>;
  /** Forgets an anchor that is gone, and a pool that was retired with its last one. Idempotent. */
  strike(pool: string, anchor: string): Promise<void>;
  /** Forgets a pool that has no anchor left. */
  endIfEmpty(pool: string): Promise<void>;
  /** Nodes that look for changes find one. */
  changed(): Promise<void>;
}

/** All anchors that a pool may have leases on: those that are being retired too. */
export async function anchorsOf(connection: Connection, pool: string): Promise<string[]> {
  const [granting, noted] = await Promise.all([
    connection.plain((redis) => redis.zrevrange(poolKey(pool), 0, -1)),
    connection.plain((redis) => redis.hkeys(poolPolicyKey(pool))),
  ]);
  const prefix = fieldOf('');
  const declared = noted.flatMap((field) => (field.startsWith(prefix) ? field.slice(prefix.length) : []));
  return [...new Set([...granting, ...declared])];
}

export function poolMembers(
  connection: Connection,
  anchors: Pick<Registry, 'anchor'>,
  isRetiring: (pool: string) => Promise<boolean>,
): PoolMembers {
  const names = async () => (await connection.plain((redis) => redis.smembers(poolsKey()))).sort();
  const isListed = async (pool: string, anchor: string) =>
    (await connection.plain((redis) => redis.hexists(poolPolicyKey(pool), fieldOf(anchor)))) === 1;
  const anchorIds = async (pool: string) =>
    (await connection.plain((redis) => redis.hkeys(poolPolicyKey(pool))))
      .filter((field) => field.startsWith(fieldOf('')))
      .map((field) => field.slice(fieldOf('').length))
      .sort();

  async function strike(pool: string, anchor: string): Promise<void> {
    await takeSpace(connection, anchor, []);
    await connection.plain((redis) => redis.hdel(poolPolicyKey(pool), fieldOf(anchor)));
    if (await isRetiring(pool)) await endIfEmpty(pool);
  }

  async function endIfEmpty(pool: string): Promise<void> {
    if ((await anchorIds(pool)).length > 0) return;
    await connection.plain((redis) => redis.srem(poolsKey(), pool));
    await connection.plain((redis) => redis.del(poolPolicyKey(pool)));
  }

  /** An anchor that is listed and not there was removed, and whoever removed it was killed before it was struck out. */
  async function strikeIfGone(anchor: string): Promise<boolean> {
    if ((await anchors.anchor(anchor)) !== null) return false;
    for (const pool of await names()) {
      if (!(await isListed(pool, anchor))) continue;
      await strike(pool, anchor);
      return true;
    }
    return false;
  }

  return {
    names,
    anchorIds,

    async take(anchor, prefixes) {
      for (;;) {
        try {
          await takeSpace(connection, anchor, prefixes);
          return;
        } catch (error) {
          const other = error instanceof MooringError ? error.data.other : undefined;
          if (typeof other !== 'string' || !(await strikeIfGone(other))) throw error;
        }
      }
    },

    async add(pool, anchor) {
      await connection.plain((redis) => redis.hset(poolPolicyKey(pool), fieldOf(anchor), ''));
    },

    async has(pool, anchor) {
      const [, ofAnchors = ''] = spaceKeys();
      const hasSpace = (await connection.plain((redis) => redis.hexists(ofAnchors, anchor))) === 1;
      return hasSpace && (await isListed(pool, anchor));
    },

    strike,
    endIfEmpty,

    async changed() {
      await connection.plain((redis) => redis.incr(poolRevisionKey()));
    },
  };
}
