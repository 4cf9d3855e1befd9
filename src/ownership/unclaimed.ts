import type { Incarnation, Owner } from '../registry/registry.ts';

/**
 * Whether a relay is to claim an anchor that it does not hold, by what the registry says of its owner: the last word of a
 * hand-over was lost, or it came to a former start of this relay, or a registry that lost its last writes knows nobody
 * and only the home relay may claim, or knows nothing of the epoch under which this relay had the anchor.
 */
export function isToBeClaimed(
  owner: Owner | null,
  { id, boot }: Incarnation,
  isHome: boolean,
  knownEpoch = 0n,
): boolean {
  if ((owner?.epoch ?? 0n) < knownEpoch) return true;
  if (owner === null) return isHome;
  return owner.relay === id && (owner.boot === boot || owner.remainingMs <= 0);
}

/**
 * Whether this incarnation was given the anchor and has not heard of it: whoever gave it stands by, so that a next process must not go
 * on without that one's promise.
 */
export function isGiven(owner: Owner | null, { id, boot }: Incarnation): boolean {
  return owner?.relay === id && owner.boot === boot && owner.standby !== undefined;
}
