import type { PathHint } from '../protocol/lease.ts';
import { askAnchor } from './asking.ts';
import type { Connection } from './connection.ts';
import { anchorFrom, type Described, ownerFrom } from './described.ts';
import { holdMs } from './hold.ts';
import { poolKey } from './keys.ts';
import { eventFrom, hintFrom, packed } from './records.ts';
import type { Registry } from './registry.ts';
import { reportCommands } from './reporting.ts';
import { readWhole } from './snapshots.ts';

/** A millisecond's work for Redis. */
const HINTS_AT_ONCE = 1024;

type Anchors = Pick<
  Registry,
  | 'anchor'
  | 'poolAnchors'
  | 'claim'
  | 'renew'
  | 'appoint'
  | 'report'
  | 'bringBack'
  | 'transfer'
  | 'release'
  | 'owner'
  | 'snapshot'
  | 'plan'
  | 'events'
  | 'putHint'
  | 'hints'
>;

/** Anchors as a whole: what they are, who owns them, what has happened on them. */
export function anchorCommands(connection: Connection): Anchors {
  const describe = async (id: string): Promise<Described | null> => {
    try {
      return (await askAnchor(connection, 'describe', id, [])) as unknown as Described;
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ERR_MOORING_UNKNOWN_ANCHOR')
        return null;
      throw error;
    }
  };

  const events: Anchors['events'] = async (anchor, afterId, limit) => {
    const answer = await askAnchor(connection, 'read_events', anchor, [afterId, limit]);
    const [nowMs, counter, pool, entries] = answer as unknown as Events;
    let last = counterOf(afterId);
    for (const [fence] of entries) {
      if (counterOf(fence) !== last + 1n) return { reload: true };
      last += 1n;
    }
    if (entries.length === 0 && BigInt(counter) !== last) return { reload: true };
    return {
      reload: false,
      events: entries.map(([fence, text]) => eventFrom(fence, text, { anchor, pool, nowMs })),
      lastId: entries.at(-1)?.[0] ?? afterId,
    };
  };

  return {
    async anchor(id) {
      const described = await describe(id);
      return described === null ? null : anchorFrom(described);
    },

    poolAnchors: (pool) => connection.plain((redis) => redis.zrange(poolKey(pool), '0', '-1')),

    ...reportCommands(connection),

    async renew(anchor, relay, epoch, ttlMs) {
      const args = [relay, epoch, holdMs(ttlMs)];
      return { remainingMs: (await askAnchor(connection, 'renew', anchor, args)) as number };
    },

    async appoint(anchor, relay, epoch, standby, ttlMs) {
      const args = [relay, epoch, standby?.id ?? '', standby?.boot ?? '', holdMs(ttlMs)];
      await askAnchor(connection, 'appoint', anchor, args);
    },

    async transfer(anchor, fromRelay, epoch, toRelay, toBoot, ttlMs) {
      const args = [fromRelay, epoch, toRelay, toBoot, holdMs(ttlMs)];
      return { epoch: BigInt((await askAnchor(connection, 'transfer', anchor, args)) as string) };
    },

    async release(anchor, relay, epoch) {
      await askAnchor(connection, 'release', anchor, [relay, epoch]);
    },

    async owner(anchor) {
      const described = await describe(anchor);
      return described === null ? null : ownerFrom(described);
    },

    snapshot: (anchor) => readWhole(connection, anchor, (afterId, limit) => events(anchor, afterId, limit)),

    async plan(anchor) {
      const [, plan] = (await askAnchor(connection, 'layout', anchor, [])) as [number, string];
      return plan;
    },

    events,

    async putHint(anchor, epoch, device, { session, deviceBoot, generation, address, port }) {
      const whose = `${device.tenant}/${device.id}`;
      const args = [epoch, packed(session), whose, deviceBoot, generation, address, port];
      await askAnchor(connection, 'put_hint', anchor, args);
    },

    async hints(anchor, sessions) {
      const found: PathHint[] = [];
      for (let at = 0; at < sessions.length; at += HINTS_AT_ONCE) {
        const asked = sessions.slice(at, at + HINTS_AT_ONCE);
        const answer = await askAnchor(connection, 'hints', anchor, asked.map(packed));
        const hints = answer as unknown as readonly (string | null)[];
        for (const [i, session] of asked.entries()) {
          const hint = hints[i];
          if (hint != null) found.push(hintFrom(session, hint));
        }
      }
      return found;
    },
  };
}

/** What read_events.lua returns. */
type Events = readonly [
  nowMs: number,
  counter: string,
  pool: string,
  entries: readonly (readonly [fence: string, event: string])[],
];

function counterOf(fence: string): bigint {
  return BigInt(fence.slice(fence.indexOf('-') + 1));
}
