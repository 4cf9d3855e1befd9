import { MooringError } from '../protocol/errors.ts';
import type { Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';

/** A lease as commands store it: its end is an instant of the registry's clock. */
interface StoredLease extends Omit<Lease, 'remainingMs'> {
  readonly expiresAtMs: number;
}

/** The lease in a stored record, with the life that it had left at `nowMs` of the registry's clock. */
export function leaseFrom(json: string, nowMs: number): Lease {
  return shownLease(recordOf<StoredLease>(json), nowMs);
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
  return shownSession(recordOf<Session>(json));
}

function shownSession({ id, index, device, thumbprint, salt }: Session): Session {
  return { id, index, device, thumbprint, salt };
}

export function hintFrom(json: string): PathHint {
  const { session, address, port, generation, deviceBoot } = recordOf<PathHint>(json);
  return { session, address, port, generation, deviceBoot };
}

/** A stream entry's event as of `nowMs` of the registry's clock; records in it are as they are stored. */
export function eventFrom(json: string, nowMs: number): LeaseEvent {
  const event = recordOf<LeaseEvent>(json);
  const shown = (lease: Lease) => shownLease(partOf(lease as unknown as StoredLease, json), nowMs);
  switch (event.type) {
    case 'granted':
      return { ...event, lease: shown(event.lease), session: shownSession(partOf(event.session, json)) };
    case 'activated':
    case 'extended':
    case 'ended':
      return { ...event, lease: shown(event.lease) };
    case 'session':
      return { ...event, session: shownSession(partOf(event.session, json)) };
    case 'owned':
    case 'declared':
      return event;
    default:
      throw damaged(json);
  }
}

/** Records are the scripts' own; one that is none shows that something else has written to the registry. */
function recordOf<T>(json: string): T {
  let record: unknown;
  try {
    record = JSON.parse(json);
  } catch {
    throw damaged(json);
  }
  return partOf(record as T, json);
}

function partOf<T>(part: T, json: string): T {
  if (typeof part === 'object' && part !== null && !Array.isArray(part)) return part;
  throw damaged(json);
}

function damaged(json: string): MooringError {
  return new MooringError(
    'ERR_MOORING_RECORD',
    `the registry holds ${JSON.stringify(json.slice(0, 80))} where a record is due; find out what else writes to it`,
  );
}
