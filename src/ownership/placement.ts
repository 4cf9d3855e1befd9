import type { Incarnation } from '../registry/registry.ts';

/** Names an incarnation. */
export const named = ({ id, boot }: Incarnation): string => `${id} ${boot}`;

/**
 * Who is to stand by for each of one owner's anchors: none for more than its share of them, so that what the owner carries is
 * spread evenly when it is lost. Whoever stands by stays while it is announced and within its share; the others go to the
 * relay whose hash with them is highest among those that have room, and answer. A relay that comes takes its share from
 * all, one that goes leaves its own to all.
 */
export async function place(
  anchors: readonly string[],
  candidates: readonly Incarnation[],
  present: ReadonlyMap<string, Incarnation>,
  answers: (one: Incarnation) => Promise<boolean>,
): Promise<ReadonlyMap<string, Incarnation>> {
  const share = Math.ceil(anchors.length / Math.max(1, candidates.length));
  const carried = new Map<string, number>();
  const carries = (one: Incarnation) => carried.get(named(one)) ?? 0;
  const placed = new Map<string, Incarnation>();
  const put = (anchor: string, one: Incarnation) => {
    placed.set(anchor, one);
    carried.set(named(one), carries(one) + 1);
  };
  const announced = new Set(candidates.map(named));
  const weightOf = (anchor: string) => {
    const standby = present.get(anchor);
    return standby === undefined ? -1 : weight(anchor, standby);
  };
  for (const anchor of anchors.toSorted((one, other) => weightOf(other) - weightOf(one))) {
    const standby = present.get(anchor);
    if (standby !== undefined && announced.has(named(standby)) && carries(standby) < share)
      put(anchor, standby);
  }
  for (const anchor of anchors) {
    if (placed.has(anchor)) continue;
    const standby = present.get(anchor);
    const order = byWeight(anchor, candidates);
    // More than its share rather than nobody.
    for (const one of [...order.filter((each) => carries(each) < share), ...order]) {
      // A relay that was lost stays announced for a while: an anchor paired with it would hold for moments only.
      const isPresent = standby !== undefined && named(standby) === named(one);
      if (!isPresent && !(await answers(one))) continue;
      put(anchor, one);
      break;
    }
  }
  return placed;
}

/** The relay whose hash with the anchor is highest before the others. */
export function byWeight(anchor: string, candidates: readonly Incarnation[]): readonly Incarnation[] {
  return candidates.toSorted(
    (one, other) => weight(anchor, other) - weight(anchor, one) || (one.id < other.id ? -1 : 1),
  );
}

function weight(anchor: string, { id }: Incarnation): number {
  return hash32(`${anchor}\n${id}`);
}

/** FNV-1a, and the finaliser of MurmurHash3 so that similar names part. */
function hash32(text: string): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
