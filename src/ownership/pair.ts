import type { Logger } from 'pino';
import { QUARANTINE_MS } from '../registry/hold.ts';
import type { Incarnation, Registry } from '../registry/registry.ts';
import type { Owned, Ownership } from './ownership.ts';
import { named, place } from './placement.ts';
import { processTimers, type Timers } from './timers.ts';

/** What an owner asks of its standby's relay plane. */
export interface StandbyPlane {
  /** The anchors that the standby promises not to claim for a while. */
  promise(
    anchors: readonly { readonly anchor: string; readonly epoch: string }[],
  ): Promise<readonly string[]>;
}

export interface PairingOptions {
  readonly registry: Pick<Registry, 'appoint'>;
  readonly relay: string;
  readonly ownership: Pick<Ownership, 'owned' | 'extend'>;
  /** The anchors that are to have a standby. */
  wants(anchor: string): boolean;
  /** Relays of this site that run now, this one not among them. */
  candidates(): Promise<readonly Incarnation[]>;
  reach(standby: Incarnation): Promise<StandbyPlane>;
  /**
   * Resolves when it is written down that `standby` may claim the anchor, before the registry hears of it; with null, that nobody
   * may, after the registry has (default: nothing is).
   */
  note?(anchor: string, standby: Incarnation | null): Promise<void>;
  /** How long a registry may still lose a claim, milliseconds (default 21 s): so long it is not noted that nobody stands by. */
  readonly unsureMs?: number;
  /**
   * How long an anchor is held without a word, milliseconds: one with a standby; one without; one that is to have a standby, until it
   * was looked for one: what a claim says at first, its standby must wait out.
   */
  readonly ttlMs: { readonly paired: number; readonly alone: number; readonly beginning: number };
  /** How often a promise is asked for, milliseconds. */
  readonly askEveryMs: number;
  readonly log: Logger;
  readonly timers?: Timers;
}

/**
 * The owner's side: each owned anchor has one standby, appointed in the registry and asked for promises, so that the
 * anchor is forwarded while either of the two answers.
 */
export interface Pairing {
  /** How long a claim on the anchor lasts without a word. */
  ttlOf(anchor: string): number;
  standbyOf(anchor: string): Incarnation | undefined;
  /** Under this epoch a standby has, or may have, been appointed. */
  hadStandby(anchor: string, epoch: bigint): boolean;
  /** The relay that handed the anchor over under this epoch stands by for it, until another is appointed, or nobody. */
  adopted(anchor: string, epoch: bigint): void;
  /** Looks who is there, and appoints where another standby is due. */
  review(): Promise<void>;
  start(): void;
  stop(): void;
}

/** How often it is looked who could be a standby, milliseconds. */
const REVIEW_EVERY_MS = 1_000;

interface Pair {
  readonly epoch: bigint;
  readonly standby: Incarnation;
}

