import type { Handler } from '../door.ts';
import { installAtOwner } from '../install.ts';
import { requireLivingToken } from '../token-life.ts';

/**
 * Tunnel parameters of a lease that the device holds. With the key it began with its session goes on; with another
 * one the session is replaced.
 */
export const attach: Handler<'attach'> = async (frame, caller, door) => {
  requireLivingToken(caller, door);
  const { device, thumbprint } = caller.principal;
  const granted = await door.registry.attach({ leaseId: frame.lease, device, thumbprint });
  return installAtOwner(granted, caller, door);
};
