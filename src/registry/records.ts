import type { Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';

/** A lease as commands store it: its end is an instant of the registry's clock. */
interface StoredLease extends Omit<Lease, 'remainingMs'> {
  readonly expiresAtMs: number;
}

/** The lease in a stored record, with the life that it had left at `nowMs` of the registry's clock. */
export function leaseFrom(json: string, nowMs: number): Lease {
  const stored = JSON.parse(json) as StoredLease;
  return {
    id: stored.id,
    anchor: stored.anchor,
    pool: stored.pool,
    device: stored.device,
    bindId: stored.bindId,
    kind: stored.kind,
    address: stored.address,
    ports: stored.ports,
    spis: stored.spis,
    session: stored.session,
    state: stored.state,
    remainingMs: stored.expiresAtMs - nowMs,
    fence: stored.fence,
  };
}

export function sessionFrom(json: string): Session {
  const { id, index, device, thumbprint, salt } = JSON.parse(json) as Session;
  return { id, index, device, thumbprint, salt };
}

export function hintFrom(json: string): PathHint {
  const { session, address, port, generation, deviceBoot } = JSON.parse(json) as PathHint;
  return { session, address, port, generation, deviceBoot };
}

/** A stream entry's event as of `nowMs`: the life left in it was true when it was written, at `atMs`. */
export function eventFrom(json: string, atMs: number, nowMs: number): LeaseEvent {
  const event = JSON.parse(json) as LeaseEvent;
  if (!('lease' in event)) return event;
  const lease = { ...event.lease, remainingMs: event.lease.remainingMs - (nowMs - atMs) };
  return { ...event, lease };
}
