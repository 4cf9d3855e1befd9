import type { Device, Lease } from '../protocol/lease.ts';
import { askAnchor } from './asking.ts';
import { type Connection, isRefused } from './connection.ts';
import { anchorKeys, deviceKeys } from './keys.ts';
import { anchorsOf } from './pool-members.ts';
import { leaseFrom } from './records.ts';
import { refusalError } from './refusals.ts';
import { anchorOf, type Registry } from './registry.ts';

/** Devices told at once. */
const REINDEX_BATCH = 32;
/** Lease ids forgotten a command. */
const FORGET_BATCH = 256;
/** Anchors asked at once. */
const ASKED_AT_ONCE = 64;

/** What a device's own slot says of its leases: only ever what anchors say. */
export interface DeviceIndex extends Pick<Registry, 'deviceLeases'> {
  /** Notes leases in their devices' indexes. */
  reindex(leases: readonly Lease[]): Promise<void>;
  /**
   * Notes all that the anchors of a pool hold for a device, in an index that may have lost some of it; and has them refuse
   * what is still under way by the word of another index. Rejects, temporarily, while an anchor cannot say.
   */
  makeWhole(device: Device, pool: string, index: string): Promise<void>;
}

export function deviceIndex(connection: Connection): DeviceIndex {
  async function heldOn(device: Device, anchor: string): Promise<Lease[]> {
    const answer = await askAnchor(connection, 'held_on', anchor, [device.tenant, device.id]);
    const [nowMs, ...leases] = answer as [number, ...string[]];
    return leases.map((json) => leaseFrom(json, nowMs));
  }

  const noted = (device: Device, pool: string, held: readonly Lease[], wholeIn: string) =>
    connection.run('reindex', deviceKeys(device), [
      ...[pool, Math.max(0, ...held.map(({ bindId }) => bindId)), wholeIn],
      ...held.map(({ id }) => id),
    ]);

  return {
    async deviceLeases(device, alsoAt) {
      const answer = await connection.run('held_by', deviceKeys(device), []);
      const [indexed, intended] = answer as unknown as [string[], string[]];
      const named = [...indexed, ...intended].map(anchorOf);
      const anchors = [...new Set(alsoAt === undefined ? named : [...named, alsoAt])];
      const held = (await Promise.all(anchors.map((anchor) => heldOn(device, anchor)))).flat();
      const ids = new Set(held.map((lease) => lease.id));
      for (const { id, pool } of held) {
        if (!indexed.includes(id)) await connection.run('confirm', deviceKeys(device), [id, pool]);
      }
      const gone = indexed.filter((id) => !ids.has(id));
      for (let at = 0; at < gone.length; at += FORGET_BATCH) {
        await connection.run('forget', deviceKeys(device), gone.slice(at, at + FORGET_BATCH));
      }
      return held;
    },

    async reindex(leases) {
      const byDevice = new Map<string, Lease[]>();
      for (const lease of leases) {
        const name = `${lease.device.tenant}/${lease.device.id}`;
        byDevice.set(name, [...(byDevice.get(name) ?? []), lease]);
      }
      const all = [...byDevice.values()];
      for (let at = 0; at < all.length; at += REINDEX_BATCH) {
        const some = all.slice(at, at + REINDEX_BATCH).map((held) => {
          const { device, pool } = held[0]!;
          return noted(device, pool, held, '');
        });
        await Promise.all(some);
      }
    },

    async makeWhole(device, pool, index) {
      const anchors = await anchorsOf(connection, pool);
      const held: Lease[] = [];
      const ask = async (anchor: string): Promise<void> => {
        const args = [device.tenant, device.id, index];
        const answer = await connection.run('held_on', anchorKeys(anchor), args);
        if (isRefused(answer)) {
          if (answer.refused === 'UNDECLARED') return;
          throw refusalError(answer.refused, `anchor ${anchor}`, { data: { anchor } });
        }
        const [nowMs, ...leases] = answer as [number, ...string[]];
        held.push(...leases.map((json) => leaseFrom(json, nowMs)));
      };
      for (let at = 0; at < anchors.length; at += ASKED_AT_ONCE) {
        await Promise.all(anchors.slice(at, at + ASKED_AT_ONCE).map(ask));
      }
      const answer = await noted(device, pool, held, index);
      if (isRefused(answer)) throw refusalError(answer.refused, `device ${device.id}`);
    },
  };
}
