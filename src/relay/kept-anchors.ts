import type { Timers } from '../ownership/timers.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import type { Held, HeldUntil } from './anchor-copy.ts';
import type { Journal } from './journal/journal.ts';
import { heldBefore, type Journalled } from './journal/replay.ts';
import type { ServedAnchor } from './served-anchor.ts';

/** What was held of an anchor that another relay has by now is kept so long, milliseconds: that one has read it all then. */
const KEPT_MS = 60_000;

export interface KeptAnchorsOptions {
  readonly registry: Pick<Registry, 'owner' | 'bringBack'>;
  readonly journal?: Pick<Journal, 'forget'> | undefined;
  /** What the former process of this relay still served. */
  readonly formerOf: (anchor: string) => Journalled | undefined;
  /** What former processes had let go of, and not forgotten. */
  readonly aside: ReadonlyMap<string, Journalled>;
  readonly log: Log;
  readonly timers: Timers;
}

/**
 * What this relay, or a former process of it, held of anchors until another relay had them, or until they were served anew. A
 * fail-over of the registry may have lost some of it that nobody else knows.
 */
export interface KeptAnchors {
  /** Another relay has the anchor from now on. */
  keep(served: Pick<ServedAnchor, 'id' | 'epoch' | 'base'>): void;
  /** This relay serves it under `epoch`. */
  takenUp(anchor: string, epoch: bigint): Promise<void>;
  /** What it would report of an anchor that it does not serve. */
  held(anchor: string): Held | undefined;
  /** The epoch under which it had that. */
  epochOf(anchor: string): bigint | undefined;
  /** Gives the registry, which knows the anchor under `epoch` now, what it has lost. Once an epoch; a failure is logged. */
  tell(anchor: string, epoch: bigint): Promise<void>;
  /** It serves the anchor again and could not say so far what it held before. */
  isUntold(anchor: string): boolean;
}

type Kept = HeldUntil & { readonly epoch: bigint };

export function createKeptAnchors(options: KeptAnchorsOptions): KeptAnchors {
  const { registry, journal, formerOf, log, timers } = options;
  /** Others have them now, and may know less yet when the registry fails over. */
  const kept = new Map<string, Kept>();
  /** Of before they were served again. */
  const untold = new Map<string, readonly Kept[]>();
  /** Under which epoch the registry was told last. */
  const toldUnder = new Map<string, bigint>();
  const untoldOf = (anchor: string): readonly Kept[] => untold.get(anchor) ?? [];

  function keep(anchor: string, one: Kept): void {
    kept.set(anchor, one);
    const forgetLater = () =>
      timers.after(KEPT_MS, async () => {
        if (kept.get(anchor) !== one) return;
        const owner = await registry.owner(anchor).catch(() => null);
        if (owner !== null && owner.epoch > one.epoch) await tell(anchor, owner.epoch);
        if (kept.get(anchor) !== one) return;
        // While the registry is away, or knows less, this may be the only word of it, for as long as there is a lease in it.
        const isTold = owner !== null && toldUnder.get(anchor) === owner.epoch;
        const isOver = one.leases.every(({ untilMs }) => untilMs <= timers.nowMs());
        if (!isTold && !isOver) forgetLater();
        else {
          kept.delete(anchor);
          forget(anchor);
        }
      });
    forgetLater();
  }

  async function tell(anchor: string, epoch: bigint): Promise<void> {
    if (toldUnder.get(anchor) === epoch) return;
    try {
      for (const one of [...untoldOf(anchor), kept.get(anchor), formerOf(anchor)])
        if (one !== undefined && one.epoch < epoch)
          await registry.bringBack(anchor, heldBefore(one, timers.nowMs()));
    } catch (error) {
      log.warn({ anchor, error: (error as Error).message }, 'cannot say now what was held before');
      return;
    }
    toldUnder.set(anchor, epoch);
    if (untold.delete(anchor) && !kept.has(anchor)) forget(anchor);
  }

  function forget(anchor: string): void {
    journal
      ?.forget(anchor)
      .catch((error: Error) => log.warn({ anchor, error: error.message }, 'a former journal stays'));
  }

  for (const [anchor, one] of options.aside) {
    if (formerOf(anchor) === undefined) keep(anchor, one);
    else untold.set(anchor, [one]);
  }

  return {
    keep: ({ id, epoch, base }) => keep(id, { ...base(), epoch }),
    async takenUp(anchor, epoch) {
      const before = kept.get(anchor) ?? formerOf(anchor);
      kept.delete(anchor);
      if (before !== undefined && before.epoch < epoch) untold.set(anchor, [...untoldOf(anchor), before]);
      if (untold.has(anchor)) await tell(anchor, epoch);
    },
    held(anchor) {
      const one = kept.get(anchor);
      if (one !== undefined) return { ...heldBefore(one, timers.nowMs()), hasStandby: true, as: 'former' };
      const before = formerOf(anchor);
      return before === undefined ? undefined : heldBefore(before, timers.nowMs());
    },
    epochOf: (anchor) => (kept.get(anchor) ?? formerOf(anchor))?.epoch,
    tell,
    isUntold: (anchor) => untold.has(anchor),
  };
}
