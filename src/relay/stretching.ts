import type { Timers } from '../ownership/timers.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import type { AnchorCopy, Ending } from './anchor-copy.ts';
import type { Journalled } from './journal/replay.ts';

/** An end is put off to so far from now, milliseconds, and again when half of it is left. */
const STEP_MS = 60_000;
/** What an owner's reckoning and the registry's may differ by without anything having been put off, milliseconds. */
const SKEW_MS = 2_000;

export interface StretchingOptions {
  readonly copy: Pick<AnchorCopy, 'id' | 'endings' | 'putOff' | 'untold' | 'told' | 'touch'>;
  readonly epoch: bigint;
  readonly registry: Pick<Registry, 'stretch'>;
  /** How long after the registry was heard last a lease may be kept past its end, milliseconds; 0: it ends. */
  readonly graceMs: number;
  /** When the registry was asked that answered last. */
  readonly heardMs: number;
  readonly timers: Pick<Timers, 'nowMs'>;
  readonly log: Log;
}

/**
 * While the registry is away nobody can extend a lease: its owner puts the end off by small steps, and tells the registry before it
 * sweeps. What had run out before, and what is known to be freed or revoked, ends all the same.
 */
export interface Stretching {
  /** The registry has answered what it was asked at `askedMs`. */
  heard(askedMs: number): void;
  /** It does not answer, or is not believed. */
  away(): void;
  /** Takes over what a former server of the anchor had put off, where nothing has happened to the lease since. */
  resume(former: readonly Ending[]): void;
  /** Resolves when the registry knows of every end that was put off. */
  tell(): Promise<void>;
}

export function stretching(options: StretchingOptions): Stretching {
  const { copy, epoch, registry, graceMs, timers, log } = options;
  let { heardMs } = options;

  function putOff(id: string, endsMs: number): void {
    copy
      .putOff(id, endsMs)
      .catch((error: Error) => log.error({ lease: id, error: error.message }, 'end not put off'));
  }

  return {
    heard(askedMs) {
      heardMs = Math.max(heardMs, askedMs);
    },

    away() {
      const nowMs = timers.nowMs();
      const endsMs = Math.min(nowMs + STEP_MS, heardMs + graceMs);
      if (endsMs <= nowMs) return;
      let count = 0;
      for (const { lease, untilMs } of copy.endings()) {
        const isDue = untilMs > heardMs && untilMs < Math.min(endsMs, nowMs + STEP_MS / 2);
        if (!isDue) continue;
        putOff(lease.id, endsMs);
        count += 1;
      }
      if (count === 0) return;
      copy.touch();
      log.warn({ anchor: copy.id, leases: count }, 'ends put off: the registry is away');
    },

    resume(former) {
      if (graceMs === 0 || former.length === 0) return;
      const before = new Map(former.map((one) => [one.lease.id, one]));
      for (const { lease, untilMs } of copy.endings()) {
        const known = before.get(lease.id);
        const isPutOff = known?.lease.fence === lease.fence && known.untilMs > untilMs + SKEW_MS;
        if (isPutOff) putOff(lease.id, known.untilMs);
      }
    },

    async tell() {
      const nowMs = timers.nowMs();
      const ends = [...copy.untold()];
      const leases = ends.map(([id, untilMs]) => ({ id, remainingMs: Math.max(0, untilMs - nowMs) }));
      if (leases.length > 0) await registry.stretch(copy.id, epoch, leases);
      for (const [id, untilMs] of ends) copy.told(id, untilMs);
    },
  };
}

/** What a journal holds, after its relay has gone on by it: see `carryOn`. */
export function carriedThrough(journalled: Journalled, nowMs: number, graceMs: number): Journalled {
  const leases = journalled.leases.map(({ lease, untilMs }) => ({
    lease,
    untilMs: Math.max(untilMs, Math.min(nowMs + STEP_MS, untilMs + graceMs)),
  }));
  return { ...journalled, leases };
}
