import type { Logger } from 'pino';
import { LONGEST_CLAIM_MS } from '../config/longest-claim.ts';
import { MooringError } from '../protocol/errors.ts';
import { LATE_STOP_MS } from '../registry/hold.ts';
import type { Incarnation, Registry } from '../registry/registry.ts';
import { isAway, isCode } from './answers.ts';
import { claimAtStart, type Starting } from './starting.ts';
import { processTimers, type Timers } from './timers.ts';

export interface OwnershipOptions {
  readonly registry: Pick<Registry, 'claim' | 'renew' | 'transfer'>;
  readonly relay: string;
  /** 8 octets, hexadecimal: this incarnation of the relay. */
  readonly boot: string;
  /** How long a claim lasts without renewal, milliseconds; default 10,000. */
  readonly ttlMs?: number;
  /** The same for one anchor, asked at every renewal; default `ttlMs`. An anchor with a standby has a shorter one. */
  readonly ttlOf?: (anchor: string) => number;
  /**
   * Resolves when this relay may begin to forward for an anchor that nobody handed to it: no promise of its own, nor of
   * a former incarnation, forbids it (default: at once). `epoch`: under which the registry has named it the owner meanwhile.
   */
  readonly mayBegin?: (anchor: string, epoch?: bigint) => Promise<void>;
  /**
   * Tells the registry what this relay holds under `epoch`, after a fail-over that may have lost something; resolves with
   * the epoch under which it goes on (default: it does not).
   */
  readonly report?: (anchor: string, epoch: bigint, ttlMs: number) => Promise<{ readonly epoch: bigint }>;
  /**
   * True while no other relay may claim the anchor but by an operator's word: it needs no deadline then, and is forwarded for while
   * the registry is away (default: never).
   */
  readonly nobodyElse?: (anchor: string, epoch: bigint) => boolean;
  /** Whose promises the anchor is forwarded by (default: nobody's). */
  readonly standbyOf?: (anchor: string) => Incarnation | undefined;
  /** For so long at most, milliseconds; default an hour. */
  readonly outageGraceMs?: number;
  /**
   * How long an anchor that the registry has never seen owned is watched before it is served, milliseconds (default 0): a registry
   * that was emptied hears within that time from whoever owns it.
   */
  readonly firstClaimMs?: (anchor: string) => number;
  /** The highest epoch under which this relay, or a former process of it, had the anchor (default: not known). */
  readonly knownEpoch?: (anchor: string) => bigint | undefined;
  /** The epoch of what this relay has read of an anchor that it may take over (default: nothing). */
  readonly followedEpoch?: (anchor: string) => bigint | undefined;
  /** Declares an anchor again that the registry has forgotten (default: it is lost). */
  readonly redeclare?: (anchor: string) => Promise<void>;
  readonly log: Logger;
  readonly timers?: Timers;
  /** The anchor is this relay's under `epoch`: serve it, and forward until `untilMs` of the monotonic clock. */
  onOwned(anchor: string, epoch: bigint, untilMs: number): void | Promise<void>;
  /** Another relay has handed it over, and stands by for it. */
  onAdopted?(anchor: string, epoch: bigint): void;
  /** Forward for it until then. */
  onDeadline(anchor: string, untilMs: number): void;
  /**
   * The deadline has passed without a word: the standby may have begun by now, so the network must not be told any more
   * that the anchor is here. True from then on; false when it is this relay's again after all.
   */
  onLapsed?(anchor: string, lapsed: boolean): void;
  /** It is another's, or given away: stop at once. */
  onLost(anchor: string, epoch: bigint): void;
}

/** What a planned hand-over needs of the relay node. */
export interface HandOverSteps<State> {
  /** Stop forwarding for the anchor and return what its sessions need to go on. */
  freeze(): Promise<State>;
  /** The other relay owns the anchor under `epoch`: give it the state. */
  deliver(epoch: bigint, state: State): Promise<void>;
  /** The hand-over did not happen: forward again. */
  thaw(state: State): Promise<void>;
}

