import { MooringError } from '../protocol/errors.ts';
import type { Grant } from '../protocol/signalling.ts';
import type { Granted } from '../registry/registry.ts';
import type { Caller, Door } from './door.ts';

/**
 * Has the owner relay install a lease, make it active and seal the session's K_root to the device. Resolves when the
 * owner forwards for the lease; installing twice changes nothing. A session that this one replaced is ended there
 * first, so that it carries nothing by the time the new K_root is handed out.
 */
export async function installAtOwner(granted: Granted, caller: Caller, door: Door): Promise<Grant> {
  const { lease, session, replaced } = granted;
  const { anchor } = lease;
  const grant = await door.owners.ask(anchor, door.limits.ownerTimeoutMs, async ({ relay, plane }) => {
    if (replaced !== undefined) {
      const event = { type: 'session', fence: lease.fence, session, replaces: replaced } as const;
      await plane.apply({ anchor, event });
    }
    const installed = await plane.install({ lease, session, sealing: caller.sealing });
    if (installed.tunnel !== undefined) return { lease: installed.lease, tunnel: installed.tunnel };
    throw new MooringError(
      'ERR_MOORING_OWNER_UNREACHABLE',
      `relay ${relay} installed lease ${lease.id} without tunnel parameters; send the same request again`,
      { rsip: 104, temporary: true, retryAfterMs: 1_000 },
    );
  });
  caller.leases.set(grant.lease.id, grant.lease);
  return grant;
}
