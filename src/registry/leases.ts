import { randomBytes } from 'node:crypto';
import type { Lease } from '../protocol/lease.ts';
import { activating } from './activating.ts';
import { askAnchor } from './asking.ts';
import type { Connection, Random } from './connection.ts';
import { deviceKeys, poolKey } from './keys.ts';
import { leaseFrom, packed, sessionFrom, unpacked } from './records.ts';
import { anchorOf, type EndedEvent, type Registry } from './registry.ts';
import { isOutOfMemory } from './sending.ts';

type Leases = Pick<
  Registry,
  'activate' | 'withdraw' | 'extend' | 'free' | 'revoke' | 'attach' | 'sweep' | 'stretch'
>;

/** Leases whose ends one script puts off. */
const STRETCHED_AT_ONCE = 32;
/** Leases that one script ends at most, however many are asked for: what else Redis has to do waits for that long. */
const ENDED_AT_ONCE = 16;

/** What happens to a lease once it is granted. */
export function leaseCommands(connection: Connection): Leases {
  /** Only spares the index a repair: what it says is never believed against the anchor. */
  const forget = (lease: Lease) => connection.run('forget', deviceKeys(lease.device), [lease.id]);

  return {
    ...activating(connection),

    async withdraw(leaseId) {
      const anchor = anchorOf(leaseId);
      const answer = await askAnchor(connection, 'withdraw', anchor, [leaseId], `lease ${leaseId}`);
      const [nowMs, lease] = answer as [number, string?];
      if (lease === undefined) return null;
      const event = ended(lease, 'withdrawn', nowMs);
      await forget(event.lease);
      return event;
    },

    async extend({ leaseId, device, leaseMs, ports, requestId }) {
      const args = [requestId, leaseId, device.tenant, device.id, leaseMs, ports ?? ''];
      const answer = await askAnchor(connection, 'extend', anchorOf(leaseId), args, `lease ${leaseId}`);
      const [nowMs, text] = answer as [number, string];
      const lease = leaseFrom(text, nowMs);
      return { type: 'extended', fence: lease.fence, lease };
    },

    async free({ leaseId, device, requestId }) {
      const args = [requestId, leaseId, device.tenant, device.id];
      const answer = await askAnchor(connection, 'free', anchorOf(leaseId), args, `lease ${leaseId}`);
      const [nowMs, lease] = answer as [number, string];
      const event = ended(lease, 'freed', nowMs);
      await forget(event.lease);
      return event;
    },

    async revoke({ leaseId, tenant = '' }) {
      const args = [leaseId, tenant];
      const answer = await askAnchor(connection, 'revoke', anchorOf(leaseId), args, `lease ${leaseId}`);
      const [nowMs, lease] = answer as [number, string];
      const event = ended(lease, 'revoked', nowMs);
      await forget(event.lease);
      return event;
    },

    async attach({ leaseId, device, thumbprint }) {
      const random = () => packed(hex128(connection.random));
      const args = [leaseId, device.tenant, device.id, thumbprint, random(), random()];
      const answer = await askAnchor(connection, 'attach', anchorOf(leaseId), args, `lease ${leaseId}`);
      const [nowMs, lease, session, replaced] = answer as [number, string, string, string];
      return {
        lease: leaseFrom(lease, nowMs),
        session: sessionFrom(session),
        ...(replaced === '' ? {} : { replaced: unpacked(replaced) }),
      };
    },

    async sweep(anchor, epoch, limit, latestMs) {
      const answer = await askAnchor(connection, 'sweep', anchor, [
        ...[epoch, Math.min(limit, ENDED_AT_ONCE), latestMs ?? ''],
      ]);
      const [nowMs, free, more, ...pairs] = answer as [number, number, number, ...string[]];
      const swept: EndedEvent[] = [];
      for (let at = 0; at < pairs.length; at += 2) {
        swept.push(ended(pairs[at]!, pairs[at + 1] as EndedEvent['reason'], nowMs));
      }
      return { atMs: nowMs, ended: swept, more: more === 1, free };
    },

    async stretch(anchor, epoch, stretched) {
      for (let at = 0; at < stretched.length; at += STRETCHED_AT_ONCE) {
        const some = stretched.slice(at, at + STRETCHED_AT_ONCE);
        const args = some.flatMap(({ id, remainingMs }) => [id, Math.round(remainingMs)]);
        await askAnchor(connection, 'stretch', anchor, [epoch, ...args]);
      }
    },
  };
}

/** 128 random bits in hexadecimal. */
export function hex128(random: Random = randomBytes): string {
  return random(16).toString('hex');
}

function ended(text: string, reason: EndedEvent['reason'], nowMs: number): EndedEvent {
  const lease = leaseFrom(text, nowMs);
  return { type: 'ended', fence: lease.fence, lease, reason };
}

/** Notes how many slots of an anchor are free: where the next device of the pool looks first. */
export async function noteFree(
  connection: Connection,
  pool: string,
  anchor: string,
  free: number,
): Promise<void> {
  try {
    await connection.plain((redis) => redis.zadd(poolKey(pool), 'XX', free, anchor));
  } catch (error) {
    // A server without memory takes no hint, and what the hint is of has happened.
    if (!isOutOfMemory(error)) throw error;
  }
}

/** Whether every anchor of a pool has said that nothing is free. */
export async function isFull(connection: Connection, pool: string): Promise<boolean> {
  const some = await connection.plain((redis) =>
    redis.zrevrangebyscore(poolKey(pool), '+inf', '(0', 'LIMIT', 0, 1),
  );
  return some.length === 0;
}
