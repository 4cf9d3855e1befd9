import type { PathHint } from '../protocol/lease.ts';
import { askAnchor } from './asking.ts';
import type { Connection } from './connection.ts';
import { holdMs } from './hold.ts';
import { poolKey } from './keys.ts';
import { eventFrom, heldFrom, hintFrom, leaseText, packed, sessionText } from './records.ts';
import type { Anchor, Owner, Registry } from './registry.ts';

type Anchors = Pick<
  Registry,
  | 'anchor'
  | 'poolAnchors'
  | 'claim'
  | 'renew'
  | 'appoint'
  | 'report'
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

  return {
    async anchor(id) {
      const described = await describe(id);
      return described === null ? null : anchorFrom(described);
    },

    poolAnchors: (pool) => connection.plain((redis) => redis.zrange(poolKey(pool), '0', '-1')),

    async claim(anchor, relay, boot, ttlMs, force = false, knownEpoch = 0n) {
      const args = [relay, boot, holdMs(ttlMs), force ? 1 : 0, knownEpoch];
      const epoch = await askAnchor(connection, 'claim', anchor, args);
      return { epoch: BigInt(epoch as string) };
    },

    async renew(anchor, relay, epoch, ttlMs) {
      const args = [relay, epoch, holdMs(ttlMs)];
      return { remainingMs: (await askAnchor(connection, 'renew', anchor, args)) as number };
    },

    async appoint(anchor, relay, epoch, standby, ttlMs) {
      const args = [relay, epoch, standby?.id ?? '', standby?.boot ?? '', holdMs(ttlMs)];
      await askAnchor(connection, 'appoint', anchor, args);
    },

    async report(anchor, { relay, boot, epoch, counter, hasStandby, leases, sessions, plan = '' }, ttlMs) {
      const args = [
        ...[relay, boot, epoch, counter, holdMs(ttlMs), hasStandby ? 1 : 0],
        ...[JSON.stringify(leases.map(leaseText)), JSON.stringify(sessions.map(sessionText)), plan],
      ];
      return { epoch: BigInt((await askAnchor(connection, 'report', anchor, args)) as string) };
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

    async snapshot(anchor) {
      const snap = (await askAnchor(connection, 'snapshot', anchor, [])) as unknown as Snap;
      const [nowMs, epoch, , , , , , , , lastId, leases, sessions, hints] = snap;
      const described = anchorFrom(snap);
      return {
        anchor: described,
        epoch: BigInt(epoch),
        lastId,
        ...heldFrom(leases, sessions, { anchor, pool: described.pool, nowMs }),
        hints: hintsFrom(hints),
        owner: ownerFrom(snap),
      };
    },

    async plan(anchor) {
      const [, plan] = (await askAnchor(connection, 'layout', anchor, [])) as [number, string];
      return plan;
    },

    async events(anchor, afterId, limit) {
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
    },

    async putHint(anchor, epoch, device, { session, deviceBoot, generation, address, port }) {
      const whose = `${device.tenant}/${device.id}`;
      const args = [epoch, packed(session), whose, deviceBoot, generation, address, port];
      await askAnchor(connection, 'put_hint', anchor, args);
    },

    async hints(anchor) {
      const [, hints] = (await askAnchor(connection, 'hints', anchor, [])) as unknown as [number, string[]];
      return hintsFrom(hints);
    },
  };
}

/** What describe.lua returns, and snapshot.lua begins with. */
type Described = readonly [
  nowMs: number,
  epoch: string,
  owner: string,
  boot: string,
  untilMs: string,
  declaration: string,
  capacity: string,
  standby: string,
  standbyBoot: string,
];

/** What snapshot.lua returns. */
type Snap = readonly [...Described, lastId: string, leases: string[], sessions: string[], hints: string[]];

/** What read_events.lua returns. */
type Events = readonly [
  nowMs: number,
  counter: string,
  pool: string,
  entries: readonly (readonly [fence: string, event: string])[],
];

function anchorFrom([, , , , , declaration, capacity]: Described | Snap): Anchor {
  return { ...(JSON.parse(declaration) as Omit<Anchor, 'capacity'>), capacity: Number(capacity) };
}

function ownerFrom([nowMs, epoch, relay, boot, untilMs, , , standby, standbyBoot]:
  | Described
  | Snap): Owner | null {
  if (relay === '') return null;
  return {
    relay,
    boot,
    epoch: BigInt(epoch),
    remainingMs: Number(untilMs) - nowMs,
    ...(standby === '' ? {} : { standby: { id: standby, boot: standbyBoot } }),
  };
}

/** Of a flat list of session ids and records. */
function hintsFrom(stored: readonly string[]): PathHint[] {
  return stored.flatMap((session, at) => (at % 2 === 0 ? hintFrom(session, stored[at + 1]!) : []));
}

function counterOf(fence: string): bigint {
  return BigInt(fence.slice(fence.indexOf('-') + 1));
}