export function createPairing(options: PairingOptions): Pairing {
  const { registry, relay, ownership, ttlMs, log, timers = processTimers } = options;
  const { unsureMs = QUARANTINE_MS } = options;
  const pairs = new Map<string, Pair>();
  const appointed = new Map<string, bigint>();
  /** Of which it is not noted yet who stands by, or that nobody does, and since when. */
  const unnoted = new Map<string, { readonly epoch: bigint; readonly sinceMs: number }>();
  /** Of which it is. */
  const noted = new Map<string, bigint>();
  /** Whose giver stands by, though nobody is to. */
  const adopted = new Map<string, bigint>();
  /** Nobody could stand by for them when it was looked last. */
  const alone = new Set<string>();
  const planes = new Map<string, StandbyPlane>();
  const asking = new Set<string>();
  let reviewing = false;
  let cancels: (() => void)[] = [];
  let stopped = false;

  function ttlOf(anchor: string): number {
    if (pairs.has(anchor)) return ttlMs.paired;
    return options.wants(anchor) && !alone.has(anchor) ? ttlMs.beginning : ttlMs.alone;
  }

  /** The standby first: from when it is named, no promise of another counts. */
  async function appoint(
    anchor: string,
    epoch: bigint,
    standby: Incarnation | undefined,
    forMs = standby === undefined ? ttlMs.alone : ttlMs.paired,
  ): Promise<void> {
    pairs.delete(anchor);
    if (standby !== undefined) {
      appointed.set(anchor, epoch);
      await options.note?.(anchor, standby);
    }
    await registry.appoint(anchor, relay, epoch, standby ?? null, forMs);
    if (standby === undefined) await options.note?.(anchor, null);
    noted.set(anchor, epoch);
    if (standby === undefined || ownership.owned().get(anchor)?.epoch !== epoch) return;
    pairs.set(anchor, { epoch, standby });
    log.info({ anchor, standby: standby.id }, 'ownership: standby appointed');
  }

  async function review(): Promise<void> {
    const owned = ownership.owned();
    for (const [anchor, { epoch }] of pairs) if (owned.get(anchor)?.epoch !== epoch) pairs.delete(anchor);
    for (const anchor of alone) if (!owned.has(anchor)) alone.delete(anchor);
    for (const [anchor, epoch] of adopted) {
      if (owned.get(anchor)?.epoch === epoch && !options.wants(anchor))
        await appoint(anchor, epoch, undefined);
      adopted.delete(anchor);
    }
    const wanting = [...owned].filter(([anchor]) => options.wants(anchor));
    if (wanting.length > 0) await pair(wanting);
    await Promise.all([...owned].map(([anchor, { epoch }]) => noteNobody(anchor, epoch)));
  }

  /** Whoever had the anchor before may have it again while the registry may lose its claim. */
  async function noteNobody(anchor: string, epoch: bigint): Promise<void> {
    if (noted.get(anchor) === epoch || pairs.has(anchor)) return;
    const nowMs = timers.nowMs();
    const since = unnoted.get(anchor);
    if (since?.epoch !== epoch) unnoted.set(anchor, { epoch, sinceMs: nowMs });
    else if (nowMs - since.sinceMs >= unsureMs) await appoint(anchor, epoch, undefined, ttlOf(anchor));
  }

  async function pair(wanting: readonly (readonly [string, Owned])[]): Promise<void> {
    const candidates = await options.candidates();
    const present = new Map(
      wanting.flatMap(([anchor]): [string, Incarnation][] => {
        const standby = pairs.get(anchor)?.standby;
        return standby === undefined ? [] : [[anchor, standby]];
      }),
    );
    const anchors = wanting.map(([anchor]) => anchor);
    const due = await place(anchors, candidates, present, whoAnswers());
    await Promise.all(
      wanting.map(async ([anchor, { epoch }]) => {
        const [former, next] = [present.get(anchor), due.get(anchor)];
        const same =
          former === undefined || next === undefined ? former === next : named(former) === named(next);
        if (!same) await appoint(anchor, epoch, next);
        if (next === undefined) alone.add(anchor);
        else alone.delete(anchor);
      }),
    );
  }

  /** Asks each relay once whether it answers here. */
  function whoAnswers(): (one: Incarnation) => Promise<boolean> {
    const answers = new Map<string, Promise<boolean>>();
    return (one) => {
      const name = named(one);
      const answer = answers.get(name) ?? answersNow(one, name);
      answers.set(name, answer);
      return answer;
    };
  }

  async function answersNow(one: Incarnation, name: string): Promise<boolean> {
    try {
      const plane = planes.get(name) ?? (await options.reach(one));
      await plane.promise([]);
      planes.set(name, plane);
      return true;
    } catch (error) {
      planes.delete(name);
      log.debug(
        { err: (error as Error).message, relay: one.id },
        'ownership: no standby, it does not answer',
      );
      return false;
    }
  }

  /** One question to each standby, for all anchors that it is the standby of.  spin: ownership.promise.ask */
  function askAll(): void {
    const byStandby = new Map<string, { standby: Incarnation; anchors: [string, bigint][] }>();
    const owned = ownership.owned();
    for (const [anchor, { epoch, standby }] of pairs) {
      if (owned.get(anchor)?.epoch !== epoch) continue;
      const group = byStandby.get(named(standby)) ?? { standby, anchors: [] };
      group.anchors.push([anchor, epoch]);
      byStandby.set(named(standby), group);
    }
    for (const [name, { standby, anchors }] of byStandby) {
      // An answer that is late is no answer: the next question does not wait for it for ever.
      if (asking.has(name)) continue;
      asking.add(name);
      ask(name, standby, anchors)
        .catch((error: Error) => {
          planes.delete(name);
          log.warn({ err: error.message, standby: standby.id }, 'ownership: no promise');
        })
        .finally(() => asking.delete(name));
    }
  }

  async function ask(name: string, standby: Incarnation, anchors: [string, bigint][]): Promise<void> {
    const plane = planes.get(name) ?? (await options.reach(standby));
    planes.set(name, plane);
    const sentMs = timers.nowMs();
    const promised = new Set(
      await plane.promise(anchors.map(([anchor, epoch]) => ({ anchor, epoch: String(epoch) }))),
    );
    for (const [anchor, epoch] of anchors) {
      const pair = pairs.get(anchor);
      const isStandby = pair?.epoch === epoch && named(pair.standby) === name;
      if (promised.has(anchor) && isStandby) ownership.extend(anchor, epoch, sentMs + ttlMs.paired);
    }
  }

  function every(periodMs: number, run: () => void): void {
    const at = cancels.length;
    const again = () => {
      if (stopped) return;
      cancels[at] = timers.after(periodMs, () => {
        run();
        again();
      });
    };
    cancels.push(() => undefined);
    again();
  }

  return {
    ttlOf,
    standbyOf: (anchor) => pairs.get(anchor)?.standby,
    hadStandby: (anchor, epoch) => appointed.get(anchor) === epoch,
    adopted(anchor, epoch) {
      appointed.set(anchor, epoch);
      adopted.set(anchor, epoch);
    },
    review,
    start() {
      const look = async () => {
        if (reviewing) return;
        reviewing = true;
        try {
          await review();
        } catch (error) {
          log.warn({ err: (error as Error).message }, 'ownership: no standby appointed');
        }
        reviewing = false;
      };
      void look();
      every(REVIEW_EVERY_MS, () => void look());
      every(options.askEveryMs, askAll);
    },
    stop() {
      stopped = true;
      for (const cancel of cancels) cancel();
      cancels = [];
    },
  };
}
