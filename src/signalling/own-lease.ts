import { MooringError } from '../protocol/errors.ts';
import type { Lease } from '../protocol/lease.ts';
import { anchorOf } from '../registry/registry.ts';
import type { Caller, Door } from './door.ts';

/**
 * The caller's lease of that id, as known to this socket or else to the registry. RSIP 306 (BAD_BIND_ID) when it is
 * not his, in the same words whether somebody else has it or nobody.
 */
export async function ownLease(id: string, caller: Caller, door: Door): Promise<Lease> {
  const known = caller.leases.get(id);
  if (known !== undefined) return known;
  for (const lease of await door.registry.deviceLeases(caller.principal.device, anchorOf(id)))
    caller.leases.set(lease.id, lease);
  const found = caller.leases.get(id);
  if (found !== undefined) return found;
  throw new MooringError(
    'ERR_MOORING_NOT_YOUR_LEASE',
    `lease ${id} is not held by this device; take an id from the answer to hello or lease`,
    { rsip: 306, data: { field: 'lease' } },
  );
}
