import { isAway } from '../ownership/answers.ts';
import { processTimers, type Timers } from '../ownership/timers.ts';
import type { EndReason, Lease } from '../protocol/lease.ts';
import type { SessionState } from '../protocol/relay-plane.ts';
import {
  type AnchorCopy,
  type AnchorCopyOptions,
  copyAnchor,
  type Ending,
  type Held,
} from './anchor-copy.ts';
import type { Journal } from './journal/journal.ts';
import type { JournalledStandby } from './journal/record.ts';
import { stretching } from './stretching.ts';

/** Leases ended in one sweep. */
const SWEEP_LIMIT = 64;
/** Where nothing happens, the journal says so often that it is still true, milliseconds: an old one is not gone by. */
const TOUCH_EVERY_MS = 60_000;
/** A follower whose wake-ups were lost looks by itself so often, milliseconds. */
const LOOK_EVERY_MS = 5_000;
/** A takeover has more urgent things to do than to write the whole anchor down, milliseconds; who acknowledges does not wait. */
const JOURNAL_AFTER_MS = 500;
/** An answer that took as long came after an outage, milliseconds: whose lease ran out meanwhile could not extend it. */
const LATE_MS = 2_000;

export interface ServedAnchorOptions extends Omit<AnchorCopyOptions, 'timers'> {
  readonly epoch: bigint;
  /** Monotonic milliseconds until which this claim holds. */
  readonly untilMs: number;
  readonly onEnded: (lease: Lease, reason: EndReason) => void;
  /** Other prefixes belong to the anchor now. */
  readonly onResized: (former: readonly string[], current: readonly string[]) => void;
  readonly timers?: Timers;
  readonly relay: string;
  /** Who may claim the anchor, by the registry's word, until another is noted (default: nobody). */
  readonly standby?: JournalledStandby | null;
  /** Where what is held is written down (default: nowhere). */
  readonly journal?: Journal | undefined;
  /** The engine forwards for it: the network may be told. */
  readonly onInstalled: (anchor: Pick<AnchorCopy, 'endpoints' | 'prefixes'>) => void;
  /** How long after the registry was heard last a lease may be kept past its end, milliseconds; 0: it ends. */
  readonly outageGraceMs: number;
  /** What was forwarded for here until now, when it goes on under another epoch (default: nothing). */
  readonly former?: readonly Ending[];
  /** False once the anchor was lost, or is to be served under another epoch: then it is not installed any more. */
  readonly isCurrent: () => boolean;
}

/** An anchor that this relay owns: its copy of the registry's state, installed in the packet engine under one epoch. */
export interface ServedAnchor
  extends Omit<
    AnchorCopy,
    'tellEngine' | 'onEnded' | 'onResized' | 'alone' | 'serveUnder' | 'keep' | 'heardMs'
  > {
  readonly epoch: bigint;
  /**
   * Ends what had expired when the registry answered last, in the registry and in the engine. While it does not answer, puts the ends
   * of leases off instead.
   */
  sweep(): Promise<void>;
  /** Resolves when it is on the disk who may claim the anchor while this relay is silent; null: nobody. */
  noteStandby(standby: JournalledStandby | null): Promise<void>;
}

/** Installs an anchor from the registry into the engine, continuing `resumed` sessions where given; null: overtaken. */
export async function serveAnchor(
  options: ServedAnchorOptions,
  resumed: readonly SessionState[] = [],
): Promise<ServedAnchor | null> {
  const { anchor: id, epoch, untilMs, engine, timers = processTimers } = options;
  const copy = await copyAnchor({ ...options, timers });
  if (!options.isCurrent()) {
    await copy.stop();
    return null;
  }
  const { endpoints } = copy;
  try {
    // In one go: the engine takes them in order, and a packet in between finds the session that it is about to continue.
    await Promise.all([
      engine.command({ op: 'anchor', anchor: { id, endpoints, epoch, untilMs } }),
      copy.tellEngine(),
      ...(resumed.length === 0 ? [] : [engine.command({ op: 'import', anchor: id, sessions: resumed })]),
      engine.command({ op: 'installed', anchor: id }),
    ]);
  } catch (error) {
    await copy.stop();
    throw error;
  }
  if (!options.isCurrent()) {
    await copy.stop();
    return null;
  }
  options.onInstalled(copy);
  return serving(copy, options, copy.heardMs);
}

/** An anchor of another relay that this one may take over at any moment. */
export interface FollowedAnchor {
  /** The anchor is this relay's now: begins it, continuing `resumed` sessions where given; null: overtaken. */
  take(options: ServedAnchorOptions, resumed?: readonly SessionState[]): Promise<ServedAnchor | null>;
  /** All that was read of it. */
  held(): Held;
  stop(): Promise<void>;
}

