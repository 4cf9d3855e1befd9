import { canonicalAddress } from '../../protocol/address.ts';
import type { Handler } from '../door.ts';
import { ownLease } from '../own-lease.ts';

/**
 * Hands a device's sealed CONTROL datagram to the owner relay of its lease, which alone judges it. Signalling keeps
 * nothing of it, needs no living token for it, and while the registry is away serves the leases it knows.
 */
export const rebind: Handler<'rebind'> = async (frame, caller, door) => {
  const address = canonicalAddress(frame.address);
  const { anchor } = await ownLease(frame.lease, caller, door);
  const { datagram, port } = frame;
  await door.owners.ask(anchor, door.limits.ownerTimeoutMs, ({ plane }) =>
    plane.rebind({ anchor, datagram, address, port }),
  );
  return {};
};
