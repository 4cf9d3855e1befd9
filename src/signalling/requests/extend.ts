import { MooringError } from '../../protocol/errors.ts';
import type { Handler } from '../door.ts';
import { ownLease } from '../own-lease.ts';
import { requireLivingToken } from '../token-life.ts';
import { boundedLeaseMs, poolPolicy } from './lease.ts';

/**
 * Extends a lease, in the registry and then at its owner, whose deadline and whose port blocks decide what is forwarded. What is
 * asked for is so many ports in all, so that asking again doubles nothing twice.
 */
export const extend: Handler<'extend'> = async (frame, caller, door) => {
  requireLivingToken(caller, door);
  const { pool, anchor, kind } = await ownLease(frame.lease, caller, door);
  if (frame.ports !== undefined && kind === 'rsa-ip') {
    throw new MooringError(
      'ERR_MOORING_BAD_FRAME',
      `ports is ${frame.ports}, and a lease of kind ${kind} has a whole address; leave it out`,
      { rsip: 203, data: { field: 'ports' } },
    );
  }
  const event = await door.registry.extend({
    leaseId: frame.lease,
    device: caller.principal.device,
    leaseMs: boundedLeaseMs(frame.leaseMs, poolPolicy(pool, door)),
    ports: frame.ports,
    requestId: Buffer.from(door.random(16)).toString('hex'),
  });
  caller.leases.set(event.lease.id, event.lease);
  await door.owners.ask(anchor, door.limits.ownerTimeoutMs, ({ plane }) => plane.apply({ anchor, event }));
  return { lease: event.lease };
};
