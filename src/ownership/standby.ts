import type { Logger } from 'pino';
import { MooringError } from '../protocol/errors.ts';
import type { Registry } from '../registry/registry.ts';
import { processTimers, type Timers } from './timers.ts';

export interface StandbyOptions {
  readonly registry: Pick<Registry, 'owner'>;
  readonly relay: string;
  /** 8 octets, hexadecimal: this incarnation of the relay. */
  readonly boot: string;
  /** How long a promise lasts, milliseconds (`holdMs` of what the owner counts on). */
  readonly promiseMs: number;
  readonly log: Logger;
  readonly timers?: Timers;
  /** When this incarnation began, monotonic milliseconds; default: now. */
  readonly startedMs?: number;
  /** The anchor is this relay's at present. */
  owns(anchor: string): boolean;
  /** Claims the anchor. Rejects as the registry refuses. */
  claim(anchor: string): Promise<unknown>;
  /** Another relay owns it and counts on this one: follow its state, to be quick when it is needed. */
  onFollow(anchor: string): void;
  /** It is followed no longer: another relay is the standby, or this one owns it. */
  onUnfollow(anchor: string): void;
}

/**
 * A relay's side of being named standby. A promise says: until it has run out, by this relay's clock, this relay neither
 * claims the anchor nor forwards for it. When the last one has run out and nobody asks for another, it claims.
 */
export interface Standby {
  /** True: promised to the owner under `epoch`. False: not now, ask again. */
  promise(anchor: string, epoch: bigint): boolean;
  /**
   * Resolves when no promise, of this incarnation or a former one, forbids to begin forwarding for the anchor. With `epoch`, under
   * which it is this relay's by the registry's word, nothing more is promised to an owner before.
   */
  mayBegin(anchor: string, epoch?: bigint): Promise<void>;
  /** The owner itself handed the anchor over: what was promised to it is void. */
  released(anchor: string): void;
  /** Looks at the registry whether it names this incarnation the standby, without having been asked for a promise. */
  look(anchor: string): Promise<void>;
  stop(): void;
}

/** How soon a claim is tried again when the registry does not say how long the owner's holds, milliseconds. */
const CLAIM_EVERY_MS = 25;
/** The same after a second in vain; also how long it is waited at most for a claim that the registry counts down: somebody may renew it. */
const CLAIM_SELDOM_MS = 250;
const EAGER_MS = 1_000;

interface Followed {
  /** The highest epoch known of: no promise goes to a lower one. */
  epoch: bigint;
  /** Monotonic milliseconds; −Infinity: nothing promised. */
  promisedUntilMs: number;
  /** A claim is under way, or was and may still arrive: nothing is promised then. */
  claiming: boolean;
  cancel: () => void;
}

