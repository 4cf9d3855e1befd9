import type { Roster } from '../registry/pools.ts';
import type { Anchor, Registry } from '../registry/registry.ts';

/** Every anchor that is declared, in the order of their ids. */
export type KnownAnchors = () => Promise<readonly Anchor[]>;

/** Keeps what is declared at hand: while nothing changes, asking costs one word of the registry. */
export function createKnownAnchors(registry: Pick<Registry, 'roster'>): KnownAnchors {
  let known: Roster | null = null;
  let sorted: readonly Anchor[] = [];
  return async () => {
    const changed = await registry.roster(known?.revision);
    if (changed !== null) {
      known = changed;
      sorted = [...changed.anchors].sort((left, right) => (left.id < right.id ? -1 : 1));
    }
    return sorted;
  };
}