export interface Owned {
  readonly epoch: bigint;
  /** Monotonic milliseconds; forwarding ends then unless it is renewed. */
  readonly untilMs: number;
}

export interface Ownership {
  /**
   * Claims those of `anchors` that are this relay's: its own from a former incarnation, and its home anchors
   * without owner. Resolves when each was claimed or is another's; while the registry is away it keeps asking.
   */
  start(anchors: readonly string[]): Promise<void>;
  /** Claims one anchor; `force` is an operator's word that its owner is gone. */
  claim(anchor: string, force?: boolean): Promise<bigint>;
  /** Hands an anchor over to another relay's incarnation. Rejects when it stayed here, or was lost. */
  handOver<State>(
    anchor: string,
    to: { readonly id: string; readonly boot: string },
    steps: HandOverSteps<State>,
  ): Promise<bigint>;
  /** The standby has promised not to claim before: forward until `untilMs`, with the registry or without it. */
  extend(anchor: string, epoch: bigint, untilMs: number): void;
  /** Takes an anchor that another relay handed over under `epoch`. */
  adopt(anchor: string, epoch: bigint): Promise<void>;
  owned(): ReadonlyMap<string, Owned>;
  /** Renews no more. Claims stay, so that this relay's next incarnation gets its anchors back at once. */
  stop(): void;
}

/** Renewals within one time to live: three may be lost. */
const RENEWALS_PER_TTL = 4;
/** Renewals are so far apart, or a multiple of it: milliseconds. */
const RENEWAL_GRAIN_MS = 50;
const OUTAGE_GRACE_MS = 3_600_000;
/** What took longer to be answered was sent more than once, and perhaps to more than one server: milliseconds. */
const ANSWERED_WITHIN_MS = 500;

interface Held {
  epoch: bigint;
  /** When the registry was asked that answered last. */
  heardMs: number;
  untilMs: number;
  cancel: () => void;
  cancelLapse: () => void;
  lapsed: boolean;
  /** Being handed over: no renewal any more. */
  leaving: boolean;
}

/**
 * Owns anchors on behalf of a relay node. A deadline counts from when the request was *sent*: the registry counts
 * from when it arrived, later, so the relay stops before anybody else may begin.
 */
