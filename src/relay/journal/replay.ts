import type { Lease, Session } from '../../protocol/lease.ts';
import type { Held, HeldUntil } from '../anchor-copy.ts';
import { decodeRecords, type JournalledStandby, type JournalRecord } from './record.ts';

/** What a journal says that a relay held. */
export interface Journalled {
  readonly anchor: string;
  readonly relay: string;
  readonly epoch: bigint;
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
  /** Of the last event that it contains. */
  readonly fence: string;
  readonly sessions: readonly Session[];
  /** `untilMs`: milliseconds on the clock of `monotonicMs()`, translated when the machine was started anew since. */
  readonly leases: readonly { readonly lease: Lease; readonly untilMs: number }[];
  /** As the registry had it; '' when it is not known. */
  readonly plan: string;
  readonly standby: JournalledStandby | null;
  /** When the journal was written to last, by the wall clock. */
  readonly writtenMs: number;
}

/** Now, on the clocks that a journal is told in. */
export interface Instant {
  /** Identity of the machine's start. */
  readonly machine: string;
  readonly monotonicMs: number;
  readonly wallMs: number;
}

/**
 * The state in a journal as of its last whole mark; null when there is none. `writtenMs`: of the file, by the wall clock. Never
 * throws, wherever the file was cut.
 */
export function replay(file: Buffer, writtenMs: number, now: Instant): Journalled | null {
  let claim: Extract<JournalRecord, { type: 'claim' }> | null = null;
  let fence: string | null = null;
  let standby: JournalledStandby | null = null;
  let plan = '';
  let unmarked: JournalRecord[] = [];
  const sessions = new Map<string, Session>();
  const leases = new Map<string, { lease: Lease; untilMs: number }>();

  function apply(record: JournalRecord, shiftMs: number): void {
    switch (record.type) {
      case 'session':
        sessions.set(record.session.id, record.session);
        return;
      case 'session-ended':
        sessions.delete(record.id);
        return;
      case 'lease':
        leases.set(record.lease.id, { lease: record.lease, untilMs: record.untilMs + shiftMs });
        return;
      case 'lease-ended':
        leases.delete(record.id);
        return;
      case 'plan':
        plan = record.plan;
        return;
      case 'claim':
      case 'standby':
      case 'at':
        return;
      default:
        record satisfies never;
    }
  }

  for (const record of decodeRecords(file)) {
    if (record.type === 'claim') claim = record;
    // Who may claim counts at once, not only from the next mark on.
    else if (record.type === 'standby') standby = record.standby;
    else if (record.type !== 'at') unmarked.push(record);
    else if (claim !== null) {
      const shiftMs = shiftOf(claim, now);
      for (const one of unmarked) apply(one, shiftMs);
      unmarked = [];
      fence = record.fence;
    }
  }
  if (claim === null || claim.version !== 1 || fence === null) return null;
  const { anchor, relay, epoch, endpoints, prefixes } = claim;
  return {
    ...{ anchor, relay, epoch: BigInt(epoch), endpoints, prefixes, fence, plan, standby, writtenMs },
    sessions: [...sessions.values()],
    leases: [...leases.values()],
  };
}

/** A monotonic clock starts anew with the machine: the wall clock is what is left then. */
function shiftOf(then: Instant, now: Instant): number {
  if (then.machine === now.machine) return 0;
  return then.wallMs - then.monotonicMs - (now.wallMs - now.monotonicMs);
}

/** What was held once, as its owner would report it at `nowMs`. */
export function heldBefore({ fence, sessions, leases, plan }: HeldUntil, nowMs: number): Held {
  const [epoch, counter] = fence.split('-').map(BigInt) as [bigint, bigint];
  return {
    ...{ epoch, counter },
    leases: leases.map(({ lease, untilMs }) => ({
      ...lease,
      remainingMs: Math.max(0, Math.round(untilMs - nowMs)),
    })),
    sessions,
    plan,
  };
}
