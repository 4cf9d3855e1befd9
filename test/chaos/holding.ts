import type { Entry, LeaseFacts, Operation } from './history.ts';
import type { Interval } from './intervals.ts';

/** A lease that was acknowledged to its device. */
export interface Holding extends Interval {
  readonly lease: string;
  readonly anchor: string;
  readonly device: string;
  readonly resources: readonly string[];
  /** From its acknowledgement until the device asked to free it or its life may have been over: surely held. */
  readonly fromMs: number;
  readonly toMs: number;
  /** From when it was surely not held any more. */
  readonly endsAtMost: number;
  /** When it was asked for: the grant came after that. */
  readonly askedMs: number;
  /** When its end was asked for by the device; null: never. */
  readonly freeAskedMs: number | null;
}

/** What devices hold, as they know it: the surest bounds that asking and answer allow. */
export function holdingsIn(entries: readonly Entry[]): Map<string, Holding> {
  const byLease = new Map<string, Operation[]>();
  for (const entry of entries) {
    if (entry.type !== 'operation' || entry.lease === undefined) continue;
    const all = byLease.get(entry.lease.id) ?? [];
    all.push(entry);
    byLease.set(entry.lease.id, all);
  }
  const letGo = new Map(
    entries.flatMap((entry) => (entry.type === 'lets-go' ? [[entry.lease, entry.atMs] as const] : [])),
  );
  const holdings = new Map<string, Holding>();
  for (const [id, operations] of byLease) {
    operations.sort((a, b) => a.askedMs - b.askedMs);
    const granted = operations.find(({ op, outcome }) => op === 'lease' && outcome === 'done');
    if (granted !== undefined) holdings.set(id, holdingOf(granted, operations, letGo.get(id) ?? null));
  }
  return holdings;
}

function holdingOf(granted: Operation, operations: readonly Operation[], letGoMs: number | null): Holding {
  const facts = granted.lease as LeaseFacts;
  // The registry read the clock between question and answer.
  let endsAtLeast = granted.askedMs + facts.remainingMs;
  let endsAtMost = granted.atMs + facts.remainingMs;
  let freeAskedMs = letGoMs;
  for (const { op, outcome, askedMs, atMs, leaseMs = 0, lease } of operations) {
    if (op === 'free' && freeAskedMs === null) freeAskedMs = askedMs;
    if (op !== 'extend' || outcome === 'refused') continue;
    // An extension without an answer may have been carried out, or may not.
    const answered = outcome === 'done';
    endsAtLeast = answered
      ? askedMs + (lease as LeaseFacts).remainingMs
      : Math.min(endsAtLeast, askedMs + leaseMs);
    endsAtMost = Math.max(endsAtMost, atMs + leaseMs);
  }
  return {
    lease: facts.id,
    anchor: facts.anchor,
    device: facts.device,
    resources: facts.resources,
    askedMs: granted.askedMs,
    fromMs: granted.atMs,
    toMs: Math.min(endsAtLeast, freeAskedMs ?? Number.POSITIVE_INFINITY),
    endsAtMost,
    freeAskedMs,
  };
}
