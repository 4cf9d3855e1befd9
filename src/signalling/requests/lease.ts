import { MooringError } from '../../protocol/errors.ts';
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
  const { device, thumbprint } = caller.principal;
  const granted = await door.registry.grant({
    pool: frame.pool,
    device,
    thumbprint,
    kind: frame.kind,
    leaseMs: boundedLeaseMs(frame.leaseMs, policy),
    requestId: frame.request,
    quota: policy.maxLeasesPerDevice,
  });
  return installAtOwner(granted, caller, door);
};

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
