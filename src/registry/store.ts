import type { Logger } from 'pino';
import { anchorCommands } from './anchors.ts';
import type { Connection } from './connection.ts';
import { declaring } from './declaring.ts';
import { deviceIndex } from './device-index.ts';
import { grantCommands } from './granting.ts';
import { relayKey, relaysKey } from './keys.ts';
import { leaseCommands, noteFree } from './leases.ts';
import { poolTurns } from './pool-turn.ts';
import { poolCommands } from './pools.ts';
import { registrationCommands } from './registration.ts';
import type { Registry, RelayAnnouncement } from './registry.ts';
import { tenantAllowances } from './tenant-allowances.ts';
import { wakeListener } from './wakes.ts';

/** The registry over a connection; `close` ends what was opened for it. */
export function createStore(connection: Connection, log: Logger, close: () => Promise<void>): Registry {
  const anchors = anchorCommands(connection);
  const changes = declaring(connection, anchors);
  const leases = leaseCommands(connection);
  const index = deviceIndex(connection);
  const allowances = tenantAllowances(connection);
  const wakes = wakeListener(connection, log);
  const pools = new Map<string, string>();
  const relay = async (id: string): Promise<RelayAnnouncement | null> => {
    const text = await connection.plain((redis) => redis.get(relayKey(id)));
    return text === null ? null : (JSON.parse(text) as RelayAnnouncement);
  };

  const reindex = async (anchor: string): Promise<void> =>
    index.reindex((await anchors.snapshot(anchor)).leases);
  const notTold = (anchor: string) => (error: Error) =>
    log.warn({ anchor, error: error.message }, 'devices not told what they hold');

  return {
    ...anchors,
    ...leases,
    ...grantCommands(connection, index, allowances),
    deviceLeases: index.deviceLeases,
    ...registrationCommands(connection, index),
    ...poolCommands(connection, { ...anchors, ...changes }, allowances),
    ...poolTurns(connection),

    async declareAnchor(declaration) {
      const anchor = await changes.declareAnchor(declaration);
      pools.set(anchor.id, anchor.pool);
      return anchor;
    },

    async sweep(anchor, epoch, limit, latestMs) {
      const swept = await leases.sweep(anchor, epoch, limit, latestMs);
      const pool = pools.get(anchor) ?? (await anchors.anchor(anchor))?.pool;
      if (pool !== undefined) {
        pools.set(anchor, pool);
        await noteFree(connection, pool, anchor, swept.free);
      }
      return swept;
    },

    async report(anchor, report, ttlMs) {
      const settled = await anchors.report(anchor, report, ttlMs);
      // The index may have lost the same.
      index.reindex(report.leases).catch(notTold(anchor));
      return settled;
    },

    async bringBack(anchor, known) {
      const isMissing = await anchors.bringBack(anchor, known);
      if (isMissing) reindex(anchor).catch(notTold(anchor));
      return isMissing;
    },

    reindex,

    watch: wakes.watch,

    async announceRelay(announcement, ttlMs) {
      const { id } = announcement;
      await connection.run('announce', [relayKey(id)], [JSON.stringify(announcement), ttlMs]);
      const isListed = await connection.plain((redis) => redis.sismember(relaysKey(), id));
      if (isListed === 0) await connection.plain((redis) => redis.sadd(relaysKey(), id));
    },

    relay,

    async relays() {
      const ids = await connection.plain((redis) => redis.smembers(relaysKey()));
      const found = await Promise.all(ids.map(async (id) => [id, await relay(id)] as const));
      const silent = found.filter(([, announced]) => announced === null).map(([id]) => id);
      // One that comes back in this instant says so again soon.
      if (silent.length > 0) await connection.plain((redis) => redis.srem(relaysKey(), ...silent));
      return found.flatMap(([, announced]) => announced ?? []);
    },

    async close() {
      await wakes.close();
      await close();
    },
  };
}
