import { sameOctets } from './packet.ts';
import type { LeaseEntry } from './tables.ts';

interface Memory<S> {
  readonly key: number;
  readonly kind: number;
  readonly remote: Uint8Array;
  readonly lease: LeaseEntry<S>;
  untilMs: number;
  next: Memory<S> | null;
}

/** What teaching came to: `taken` names another lease's live entry, `full` the quota of this lease. */
export type Lesson = 'known' | 'learned' | 'taken' | 'full';

/**
 * What a shared address learns from uplink packets about replies that carry no leased port or SPI: (remote
 * address, kind, number) → lease. Bounded per lease, every entry with a deadline; a hint that the device's next packet teaches again.
 */
export class Learned<S> {
  readonly #byKey = new Map<number, Memory<S>>();
  readonly #byLease = new Map<LeaseEntry<S>, Set<Memory<S>>>();

  readonly #limit: { readonly perLease: number; readonly keepMs: number };

  constructor(limit: { readonly perLease: number; readonly keepMs: number }) {
    this.#limit = limit;
  }

  /** Remembers that replies about (remote, kind, key) belong to `lease`, for `keepMs` from now. */
  teach(
    key: number,
    kind: number,
    buffer: Uint8Array,
    remoteAt: number,
    size: 4 | 16,
    lease: LeaseEntry<S>,
    nowMs: number,
  ): Lesson {
    const known = this.#find(key, kind, buffer, remoteAt, size);
    if (known !== null) {
      if (known.lease === lease) {
        known.untilMs = nowMs + this.#limit.keepMs;
        return 'known';
      }
      if (nowMs < known.untilMs && nowMs < known.lease.untilMs) return 'taken';
      this.#remove(known);
    }
    const own = this.#byLease.get(lease) ?? new Set();
    if (own.size >= this.#limit.perLease) {
      for (const memory of own) if (nowMs >= memory.untilMs) this.#remove(memory);
      if (own.size >= this.#limit.perLease) return 'full';
    }
    const memory: Memory<S> = {
      key,
      kind,
      remote: buffer.slice(remoteAt, remoteAt + size),
      lease,
      untilMs: nowMs + this.#limit.keepMs,
      next: this.#byKey.get(key) ?? null,
    };
    this.#byKey.set(key, memory);
    this.#byLease.set(lease, own.add(memory));
    return 'learned';
  }

  /** The lease that (remote, kind, key) was learned for, unless its time is over. */
  recall(
    key: number,
    kind: number,
    buffer: Uint8Array,
    remoteAt: number,
    size: 4 | 16,
    nowMs: number,
  ): LeaseEntry<S> | null {
    const known = this.#find(key, kind, buffer, remoteAt, size);
    return known !== null && nowMs < known.untilMs ? known.lease : null;
  }

  /** Drops everything learned for a lease that ended. */
  forget(lease: LeaseEntry<S>): void {
    for (const memory of this.#byLease.get(lease) ?? []) this.#remove(memory);
  }

  #find(key: number, kind: number, buffer: Uint8Array, remoteAt: number, size: 4 | 16): Memory<S> | null {
    for (let memory = this.#byKey.get(key) ?? null; memory !== null; memory = memory.next) {
      if (memory.kind !== kind || memory.remote.length !== size) continue;
      if (sameOctets(memory.remote, 0, buffer, remoteAt, size)) return memory;
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
