import type { Principal } from '../auth/verifier.ts';
import type { ClaimRules } from '../config/schema.ts';
import { MooringError } from '../protocol/errors.ts';
import type { LeaseKind } from '../protocol/lease.ts';
import type { PoolPolicy } from './door.ts';

/**
 * Refuses a device whose access token does not meet the pool's rules: RSIP 312 (LOCAL_ADDR_UNALLOWED) where it may not lease
 * at all, 401 (IPSEC_UNALLOWED) where it may not lease SPIs.
 */
export function requireAdmission(principal: Principal, policy: PoolPolicy, kind: LeaseKind): void {
  const { name, mayLease, mayUseIpsec, retire } = policy;
  if (retire === true) {
    throw new MooringError(
      'ERR_MOORING_POOL_RETIRING',
      `pool ${name} leases nothing any more; ask the operator for another one`,
      { rsip: 312, data: { field: 'pool' } },
    );
  }
  const unmet = broken(mayLease, principal);
  if (unmet !== undefined) {
    throw new MooringError(
      'ERR_MOORING_POOL_DENIED',
      `pool ${name} is not for this device: claim ${unmet} of its token is not what the pool asks for; use another pool, or have the issuer add it`,
      { rsip: 312, data: { field: 'pool', claim: unmet } },
    );
  }
  const unmetIpsec = kind === 'rsipsec' ? broken(mayUseIpsec, principal) : undefined;
  if (unmetIpsec !== undefined) {
    throw new MooringError(
      'ERR_MOORING_IPSEC_DENIED',
      `kind is "rsipsec", and in pool ${name} claim ${unmetIpsec} of the token does not allow it; lease without SPIs, or have the issuer add it`,
      { rsip: 401, data: { field: 'kind', claim: unmetIpsec } },
    );
  }
}

/** Whether a device may lease from a pool at all. */
export function isAdmitted(principal: Principal, { mayLease, retire }: PoolPolicy): boolean {
  return retire !== true && broken(mayLease, principal) === undefined;
}

/** Whether a device that may lease from a pool may lease SPIs from it. */
export function mayUseIpsec(principal: Principal, policy: PoolPolicy): boolean {
  return broken(policy.mayUseIpsec, principal) === undefined;
}

/** The claim of the first rule that a token does not meet. */
function broken(rules: ClaimRules | undefined, { claims = {} }: Principal): string | undefined {
  return rules?.find(({ claim, values }) => !wordsOf(claim, claims).some((word) => values.includes(word)))
    ?.claim;
}

/** What a claim says, as a list of words. Only own members count, whatever a rule is named. */
function wordsOf(claim: string, claims: Readonly<Record<string, unknown>>): readonly string[] {
  const value = Object.hasOwn(claims, claim) ? claims[claim] : undefined;
  if (typeof value === 'string') return claim === 'scope' ? value.split(' ') : [value];
  if (Array.isArray(value)) return value.filter((word) => typeof word === 'string');
  return typeof value === 'boolean' || typeof value === 'number' ? [String(value)] : [];
}
