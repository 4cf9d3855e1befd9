import type { AnchorSettings } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Declaring } from './declaring.ts';
import { SPI_COOLING_MS } from './plan.ts';
import type { PoolMembers } from './pool-members.ts';
import type { PoolPolicy } from './pools.ts';
import { disjoint } from './prefix-sets.ts';
import { type Anchor, type AnchorDeclaration, deliveredPrefixes, type Registry } from './registry.ts';
import { hostPrefix } from './space.ts';

/** What an anchor is to become. */
export interface AnchorChange {
  readonly declaration: AnchorDeclaration;
  readonly known: Anchor | null;
}

/**
 * Changes of several anchors that belong together: first it is seen whether each can be, then all their addresses are
 * taken, and only then is anything declared. So what is refused changes nothing.
 */
export interface AnchorChanges {
  /** Throws what the change would be refused for, as things are now. */
  foresee(policy: PoolPolicy, anchor: AnchorSettings): Promise<AnchorChange>;
  /** Makes them; calls `done` after each. */
  carryOut(changes: readonly AnchorChange[], done: (anchor: string) => Promise<void>): Promise<void>;
}

export function anchorChanges(
  anchors: Pick<Registry, 'anchor'> & Declaring,
  members: PoolMembers,
): AnchorChanges {
  /** What it had and what it is to have, until it has it: nobody else gets either meanwhile. */
  const reserve = ({ declaration, known }: AnchorChange) => {
    const prefixes = [...declaration.prefixes, ...(known === null ? [] : deliveredPrefixes(known))];
    return members.take(declaration.id, spaceOf({ ...declaration, prefixes }));
  };
  const release = ({ declaration, known }: AnchorChange) =>
    members.take(declaration.id, known === null ? [] : spaceWith(known)).catch(() => undefined);

  return {
    async foresee(policy, anchor) {
      const declaration = declarationOf(policy, anchor);
      const known = await anchors.anchor(anchor.id);
      if (known !== null && known.pool !== policy.name) throw anchorTaken(known);
      await anchors.foresee(declaration);
      return { declaration, known };
    },

    async carryOut(changes, done) {
      const reserved: AnchorChange[] = [];
      try {
        for (const change of changes) {
          await reserve(change);
          reserved.push(change);
        }
        for (const change of changes) {
          const declared = await anchors.declareAnchor(change.declaration);
          reserved.shift();
          await members.take(declared.id, spaceWith(declared));
          await members.add(declared.pool, declared.id);
          await done(declared.id);
        }
      } catch (error) {
        // Without an answer it may have been done all the same: then it has these addresses.
        const mayBeDone = error instanceof MooringError && error.code === 'ERR_MOORING_REGISTRY_UNAVAILABLE';
        if (!mayBeDone) for (const change of reserved) await release(change);
        throw error;
      }
    },
  };
}

/** What the anchors of a pool share, said of each. */
export function declarationOf(pool: PoolPolicy, anchor: AnchorSettings): AnchorDeclaration {
  const { id, home, endpoints, prefixes } = anchor;
  const { max, min = max } = pool.leaseMs;
  return {
    ...{ id, home, endpoints, prefixes },
    pool: pool.name,
    sharing: pool.sharing,
    coolingMs: pool.coolingMs,
    longestLeaseMs: max,
    shortestLeaseMs: min,
    maxLeasesPerTenant: pool.maxLeasesPerTenant ?? null,
    retiring: pool.retire === true || anchor.retire === true,
    ...(pool.sharing === 'whole'
      ? {}
      : {
          portBlock: pool.portBlock,
          maxPortBlock: pool.maxPortBlock ?? pool.portBlock,
          spiBlock: pool.spiBlock,
          spiCoolingMs: pool.spiCoolingMs ?? Math.max(SPI_COOLING_MS, pool.coolingMs),
        }),
  };
}

/** All addresses that an anchor keeps others from having, none twice. */
export function spaceOf({ prefixes, endpoints }: Pick<Anchor, 'prefixes' | 'endpoints'>): readonly string[] {
  return [...disjoint(prefixes), ...endpoints.map(hostPrefix)];
}

/** The same of a declared one, with what it drains. */
export function spaceWith(anchor: Anchor): readonly string[] {
  return spaceOf({ ...anchor, prefixes: deliveredPrefixes(anchor) });
}

function anchorTaken({ id, pool }: Anchor): MooringError {
  return new MooringError(
    'ERR_MOORING_ANCHOR_TAKEN',
    `anchor ${id} is pool ${pool}'s; give this one another id, or retire that one first and wait until it has gone`,
    { rsip: 205, data: { anchor: id, pool, field: 'anchors' } },
  );
}
