import { canonicalAddress } from '../../protocol/address.ts';
import { MooringError } from '../../protocol/errors.ts';
import type { Remote } from '../../protocol/lease.ts';
import type { RequestOf } from '../../protocol/signalling.ts';
import type { GrantRequest } from '../../registry/registry.ts';
import { requireAdmission } from '../admission.ts';
import type { Door, Handler, PoolPolicy } from '../door.ts';
import { installAtOwner } from '../install.ts';
import { requireLivingToken } from '../token-life.ts';

/**
 * Grants a lease: pending in the registry, and acknowledged only when its owner relay has installed it and made it
 * active, because it is of no use before. What fails on the way is temporary: the same request id meets the same
 * pending lease, until the owner's sweep takes it back.
 */
export const lease: Handler<'lease'> = async (frame, caller, door) => {
  requireLivingToken(caller, door);
  const policy = poolPolicy(frame.pool, door);
  requireAdmission(caller.principal, policy, frame.kind);
  const { device, thumbprint } = caller.principal;
  const granted = await door.registry.grant({
    pool: frame.pool,
    device,
    thumbprint,
    kind: frame.kind,
    remote: declaredRemote(frame.remote, policy),
    leaseMs: boundedLeaseMs(frame.leaseMs, policy),
    ...localWish(frame),
    requestId: frame.request,
    quota: policy.maxLeasesPerDevice,
  });
  return installAtOwner(granted, caller, door);
};

/** What a device asks for by name. Throws EXTRA_PARAM (203) for what its kind of lease has not. */
export function localWish({
  kind,
  local,
}: Pick<RequestOf<'lease'>, 'kind' | 'local'>): Pick<GrantRequest, 'local'> {
  if (local === undefined) return {};
  for (const [field, has] of [
    ['port', kind !== 'rsa-ip'],
    ['spi', kind === 'rsipsec'],
  ] as const) {
    if (local[field] !== undefined && !has) {
      throw new MooringError(
        'ERR_MOORING_BAD_FRAME',
        `local.${field} is ${local[field]}, and a lease of kind ${kind} has none; leave it out`,
        { rsip: 203, data: { field: `local.${field}` } },
      );
    }
  }
  return { local };
}

/** The policy of a configured pool. */
export function poolPolicy(name: string, door: Door): PoolPolicy {
  const policy = door.pools.get(name);
  if (policy !== undefined) return policy;
  throw new MooringError(
    'ERR_MOORING_UNKNOWN_POOL',
    `pool is ${JSON.stringify(name)}; ask the operator for the name of a pool`,
    { rsip: 205, data: { field: 'pool' } },
  );
}

/** A wish for a lease time within the pool's bounds, milliseconds. */
export function boundedLeaseMs(wish: number | undefined, { leaseMs }: PoolPolicy): number {
  return Math.min(wish ?? leaseMs.default, leaseMs.max);
}

/**
 * The remote that a lease is for under the pool's flow policy, which keeps no more of a wish than it asks for: none leaves
 * the remote open, macro its ports (RFC 3103 §9.9.3). Throws FLOW_POLICY_VIOLATION where the wish says too little.
 */
export function declaredRemote(wish: Remote | undefined, { name, remotePolicy }: PoolPolicy): Remote | null {
  if (remotePolicy === undefined || remotePolicy === 'none') return null;
  if (wish === undefined || (remotePolicy === 'micro' && wish.port === null)) {
    const missing = wish === undefined ? 'its address' : 'its port';
    throw new MooringError(
      'ERR_MOORING_FLOW_POLICY',
      `remote: pool ${name} leases for one remote (${remotePolicy}); declare ${missing}`,
      { rsip: 103, data: { field: 'remote', policy: remotePolicy } },
    );
  }
  const address = canonicalAddress(wish.address, 'remote.address');
  return { address, port: remotePolicy === 'micro' ? wish.port : null };
}
