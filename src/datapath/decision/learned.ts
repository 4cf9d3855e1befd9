import { sameOctets } from './packet.ts';
import type { LeaseEntry } from './tables.ts';

interface Memory<S> {
  readonly key: number;
  readonly kind: number;
  readonly octets: Uint8Array;
  readonly lease: LeaseEntry<S>;
  untilMs: number;
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
    if (known !== null) {
      if (known.lease === lease) {
        known.untilMs = nowMs + this.#limit.keepMs;
        if (this.#limit.gives === 'oldest') this.#renew(known);
        return 'known';
      }
      if (nowMs < known.untilMs && nowMs < known.lease.untilMs) return 'taken';
      this.#remove(known);
    }
    const own = this.#byLease.get(lease) ?? new Set();
    if (own.size >= this.#limit.perLease) {
      for (const memory of own) if (nowMs >= memory.untilMs) this.#remove(memory);
      const [oldest] = own;
      if (oldest !== undefined && own.size >= this.#limit.perLease) {
        if (this.#limit.gives !== 'oldest') return 'full';
        this.#remove(oldest);
      }
    }
    const memory: Memory<S> = {
      key,
      kind,
      octets: buffer.slice(octetsAt, octetsAt + size),
      lease,
      untilMs: nowMs + this.#limit.keepMs,
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

  /** To the end of its lease's entries, which are kept oldest first. */
  #renew(known: Memory<S>): void {
    const own = this.#byLease.get(known.lease);
    if (own?.delete(known)) own.add(known);
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
