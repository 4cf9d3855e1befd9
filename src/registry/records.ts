import type { Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';

/** A lease as commands store it: its end is an instant of the registry's clock. */
interface StoredLease extends Omit<Lease, 'remainingMs'> {
  readonly expiresAtMs: number;
}

/** The lease in a stored record, with the life that it had left at `nowMs` of the registry's clock. */
export function leaseFrom(json: string, nowMs: number): Lease {
  return shownLease(JSON.parse(json) as StoredLease, nowMs);
}

function shownLease(stored: StoredLease, nowMs: number): Lease {
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
    // Records of before there was either have neither.
    ikeSpis: stored.ikeSpis ?? null,
    remote: stored.remote ?? null,
    session: stored.session,
    state: stored.state,
    remainingMs: stored.expiresAtMs - nowMs,
    fence: stored.fence,
  };
}

export function sessionFrom(json: string): Session {
  return shownSession(JSON.parse(json) as Session);
}

function shownSession({ id, index, device, thumbprint, salt }: Session): Session {
  return { id, index, device, thumbprint, salt };
}

export function hintFrom(json: string): PathHint {
  const { session, address, port, generation, deviceBoot } = JSON.parse(json) as PathHint;
  return { session, address, port, generation, deviceBoot };
}

/** A stream entry's event as of `nowMs` of the registry's clock; records in it are as they are stored. */
export function eventFrom(json: string, nowMs: number): LeaseEvent {
  const event = JSON.parse(json) as LeaseEvent;
  const shown = (lease: Lease) => shownLease(lease as unknown as StoredLease, nowMs);
  switch (event.type) {
    case 'granted':
      return { ...event, lease: shown(event.lease), session: shownSession(event.session) };
    case 'activated':
    case 'extended':
    case 'ended':
      return { ...event, lease: shown(event.lease) };
    case 'session':
      return { ...event, session: shownSession(event.session) };
    case 'owned':
      return event;
  }
}
