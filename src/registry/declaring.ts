import { contains, parseAddress } from '../protocol/address.ts';
import { askAnchor } from './asking.ts';
import { type Connection, isRefused, type Random } from './connection.ts';
import { anchorKeys, poolKey } from './keys.ts';
import { type CheckedDeclaration, checkDeclaration, type Plan } from './plan.ts';
import { refusalError } from './refusals.ts';
import type { Anchor, AnchorDeclaration, Registry } from './registry.ts';
import { drained, drainingOf, type Resized, resize } from './resizing.ts';

/** Declarations of one anchor at the same time wait for each other so often. */
const DECLARE_ATTEMPTS = 8;
/** Slots that one command looks at: some milliseconds. */
const SLOTS_AT_ONCE = 256;

export interface Declaring {
  declareAnchor: Registry['declareAnchor'];
  /** Throws what `declareAnchor` would be refused for, as things are now. */
  foresee(declaration: AnchorDeclaration): Promise<void>;
  /**
   * An anchor whose owner has brought back the plan of its leases may be declared otherwise, by a file of before: brings
   * both in line as a declaration does, so that what is leased is known, and drained where it is not declared. Null when
   * they are.
   */
  settle(id: string): Promise<Anchor | null>;
  /**
   * Lets go of what nobody holds or just held any more of an anchor's draining prefixes; null when all of a retiring anchor
   * has gone, and the anchor with it.
   */
  finishDraining(anchor: Anchor): Promise<Anchor | null>;
}

/** Changes what an anchor leases, while it leases. */
export function declaring(
  connection: Connection,
  { anchor: described, snapshot }: Pick<Registry, 'anchor' | 'snapshot'>,
): Declaring {
  /** Declares what `next` makes of the plan that is stored, and again when somebody else changed that meanwhile. */
  async function declare(
    declaration: CheckedDeclaration,
    next: (former: Plan | null, nowMs: number) => Resized,
  ): Promise<Anchor> {
    const { id, home, pool, retiring, coolingMs, spiCoolingMs } = declaration;
    const { longestLeaseMs, shortestLeaseMs, maxPortBlock, maxLeasesPerTenant } = declaration;
    const declared = { ...declaration, prefixes: retiring ? [] : declaration.prefixes };
    for (let attempt = 1; ; attempt += 1) {
      const [nowMs, stored] = (await askAnchor(connection, 'layout', id, [])) as [number, string];
      const { plan, draining, isAnew } = next(stored === '' ? null : (JSON.parse(stored) as Plan), nowMs);
      const text = JSON.stringify(plan);
      const answer = await connection.run('declare', anchorKeys(id), [
        ...[stored, text, isAnew ? 1 : 0, JSON.stringify({ ...declared, draining }), home],
        ...[coolingMs, spiCoolingMs, longestLeaseMs, shortestLeaseMs],
        ...[draining.length > 0 ? 1 : 0, connection.quarantineMs, maxPortBlock],
        maxLeasesPerTenant ?? '',
      ]);
      if (isRefused(answer)) {
        if (answer.refused === 'PLAN_MOVED' && attempt < DECLARE_ATTEMPTS) continue;
        throw refusalError(answer.refused, `anchor ${id}`, { data: { anchor: id } });
      }
      if (answer !== '' && answer !== pool) {
        await connection.plain((redis) => redis.zrem(poolKey(String(answer)), id));
      }
      const { capacity } = plan;
      await connection.plain((redis) =>
        retiring ? redis.zrem(poolKey(pool), id) : redis.zadd(poolKey(pool), 'NX', String(capacity), id),
      );
      if (stored !== '' && stored !== text) await setAside(id);
      return { ...declared, draining, capacity };
    }
  }

  /** Takes slots of closed addresses out of what rests, and puts back those of opened ones; how many still cool. */
  async function setAside(id: string): Promise<number> {
    let cursor = '0';
    let stillCool = 0;
    for (;;) {
      const answer = await askAnchor(connection, 'set_aside', id, [cursor, SLOTS_AT_ONCE]);
      const [next, isOver, cooling] = answer as [string, number, number];
      stillCool += cooling;
      if (isOver === 1) return stillCool;
      // All were seen, and the frontier has not come to its end: only that is left to do.
      cursor = next;
    }
  }

  return {
    declareAnchor: (wanted) => {
      const declaration = checkDeclaration(wanted);
      return declare(declaration, (former, nowMs) => {
        const resized = resize(former, declaration, nowMs, () => newKey(connection.random));
        // What a registry drained that has forgotten the anchor since: its slots are the owner's to say (report.lua).
        return former === null ? { ...resized, draining: wanted.draining ?? [] } : resized;
      });
    },

    async foresee(wanted) {
      const declaration = checkDeclaration(wanted);
      const [nowMs, stored] = (await askAnchor(connection, 'layout', wanted.id, [])) as [number, string];
      if (stored === '') {
        resize(null, declaration, nowMs, () => []);
        return;
      }
      const former = JSON.parse(stored) as Plan;
      if (!resize(former, declaration, nowMs, () => []).isAnew) return;
      const answer = await askAnchor(connection, 'occupancy', wanted.id, []);
      const [, held, free] = answer as unknown as [number, number, number];
      if (held > 0 || free < former.capacity || drainingOf(former).length > 0)
        throw refusalError('LEASES_WOULD_BE_ORPHANED', `anchor ${wanted.id}`, {
          data: { anchor: wanted.id },
        });
    },

    async settle(id) {
      const anchor = await described(id);
      if (anchor === null) return null;
      const declaration = checkDeclaration(anchor);
      const [nowMs, stored] = (await askAnchor(connection, 'layout', id, [])) as [number, string];
      const following = (former: Plan | null, atMs: number) =>
        resize(former, declaration, atMs, () => newKey(connection.random));
      if (stored === '' || JSON.stringify(following(JSON.parse(stored), nowMs).plan) === stored) return null;
      return declare(declaration, following);
    },

    async finishDraining(anchor) {
      const { capacity: _, draining, ...declaration } = anchor;
      let now = anchor;
      if (draining.length > 0) {
        if ((await setAside(anchor.id)) > 0) return anchor;
        const held = (await snapshot(anchor.id)).leases.map(({ address }) => parseAddress(address));
        now = await declare(declaration, (former) => {
          if (former === null) throw refusalError('UNDECLARED', `anchor ${anchor.id}`);
          const plan = drained(former, (prefix) => !held.some((address) => contains(prefix, address)));
          return { plan, draining: drainingOf(plan), isAnew: false };
        });
      }
      if (!now.retiring || now.draining.length > 0) return now;
      await askAnchor(connection, 'remove', anchor.id, []);
      return null;
    },
  };
}

/** Of the permutations that spread an anchor's resources. */
function newKey(random: Random): number[] {
  return Array.from({ length: 8 }, () => random(4).readUInt32BE());
}