export function createStandby(options: StandbyOptions): Standby {
  const { registry, relay, boot, promiseMs, log, timers = processTimers } = options;
  // What a former incarnation promised is not known here; it has run out by then.  spin: ownership.start
  const beginsMs = (options.startedMs ?? timers.nowMs()) + promiseMs;
  const followed = new Map<string, Followed>();
  const reading = new Set<string>();
  let stopped = false;

  const sleep = (ms: number) => new Promise<void>((resolve) => timers.after(ms, resolve));
  const forbiddenUntilMs = (anchor: string) =>
    Math.max(beginsMs, followed.get(anchor)?.promisedUntilMs ?? Number.NEGATIVE_INFINITY);

  function unfollow(anchor: string): void {
    followed.get(anchor)?.cancel();
    if (followed.delete(anchor)) options.onUnfollow(anchor);
  }

  /** Knows the epoch by the registry's own word, so that a forgetful incarnation does not promise to a former owner. */
  async function read(anchor: string): Promise<void> {
    if (reading.has(anchor)) return;
    reading.add(anchor);
    try {
      // spin: ownership.read
      const owner = await registry.owner(anchor);
      const named = owner?.standby?.id === relay && owner.standby.boot === boot;
      if (stopped || options.owns(anchor) || owner === null || !named) return;
      const known = followed.get(anchor);
      if (known !== undefined) {
        if (owner.epoch > known.epoch) known.epoch = owner.epoch;
        return;
      }
      const one = {
        epoch: owner.epoch,
        promisedUntilMs: Number.NEGATIVE_INFINITY,
        claiming: false,
        cancel: () => undefined,
      };
      followed.set(anchor, one);
      log.info({ anchor, owner: owner.relay }, 'standby: following');
      options.onFollow(anchor);
      watch(anchor, one, Math.max(0, owner.remainingMs, beginsMs - timers.nowMs()));
    } finally {
      reading.delete(anchor);
    }
  }

  function watch(anchor: string, one: Followed, delayMs: number): void {
    one.cancel();
    one.cancel = timers.after(delayMs, () => void takeOver(anchor, one));
  }

  /** spin: ownership.claim.send */
  async function takeOver(anchor: string, one: Followed): Promise<void> {
    const beganMs = timers.nowMs();
    const current = () => !stopped && followed.get(anchor) === one;
    for (;;) {
      if (!current() || timers.nowMs() < forbiddenUntilMs(anchor)) {
        one.claiming = false;
        if (current()) watch(anchor, one, forbiddenUntilMs(anchor) - timers.nowMs());
        return;
      }
      one.claiming = true;
      try {
        await options.claim(anchor);
        log.warn({ anchor, tookMs: timers.nowMs() - beganMs }, 'standby: took the anchor over');
        unfollow(anchor);
        return;
      } catch (error) {
        // Without an answer it may still be carried out: no promise until one has come.
        if (!isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE')) one.claiming = false;
        if (isCode(error, 'ERR_MOORING_OWNED_BY_ANOTHER')) {
          await sleep(await claimableMs(anchor, timers.nowMs() - beganMs > EAGER_MS));
          continue;
        }
        log.warn({ err: error, anchor }, 'standby: not claimed');
      }
      await sleep(timers.nowMs() - beganMs > EAGER_MS ? CLAIM_SELDOM_MS : CLAIM_EVERY_MS);
    }
  }

  /** How long the registry still counts the owner's claim down. `doubting`: somebody else may have become the standby. */
  async function claimableMs(anchor: string, doubting: boolean): Promise<number> {
    const owner = await registry.owner(anchor).catch(() => undefined);
    const isNamed = owner?.standby?.id === relay && owner.standby.boot === boot;
    if (doubting && owner !== undefined && !isNamed) unfollow(anchor);
    if (doubting) return CLAIM_SELDOM_MS;
    const leftMs = owner?.remainingMs ?? 0;
    return leftMs > 0 ? Math.min(Math.ceil(leftMs), CLAIM_SELDOM_MS) : CLAIM_EVERY_MS;
  }

  return {
    // spin: ownership.promise
    promise(anchor, epoch) {
      const one = followed.get(anchor);
      const nowMs = timers.nowMs();
      if (stopped || options.owns(anchor) || nowMs < beginsMs) return false;
      if (one === undefined) {
        read(anchor).catch((error: Error) => log.warn({ err: error, anchor }, 'standby: cannot follow yet'));
        return false;
      }
      if (one.claiming || epoch < one.epoch) return false;
      one.epoch = epoch;
      one.promisedUntilMs = nowMs + promiseMs;
      watch(anchor, one, promiseMs);
      return true;
    },

    async mayBegin(anchor, epoch) {
      const one = followed.get(anchor);
      if (one !== undefined && epoch !== undefined && epoch > one.epoch) one.epoch = epoch;
      for (;;) {
        const waitMs = forbiddenUntilMs(anchor) - timers.nowMs();
        if (waitMs <= 0 || stopped) return;
        await sleep(waitMs);
      }
    },

    released: unfollow,

    look: read,

    stop() {
      stopped = true;
      for (const one of followed.values()) one.cancel();
      followed.clear();
    },
  };
}

function isCode(error: unknown, code: string): boolean {
  return error instanceof MooringError && error.code === code;
}
