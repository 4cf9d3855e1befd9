import type { Handler } from '../door.ts';
import { ownLease } from '../own-lease.ts';
import { requireLivingToken } from '../token-life.ts';
import { boundedLeaseMs, poolPolicy } from './lease.ts';

/** Extends a lease, in the registry and then at its owner, whose deadline decides what is forwarded. */
export const extend: Handler<'extend'> = async (frame, caller, door) => {
  requireLivingToken(caller, door);
  const { pool, anchor } = await ownLease(frame.lease, caller, door);
  const event = await door.registry.extend({
    leaseId: frame.lease,
    device: caller.principal.device,
    leaseMs: boundedLeaseMs(frame.leaseMs, poolPolicy(pool, door)),
    requestId: Buffer.from(door.random(16)).toString('hex'),
  });
  caller.leases.set(event.lease.id, event.lease);
  await door.owners.ask(anchor, door.limits.ownerTimeoutMs, ({ plane }) => plane.apply({ anchor, event }));
  return { lease: event.lease };
};
