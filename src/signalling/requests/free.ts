import { createHash } from 'node:crypto';
import { anchorOf } from '../../registry/registry.ts';
import type { Caller, Door, Handler } from '../door.ts';

/**
 * Ends a lease. It has ended when the registry says so; an owner that cannot be told now reads it in its stream, and
 * the resources cool for longer than that takes.
 */
export const free: Handler<'free'> = async (frame, caller, door) => {
  await freeLease(frame.lease, caller, door);
  return {};
};

/** Frees one lease of the caller. */
export async function freeLease(leaseId: string, caller: Caller, door: Door): Promise<void> {
  const anchor = anchorOf(leaseId);
  caller.freeing.add(leaseId);
  try {
    const { device } = caller.principal;
    const event = await door.registry.free({ leaseId, device, requestId: requestId(leaseId) });
    caller.leases.delete(leaseId);
    await door.owners
      .ask(anchor, door.limits.ownerTimeoutMs, ({ plane }) => plane.apply({ anchor, event }))
      .catch((error: unknown) =>
        door.log.warn({ err: error, anchor }, 'end of a lease not handed to its owner'),
      );
  } finally {
    caller.freeing.delete(leaseId);
  }
}

/** A lease ends once: freeing it again is a retry, and gets the first answer. */
function requestId(leaseId: string): string {
  return createHash('sha256').update(`free ${leaseId}`).digest('hex').slice(0, 32);
}