/** Follows an anchor. Resolves when the engine stands by with all of it. */
export async function followAnchor(
  options: AnchorCopyOptions & { readonly timers: Timers },
): Promise<FollowedAnchor> {
  const { anchor: id, engine, log, timers } = options;
  const copy = await copyAnchor(options);
  let cancelLook = () => {};
  let stopped = false;
  const look = (): void => {
    if (stopped) return;
    cancelLook = timers.after(LOOK_EVERY_MS, () => {
      copy
        .follow()
        .then(() => copy.learnHints())
        .catch((error: Error) =>
          log.warn({ anchor: id, error: error.message }, 'cannot follow the anchor now'),
        )
        .finally(look);
    });
  };
  // Without the registry's last word there is still all that it said before; the rest follows by itself.
  const late = (error: Error) =>
    log.warn({ anchor: id, error: error.message }, 'taken over as it was followed');
  const stop = async (): Promise<void> => {
    stopped = true;
    cancelLook();
    await copy.stop();
  };
  try {
    await engine.command({ op: 'follow', anchor: id, endpoints: copy.endpoints });
    await copy.tellEngine(true);
    await engine.command({ op: 'installed', anchor: id });
    await copy.follow();
  } catch (error) {
    await stop();
    await engine.command({ op: 'unfollow', anchor: id });
    throw error;
  }
  look();

  return {
    held: copy.held,
    async take(taken, resumed = []) {
      stopped = true;
      cancelLook();
      const { heardMs } = copy;
      await copy.alone(async (catchUp) => {
        const { endpoints } = copy;
        const { epoch, untilMs } = taken;
        await catchUp().catch(late);
        const resumes = resumed.length > 0;
        if (!taken.isCurrent()) return;
        await Promise.all([
          engine.command({ op: 'anchor', anchor: { id, endpoints, epoch, untilMs, resumes } }),
          ...(resumes ? [engine.command({ op: 'import', anchor: id, sessions: resumed })] : []),
        ]);
      });
      if (taken.isCurrent()) {
        taken.onInstalled(copy);
        // Those that were lost with it are announced before anything else is done for this one.
        await new Promise<void>((resolve) => timers.after(0, resolve));
        return serving(copy, taken, heardMs, JOURNAL_AFTER_MS);
      }
      await copy.stop();
      await engine.command({ op: 'unfollow', anchor: id });
      return null;
    },
    async stop() {
      await stop();
      await engine.command({ op: 'unfollow', anchor: id });
    },
  };
}

/**
 * `heardMs`: when the registry was asked that answered before this relay was to serve the anchor. `journalAfterMs`: what nobody
 * waits for is written down so late.
 */
function serving(
  copy: AnchorCopy,
  options: ServedAnchorOptions,
  heardMs: number,
  journalAfterMs = 0,
): ServedAnchor {
  const { anchor, epoch, journal, log, registry, relay, former = [], outageGraceMs: graceMs } = options;
  const { timers = processTimers } = options;
  const stretched = stretching({ copy, epoch, registry, graceMs, heardMs, timers, log });
  /** By the registry's clock, when it answered last; nothing is ended before it has. */
  let answeredMs = 0;
  let touchedMs = timers.nowMs();
  let standby = options.standby ?? null;
  copy.serveUnder(epoch);
  copy.onEnded(options.onEnded);
  copy.onResized(options.onResized);
  const written = journal?.begin(anchor, () => ({
    ...copy.base(),
    claim: { relay, epoch, endpoints: copy.endpoints, prefixes: copy.prefixes },
    standby,
  }));
  let cancelJournalling = () => {};
  if (written !== undefined) {
    copy.keep(written);
    written.note({ type: 'standby', standby });
    const write = () => {
      written.synced().catch((error: Error) => log.error({ anchor, error: error.message }, 'not journalled'));
    };
    if (journalAfterMs > 0) cancelJournalling = timers.after(journalAfterMs, write);
    else write();
  }
  stretched.resume(former);
  // A standby that heard nothing for longer than it looks: neither did whoever wanted to extend.
  if (timers.nowMs() - heardMs > LOOK_EVERY_MS + LATE_MS) stretched.away();
  return {
    ...copy,
    get prefixes() {
      return copy.prefixes;
    },
    get declaration() {
      return copy.declaration;
    },
    epoch,
    async sweep() {
      const askedMs = timers.nowMs();
      try {
        await stretched.tell();
        const latestMs = answeredMs;
        for (let more = true; more; ) {
          const swept = await registry.sweep(anchor, epoch, SWEEP_LIMIT, latestMs);
          answeredMs = Math.max(answeredMs, swept.atMs);
          more = swept.more;
        }
      } catch (error) {
        if (isAway(error)) stretched.away();
        throw error;
      }
      if (timers.nowMs() - askedMs > LATE_MS) stretched.away();
      stretched.heard(askedMs);
      await copy.follow();
      // What was not worth a sync of its own.
      await written?.synced();
      if (timers.nowMs() < touchedMs + TOUCH_EVERY_MS) return;
      touchedMs = timers.nowMs();
      copy.touch();
    },
    async noteStandby(named) {
      standby = named;
      written?.note({ type: 'standby', standby });
      await written?.synced();
    },
    async stop() {
      cancelJournalling();
      await copy.stop();
      await written?.close();
    },
  };
}