export function createOwnership(options: OwnershipOptions): Ownership {
  const { registry, relay, boot, log, ttlMs = LONGEST_CLAIM_MS, timers = processTimers } = options;
  const { outageGraceMs = OUTAGE_GRACE_MS } = options;
  const ttlOf = options.ttlOf ?? (() => ttlMs);
  const renewEveryMs = (anchor: string) =>
    Math.max(1, Math.floor(ttlOf(anchor) / RENEWALS_PER_TTL / RENEWAL_GRAIN_MS)) * RENEWAL_GRAIN_MS;
  const held = new Map<string, Held>();
  /** Under which epoch each anchor was handed over last, and when. */
  const handedOver = new Map<string, { readonly epoch: bigint; readonly atMs: number }>();
  let stopped = false;

  function letGo(one: Held | undefined): void {
    one?.cancel();
    one?.cancelLapse();
  }

  function watchLapse(anchor: string, one: Held): void {
    const { onLapsed } = options;
    if (onLapsed === undefined) return;
    if (one.lapsed) onLapsed(anchor, false);
    one.lapsed = false;
    one.cancelLapse();
    one.cancelLapse = timers.after(one.untilMs + LATE_STOP_MS - timers.nowMs(), () => {
      if (held.get(anchor) !== one || one.leaving) return;
      one.lapsed = true;
      log.warn({ anchor, epoch: String(one.epoch) }, 'ownership: no word until the deadline');
      onLapsed(anchor, true);
    });
  }

  function hold(anchor: string, epoch: bigint, untilMs: number): void {
    letGo(held.get(anchor));
    const one = {
      epoch,
      heardMs: timers.nowMs(),
      untilMs,
      cancel: () => undefined,
      cancelLapse: () => undefined,
      lapsed: false,
      leaving: false,
    };
    held.set(anchor, one);
    watchLapse(anchor, one);
  }

  function scheduleRenewal(anchor: string, one: Held, sentMs: number): void {
    if (stopped || one.leaving || held.get(anchor) !== one) return;
    const delayMs = Math.max(0, sentMs + renewEveryMs(anchor) - timers.nowMs());
    one.cancel = timers.after(delayMs, () => void renew(anchor, one));
  }

  /** Never to an earlier instant: each word that it may go on stands for itself.  spin: ownership.renewed */
  function forwardUntil(anchor: string, one: Held, untilMs: number): void {
    if (untilMs < one.untilMs) return;
    one.untilMs = untilMs;
    options.onDeadline(anchor, untilMs);
    watchLapse(anchor, one);
  }

  /** spin: ownership.renew.send */
  async function renew(anchor: string, one: Held): Promise<void> {
    const sentMs = timers.nowMs();
    const forMs = ttlOf(anchor);
    try {
      await registry.renew(anchor, relay, one.epoch, forMs);
      if (stopped || held.get(anchor) !== one) return;
      one.heardMs = sentMs;
      if (!one.leaving) forwardUntil(anchor, one, sentMs + forMs);
    } catch (error) {
      if (isCode(error, 'ERR_MOORING_STALE_EPOCH')) {
        lose(anchor, one);
        return;
      }
      log.warn({ err: error, anchor, untilMs: one.untilMs }, 'ownership: not renewed');
      const mayGoOn = !stopped && held.get(anchor) === one && !one.leaving;
      if (mayGoOn && isAway(error) && sentMs < one.heardMs + outageGraceMs) {
        if (options.nobodyElse?.(anchor, one.epoch)) forwardUntil(anchor, one, sentMs + forMs);
      }
      if (isCode(error, 'ERR_MOORING_UNKNOWN_ANCHOR')) await redeclare(anchor);
      if (isCode(error, 'ERR_MOORING_QUARANTINED') && (await report(anchor, one, forMs))) return;
    }
    scheduleRenewal(anchor, one, sentMs);
  }

  /** A registry that was emptied: its next answer is that it knows less than this relay.  */
  async function redeclare(anchor: string): Promise<void> {
    try {
      await options.redeclare?.(anchor);
    } catch (error) {
      log.warn({ err: error, anchor }, 'ownership: not declared again');
    }
  }

  /** True: it is settled whose the anchor is.  spin: ownership.report */
  async function report(anchor: string, one: Held, forMs: number): Promise<boolean> {
    if (options.report === undefined || one.leaving || held.get(anchor) !== one) return false;
    const sentMs = timers.nowMs();
    try {
      const { epoch } = await options.report(anchor, one.epoch, forMs);
      if (stopped || one.leaving || held.get(anchor) !== one) return true;
      log.warn({ anchor, epoch: String(epoch) }, 'ownership: reported what is held, and goes on');
      await options.mayBegin?.(anchor, epoch);
      if (held.get(anchor) === one) await take(anchor, epoch, sentMs, forMs);
      return true;
    } catch (error) {
      if (isCode(error, 'ERR_MOORING_STALE_EPOCH')) {
        lose(anchor, one);
        return true;
      }
      if (!isCode(error, 'ERR_MOORING_QUARANTINED'))
        log.warn({ err: error, anchor }, 'ownership: not reported');
      return false;
    }
  }

  /** spin: ownership.lost */
  function lose(anchor: string, one: Held): void {
    if (held.get(anchor) !== one) return;
    letGo(one);
    held.delete(anchor);
    log.warn({ anchor, epoch: String(one.epoch) }, 'ownership: lost');
    options.onLost(anchor, one.epoch);
  }

  /** From here on the anchor is renewed, also while the node is still installing it.  spin: ownership.owned */
  async function take(anchor: string, epoch: bigint, sentMs: number, forMs: number): Promise<void> {
    // An answer of before it was handed over, which comes late.
    const last = handedOver.get(anchor);
    if (last !== undefined && epoch <= last.epoch && sentMs <= last.atMs) throw epochIsOver(anchor, epoch);
    hold(anchor, epoch, sentMs + forMs);
    scheduleRenewal(anchor, held.get(anchor)!, sentMs);
    log.info({ anchor, epoch: String(epoch) }, 'ownership: owned');
    const one = held.get(anchor)!;
    try {
      await options.onOwned(anchor, epoch, sentMs + forMs);
    } catch (error) {
      // Owned but not served would lock everybody out of it. The next claim begins it anew, under the same epoch.
      lose(anchor, one);
      throw error;
    }
  }

  async function reportFormer(anchor: string): Promise<boolean> {
    const known = options.knownEpoch?.(anchor) ?? options.followedEpoch?.(anchor);
    if (known === undefined || options.report === undefined) return false;
    const sentMs = timers.nowMs();
    const forMs = ttlOf(anchor);
    const { epoch } = await options.report(anchor, known, forMs);
    log.warn({ anchor, epoch: String(epoch) }, 'ownership: reported what was held before');
    await options.mayBegin?.(anchor, epoch);
    if (held.get(anchor)?.epoch !== epoch) await take(anchor, epoch, sentMs, forMs);
    return true;
  }

  async function claim(anchor: string, force = false): Promise<bigint> {
    await options.mayBegin?.(anchor);
    const sentMs = timers.nowMs();
    const forMs = ttlOf(anchor);
    const known = options.knownEpoch?.(anchor);
    let epoch: bigint;
    try {
      ({ epoch } = await registry.claim(
        ...([anchor, relay, boot, forMs, force] as const),
        ...(known === undefined ? [] : [known]),
      ));
    } catch (error) {
      if (!isCode(error, 'ERR_MOORING_QUARANTINED')) throw error;
      // A claim that ends the quarantine would end it without what was held, or followed, here.
      const isSettled = await reportFormer(anchor).catch(() => false);
      const owned = isSettled ? held.get(anchor)?.epoch : undefined;
      if (owned === undefined) throw error;
      return owned;
    }
    // It may have been sent again and again, and something been promised since it was sent first.
    await options.mayBegin?.(anchor, epoch);
    const watchMs = epoch === 1n ? (options.firstClaimMs?.(anchor) ?? 0) : 0;
    if (watchMs > 0 && held.get(anchor)?.epoch !== epoch) {
      await new Promise<void>((resolve) => timers.after(watchMs, resolve));
      // Refused when somebody has said that he knows of a higher epoch.
      await registry.renew(anchor, relay, epoch, forMs).catch((cause: unknown) => {
        throw isCode(cause, 'ERR_MOORING_STALE_EPOCH') ? ownedByAnother(anchor, cause) : cause;
      });
    }
    if (held.get(anchor)?.epoch !== epoch) await take(anchor, epoch, sentMs, forMs);
    return epoch;
  }

  /** Asks until the registry has answered: only then is it known whose the anchor is. */
  async function transfer(
    anchor: string,
    one: Held,
    to: { readonly id: string; readonly boot: string },
  ): Promise<bigint> {
    for (;;) {
      try {
        return (await registry.transfer(anchor, relay, one.epoch, to.id, to.boot, ttlOf(anchor))).epoch;
      } catch (error) {
        const mayPass = isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE') && timers.nowMs() < one.untilMs;
        if (!mayPass || stopped) throw error;
      }
    }
  }

  const starting: Starting = {
    claim,
    stopped: () => stopped,
    againMs: renewEveryMs,
    log,
    timers,
    reportFormer,
  };

  return {
    start: (anchors) => claimAtStart(anchors, starting),

    claim,

    async handOver(anchor, to, steps) {
      const one = held.get(anchor);
      if (one === undefined) {
        throw new MooringError(
          'ERR_MOORING_NOT_OWNED',
          `anchor ${anchor}: relay ${relay} does not own it; ask its owner to hand it over`,
          { data: { anchor, relay } },
        );
      }
      if (one.leaving) {
        throw new MooringError(
          'ERR_MOORING_HAND_OVER_RUNNING',
          `anchor ${anchor} is being handed over already; wait for its end`,
          { temporary: true, data: { anchor, relay } },
        );
      }
      // Before the state is taken: what a renewal moves after that would be moved for nobody.
      // spin: ownership.hand-over.freeze
      one.leaving = true;
      one.cancel();
      const stay = (): void => {
        one.leaving = false;
        scheduleRenewal(anchor, one, timers.nowMs() - renewEveryMs(anchor));
      };
      let state: Awaited<ReturnType<typeof steps.freeze>>;
      try {
        state = await steps.freeze();
      } catch (error) {
        stay();
        throw error;
      }
      let epoch: bigint;
      const sentMs = timers.nowMs();
      try {
        epoch = await transfer(anchor, one, to);
      } catch (error) {
        // A primary that has been deposed since may have carried it out, and may still tell the other relay so.
        const mayBeDone =
          isCode(error, 'ERR_MOORING_QUARANTINED') && timers.nowMs() - sentMs > ANSWERED_WITHIN_MS;
        // Without an answer it may be the other's. Only that one's own promises, which it does not break, are good for going on then.
        const isUnsure =
          isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE') && !isSame(options.standbyOf?.(anchor), to);
        if (mayBeDone || isUnsure || isCode(error, 'ERR_MOORING_STALE_EPOCH')) {
          lose(anchor, one);
        } else if (held.get(anchor) === one) {
          // spin: ownership.hand-over.called-off
          try {
            await steps.thaw(state);
          } catch (failure) {
            // Owned but not served would lock everybody out of it.
            lose(anchor, one);
            throw failure;
          }
          stay();
        }
        throw error;
      }
      letGo(one);
      held.delete(anchor);
      handedOver.set(anchor, { epoch: one.epoch, atMs: timers.nowMs() });
      log.info({ anchor, epoch: String(epoch), to: to.id }, 'ownership: handed over');
      try {
        await steps.deliver(epoch, state);
      } finally {
        // It may be this relay's again by now.
        if (!held.has(anchor)) options.onLost(anchor, one.epoch);
      }
      return epoch;
    },

    extend(anchor, epoch, untilMs) {
      const one = held.get(anchor);
      if (one?.epoch === epoch && !one.leaving && !stopped) forwardUntil(anchor, one, untilMs);
    },

    // spin: ownership.adopt
    async adopt(anchor, epoch) {
      const sentMs = timers.nowMs();
      const forMs = ttlOf(anchor);
      await registry.renew(anchor, relay, epoch, forMs);
      options.onAdopted?.(anchor, epoch);
      if (held.get(anchor)?.epoch !== epoch) await take(anchor, epoch, sentMs, forMs);
    },

    owned: () => new Map([...held].map(([anchor, { epoch, untilMs }]) => [anchor, { epoch, untilMs }])),

    stop() {
      stopped = true;
      for (const one of held.values()) letGo(one);
      held.clear();
    },
  };
}

function isSame(one: Incarnation | undefined, other: Pick<Incarnation, 'id' | 'boot'>): boolean {
  return one?.id === other.id && one.boot === other.boot;
}

function epochIsOver(anchor: string, epoch: bigint): MooringError {
  return new MooringError(
    'ERR_MOORING_STALE_EPOCH',
    `anchor ${anchor}: epoch ${epoch} is over, this relay has handed it over since; ask the registry for its owner`,
    { temporary: true, data: { anchor } },
  );
}

function ownedByAnother(anchor: string, cause: Error): MooringError {
  return new MooringError(
    'ERR_MOORING_OWNED_BY_ANOTHER',
    `anchor ${anchor}: another relay has told the registry that it owns it; hand it over from there`,
    { temporary: true, cause, data: { anchor } },
  );
}
