import { sameOctets } from './packet.ts';
import type { LeaseEntry } from './tables.ts';

interface Memory<S> {
  readonly key: number;
  readonly kind: number;
  readonly octets: Uint8Array;
  readonly lease: LeaseEntry<S>;
  untilMs: number;
  /** Number of the lesson that taught it last. */
  taught: number;
  next: Memory<S> | null;
}

/** What teaching came to: `taken` names another lease's live entry, `full` the quota of this lease. */
export type Lesson = 'known' | 'learned' | 'taken' | 'full';

/** Bounds of what is learned: entries of one lease, how long each lasts, and what gives way to one too many. */
export interface LearningLimit {
  readonly perLease: number;
  readonly keepMs: number;
  /** `oldest`: the one taught longest ago is forgotten. `newest` (default): nothing more is learned. */
  readonly gives?: 'oldest' | 'newest';
}

/**
 * What a shared address learns from uplink packets about replies that carry no leased port or SPI: (octets, kind,
 * number) → lease, the octets being the remote address or an IKE SPI. Bounded per lease, every entry with a deadline;
 * a hint that the device's next packet teaches again.
 */
export class Learned<S> {
  readonly #byKey = new Map<number, Memory<S>>();
  readonly #byLease = new Map<LeaseEntry<S>, Set<Memory<S>>>();

  readonly #limit: LearningLimit;
  #lessons = 0;

  constructor(limit: LearningLimit) {
    this.#limit = limit;
  }

  /** Remembers that replies about (octets, kind, key) belong to `lease`, for `keepMs` from now. */
  teach(
    key: number,
    kind: number,
    buffer: Uint8Array,
    octetsAt: number,
    size: number,
    lease: LeaseEntry<S>,
    nowMs: number,
  ): Lesson {
    const known = this.#find(key, kind, buffer, octetsAt, size);
    this.#lessons += 1;
    if (known !== null) {
      if (known.lease === lease) {
        known.taught = this.#lessons;
        known.untilMs = nowMs + this.#limit.keepMs;
        return 'known';
      }
      if (nowMs < known.untilMs && nowMs < known.lease.untilMs) return 'taken';
      this.#remove(known);
    }
    const own = this.#byLease.get(lease) ?? new Set();
    if (own.size >= this.#limit.perLease) {
      for (const memory of own) if (nowMs >= memory.untilMs) this.#remove(memory);
      if (own.size >= this.#limit.perLease) {
        if (this.#limit.gives !== 'oldest') return 'full';
        this.#remove(oldestOf(own));
      }
    }
    const memory: Memory<S> = {
      key,
      kind,
      octets: buffer.slice(octetsAt, octetsAt + size),
      lease,
      untilMs: nowMs + this.#limit.keepMs,
      taught: this.#lessons,
      next: this.#byKey.get(key) ?? null,
    };
    this.#byKey.set(key, memory);
    this.#byLease.set(lease, own.add(memory));
    return 'learned';
  }

  /** The lease that (octets, kind, key) was learned for, unless its time is over. */
  recall(
    key: number,
    kind: number,
    buffer: Uint8Array,
    octetsAt: number,
    size: number,
    nowMs: number,
  ): LeaseEntry<S> | null {
    const known = this.#find(key, kind, buffer, octetsAt, size);
    return known !== null && nowMs < known.untilMs ? known.lease : null;
  }

  /** Drops everything learned for a lease that ended. */
  forget(lease: LeaseEntry<S>): void {
    for (const memory of this.#byLease.get(lease) ?? []) this.#remove(memory);
  }

  #find(key: number, kind: number, buffer: Uint8Array, octetsAt: number, size: number): Memory<S> | null {
    for (let memory = this.#byKey.get(key) ?? null; memory !== null; memory = memory.next) {
      if (memory.kind !== kind || memory.octets.length !== size) continue;
      if (sameOctets(memory.octets, 0, buffer, octetsAt, size)) return memory;
    }
    return null;
  }

  #remove(gone: Memory<S>): void {
    let before: Memory<S> | null = null;
    for (
      let memory = this.#byKey.get(gone.key) ?? null;
      memory !== null;
      before = memory, memory = memory.next
    ) {
      if (memory !== gone) continue;
      if (before !== null) before.next = gone.next;
      else if (gone.next !== null) this.#byKey.set(gone.key, gone.next);
      else this.#byKey.delete(gone.key);
      break;
    }
    const own = this.#byLease.get(gone.lease);
    own?.delete(gone);
    if (own?.size === 0) this.#byLease.delete(gone.lease);
  }
}

/**
 * The one taught longest ago, found by looking when something must give way: keeping them in order would cost every
 * packet of every flow what only an entry beyond the quota needs.
 */
function oldestOf<S>(memories: ReadonlySet<Memory<S>>): Memory<S> {
  let oldest: Memory<S> | undefined;
  for (const memory of memories) if (oldest === undefined || memory.taught < oldest.taught) oldest = memory;
  return oldest!;
}
