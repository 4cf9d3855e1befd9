import type { RelaySettings } from '../config/schema.ts';
import type { EngineAnswer, EngineCommand, EngineEvent, LeftBehind } from '../datapath/engine-api.ts';
import type { Ownership } from '../ownership/ownership.ts';
import type { Standby } from '../ownership/standby.ts';
import { processTimers, type Timers } from '../ownership/timers.ts';
import { MooringError } from '../protocol/errors.ts';
import type { EndReason, Lease } from '../protocol/lease.ts';
import type { OperatorPlane, RelayPlane, SessionState } from '../protocol/relay-plane.ts';
import type { Registry } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import type { Held } from './anchor-copy.ts';
import type { Announcer } from './announcer.ts';
import type { Carrying } from './carrying.ts';
import { createFollowedAnchors } from './followed-anchors.ts';
import type { Journal } from './journal/journal.ts';
import type { JournalledStandby } from './journal/record.ts';
import type { Journalled } from './journal/replay.ts';
import { createKeptAnchors } from './kept-anchors.ts';
import { createRelayPlane } from './plane.ts';
import { type ServedAnchor, serveAnchor } from './served-anchor.ts';
import { carriedThrough } from './stretching.ts';

/** How often the owner looks for expired leases and missed events, milliseconds. */
const SWEEP_EVERY_MS = 1_000;
/** An anchor that was to be handed over to this relay, and was not, is followed so long, milliseconds. */
const PREPARED_MS = 30_000;

export interface RelayNodeOptions {
  readonly settings: RelaySettings;
  readonly boot: string;
  readonly siteKey: Uint8Array;
  readonly registry: Registry;
  readonly engine: {
    command<C extends EngineCommand>(command: C): Promise<EngineAnswer<C>>;
  };
  readonly announcer: Announcer;
  /** Sessions that this relay's former process left behind forwarding, by anchor (default: none). */
  readonly leftBehind?: readonly LeftBehind[];
  /** Reaches another relay's plane. */
  readonly planeFor: (relay: string) => Promise<RelayPlane>;
  readonly onEnded: (lease: Lease, reason: EndReason) => void;
  readonly log: Log;
  /** Where what is held is written down (default: nowhere, and nothing is kept by a relay that is lost with the registry). */
  readonly journal?: Journal;
  /** Anchors that are forwarded for by the journal until they are served (default: none). */
  readonly carrying?: Pick<Carrying, 'anchors' | 'end'> | null;
  /** What the former process of this relay wrote down, by anchor (default: nothing). */
  readonly former?: ReadonlyMap<string, Journalled>;
  /** What it wrote down of anchors until it let go of them (default: nothing). */
  readonly aside?: ReadonlyMap<string, Journalled>;
  readonly timers?: Timers;
}

export interface RelayNode {
  readonly plane: RelayPlane & OperatorPlane;
  /** The engine's events go here. */
  engineEvent(event: EngineEvent): void;
  /** Begins to serve an anchor that ownership has claimed. */
  serve(anchor: string, epoch: bigint, untilMs: number, resumed?: readonly SessionState[]): Promise<void>;
  /** Stops serving an anchor at once: nothing more is forwarded or announced for it. */
  forsake(anchor: string): Promise<void>;
  /** Resolves when it is on the disk who may claim the anchor while this relay is silent; null: nobody. */
  noteStandby(anchor: string, standby: JournalledStandby | null): Promise<void>;
  /** Another relay owns the anchor and this one may take it over: has its state and keys ready from now on. */
  follow(anchor: string): Promise<void>;
  /** It is not to be taken over any more. */
  unfollow(anchor: string): void;
  deadline(anchor: string, untilMs: number): void;
  /** Whether the network is no longer to be told that the anchor is here, though it may still be this relay's. */
  lapse(anchor: string, lapsed: boolean): void;
  /** Declares the anchor again in a registry that has forgotten it. */
  redeclare(anchor: string): Promise<void>;
  /**
   * All that this relay has of an anchor, had until a moment ago, or its former process had: what it reports to a registry that
   * may have lost something. Throws QUARANTINED while it has read nothing of it: who claimed an anchor and knows nothing yet must
   * not outdo who does.
   */
  held(anchor: string): Held;
  /** The epoch under which it had that; undefined: it has nothing, or serves the anchor now. */
  knownEpoch(anchor: string): bigint | undefined;
  /** The last epoch that it has read of an anchor which it follows; undefined: it does not. */
  followedEpoch(anchor: string): bigint | undefined;
  /**
   * Another relay has the anchor under `epoch`. What a fail-over has lost, and this relay still has, the registry gets back if the
   * other one has not said it.
   */
  othersEpoch(anchor: string, epoch: bigint): Promise<void>;
  /** Planned hand-over of an anchor to another relay of the site. */
  handOver(anchor: string, relay: string): Promise<{ epoch: bigint; tookMs: number }>;
  /** What this relay serves now. */
  anchors(): readonly { readonly id: string; readonly epoch: string; readonly prefixes: readonly string[] }[];
  /** What this relay could take over at any moment. */
  standsByFor(): readonly string[];
  useOwnership(ownership: Ownership, standby?: Pick<Standby, 'promise' | 'released'>): void;
  /** Ends what was begun, then resolves when nothing is served or written any more; what is still claimed is not begun. */
  close(): Promise<void>;
}

/** Puts registry, ownership, engine and network together into a relay. */
export function createRelayNode(options: RelayNodeOptions): RelayNode {
  const { registry, engine, announcer, journal, log, settings, timers = processTimers } = options;
  const served = new Map<string, ServedAnchor>();
  /** Sessions that came with a hand-over, until ownership says that the anchor is ours. */
  const adopting = new Map<string, readonly SessionState[]>();
  const leftBehind = new Map(options.leftBehind?.map(({ anchor, sessions }) => [anchor, sessions]));
  /** Being handed over: no longer announced here. */
  const withdrawn = new Set<string>();
  /** Those of them that lapsed. */
  const silent = new Set<string>();
  let ownership: Ownership | null = null;
  let standby: Pick<Standby, 'promise' | 'released'> | undefined;

  /** Serving takes a while, and what overtakes it, under another epoch or because the anchor was lost, counts. */
  const turns = new Map<string, number>();
  let closed = false;
  /** Anchors that are just being taken up or let go. */
  const underWay = new Set<Promise<void>>();
  function begin(work: Promise<void>): Promise<void> {
    underWay.add(work);
    const done = () => underWay.delete(work);
    work.then(done, done);
    return work;
  }
  const nextTurn = (anchor: string): number => {
    const turn = (turns.get(anchor) ?? 0) + 1;
    turns.set(anchor, turn);
    return turn;
  };
  /** Whoever serves it again meanwhile writes another journal under the same name. */
  const endJournal = async (anchor: string, turn: number): Promise<void> => {
    if (turns.get(anchor) === turn) await journal?.end(anchor);
  };

  const followed = createFollowedAnchors((anchor) => ({
    ...{ anchor, registry, engine, log, timers },
    siteKey: options.siteKey,
  }));

  const owned = (anchor: string): ServedAnchor => {
    const found = served.get(anchor);
    if (found !== undefined) return found;
    throw new MooringError(
      'ERR_MOORING_NOT_OWNER',
      `anchor ${anchor} is not served by relay ${settings.id}; ask the registry for its owner and try there`,
      { temporary: true, retryAfterMs: 200, data: { anchor, relay: settings.id } },
    );
  };
  /** What the former process had, with the life that it was given here since. */
  const formerOf = (anchor: string): Journalled | undefined => {
    const before = options.former?.get(anchor);
    const isCarried = before !== undefined && options.carrying?.anchors.has(anchor) === true;
    return isCarried ? carriedThrough(before, timers.nowMs(), settings.outageGraceMs) : before;
  };
  /**
   * May claim an anchor until it is noted who does: whoever gave it away, or whoever had it before, where the registry loses this
   * claim. No promise can be had of him.
   */
  const somebody: JournalledStandby = { id: settings.id, boot: options.boot, planeUrl: '' };
  const kept = createKeptAnchors({
    ...{ registry, journal, formerOf, log, timers },
    aside: options.aside ?? new Map(),
  });
  const claimed = (): Ownership => {
    if (ownership === null) throw new Error('the relay has no ownership yet');
    return ownership;
  };

  let endSweeping = timers.after(SWEEP_EVERY_MS, sweepAll);
  function sweepAll(): void {
    endSweeping = timers.after(SWEEP_EVERY_MS, sweepAll);
    for (const anchor of served.values()) {
      if (kept.isUntold(anchor.id)) void kept.tell(anchor.id, anchor.epoch);
      anchor
        .sweep()
        .catch((error: Error) => log.warn({ anchor: anchor.id, error: error.message }, 'cannot sweep now'));
    }
  }

  function resize(anchor: string, former: readonly string[], prefixes: readonly string[]): void {
    const current = served.get(anchor);
    if (current === undefined || withdrawn.has(anchor)) return;
    const gone = former.filter((prefix) => !prefixes.includes(prefix));
    if (gone.length > 0) announcer.withdraw({ endpoints: [], prefixes: gone });
    announcer.announce(current);
  }

  /** It goes on under another epoch: as after a hand-over, from itself. */
  async function handToItself(anchor: string, epoch: bigint): Promise<readonly SessionState[]> {
    const former = served.get(anchor);
    if (former === undefined || former.epoch === epoch) return [];
    const { sessions } = await engine.command({ op: 'export', anchor });
    await engine.command({ op: 'drop-anchor', anchor });
    return sessions;
  }

  async function serve(
    anchor: string,
    epoch: bigint,
    untilMs: number,
    given: readonly SessionState[] = adopting.get(anchor) ?? leftBehind.get(anchor) ?? [],
  ): Promise<void> {
    const turn = nextTurn(anchor);
    const isCurrent = () => turns.get(anchor) === turn;
    // Whoever serves it once is ahead of what was left.
    leftBehind.delete(anchor);
    const former = served.get(anchor)?.endings() ?? formerOf(anchor)?.leases ?? [];
    const carried = (await options.carrying?.end(anchor)) ?? [];
    const left = given.length > 0 ? given : carried;
    const resumed = left.length > 0 ? left : await handToItself(anchor, epoch);
    await served.get(anchor)?.stop();
    const wanted = {
      ...{ anchor, epoch, untilMs, registry, engine, log, timers, isCurrent, journal },
      relay: settings.id,
      siteKey: options.siteKey,
      // Of what nobody else had before, nobody else gets it.
      standby: epoch === 1n || formerOf(anchor)?.standby === null ? null : somebody,
      outageGraceMs: settings.outageGraceMs,
      former: [...former],
      onEnded: options.onEnded,
      onResized: (former: readonly string[], prefixes: readonly string[]) => resize(anchor, former, prefixes),
      onInstalled(installed: Pick<ServedAnchor, 'endpoints' | 'prefixes'>) {
        withdrawn.delete(anchor);
        silent.delete(anchor);
        announcer.announce(installed);
      },
    };
    const started = (await followed.take(anchor, wanted, resumed)) ?? (await serveAnchor(wanted, resumed));
    if (started === null) return;
    if (!isCurrent()) {
      announcer.withdraw(started);
      return started.stop();
    }
    served.set(anchor, started);
    await kept.takenUp(anchor, epoch);
    log.info({ anchor, epoch: String(epoch), resumed: resumed.length }, 'serving anchor');
    // Grants that nobody acknowledged yet may have been waiting for an owner.
    await started
      .follow()
      .catch((error: Error) => log.warn({ anchor, error: error.message }, 'cannot follow the anchor now'));
  }

  async function forsake(anchor: string): Promise<void> {
    const turn = nextTurn(anchor);
    const former = served.get(anchor);
    served.delete(anchor);
    if (former !== undefined) kept.keep(former);
    // Also what was being installed just now.
    await engine.command({ op: 'drop-anchor', anchor });
    if (former === undefined) {
      await endJournal(anchor, turn);
      return;
    }
    const isWithdrawn = withdrawn.delete(anchor);
    // What had lapsed was dropped silently: whoever owns it now is to get what still arrives here.
    if (silent.delete(anchor) || !isWithdrawn) announcer.withdraw(former);
    await former.stop();
    await endJournal(anchor, turn);
    log.info({ anchor, epoch: String(former.epoch) }, 'no longer serving anchor');
  }

  const node: RelayNode = {
    plane: createRelayPlane({
      owned,
      engine,
      registry,
      port: settings.port,
      mtu: settings.innerMtu,
      handOver: (anchor, to) => node.handOver(anchor, to),
      claim: (anchor) => claimed().claim(anchor, true),
      async prepare(anchor) {
        // Also one that it is just taking up, asked again.
        if (claimed().owned().has(anchor)) return;
        await followed.begin(anchor, 'hand-over');
        timers.after(PREPARED_MS, () => followed.end(anchor, 'hand-over'));
      },
      promise: (anchor, epoch) => standby?.promise(anchor, epoch) ?? false,
      async adopt(anchor, epoch, sessions) {
        const owner = await registry.owner(anchor);
        if (owner?.relay !== settings.id || owner.epoch !== epoch || owner.boot !== options.boot) {
          throw new MooringError(
            'ERR_MOORING_NOT_OWNER',
            `anchor ${anchor}: the registry does not name relay ${settings.id} its owner under epoch ${epoch}; hand it over first`,
          );
        }
        adopting.set(anchor, sessions);
        standby?.released(anchor);
        try {
          await claimed().adopt(anchor, epoch);
        } finally {
          adopting.delete(anchor);
        }
      },
    }),

    engineEvent(event) {
      switch (event.type) {
        case 'path': {
          const anchor = served.get(event.anchor);
          log.info(
            { anchor: event.anchor, session: event.hint.session, tookMs: event.tookMs },
            'path proven',
          );
          const session = anchor?.session(event.hint.session);
          if (anchor === undefined || session === undefined) return;
          registry
            .putHint(event.anchor, anchor.epoch, session.device, event.hint)
            .catch((error: Error) => log.warn({ error: error.message }, 'path hint not kept'));
          return;
        }
        case 'begun': {
          const { anchor, sessions } = event;
          registry
            .hints(anchor, sessions)
            .then((hints) => engine.command({ op: 'hints', anchor, hints }))
            .catch((error: Error) => log.warn({ anchor, error: error.message }, 'last paths are not known'));
          return;
        }
        case 'lease-expired':
          served
            .get(event.anchor)
            ?.sweep()
            .catch((error: Error) => log.warn({ error: error.message }, 'cannot sweep now'));
          return;
        case 'lease-refused': {
          const { anchor, lease, reason } = event;
          log.error({ anchor, lease, reason }, 'a followed lease is not installed');
          return;
        }
        default:
          event satisfies never;
      }
    },

    async serve(anchor, epoch, untilMs, given) {
      if (!closed) await begin(serve(anchor, epoch, untilMs, given));
    },

    async noteStandby(anchor, named) {
      await served.get(anchor)?.noteStandby(named);
    },

    async follow(anchor) {
      if (served.has(anchor)) return;
      leftBehind.delete(anchor);
      await followed.begin(anchor, 'standby');
    },

    unfollow: (anchor) => followed.end(anchor, 'standby'),

    async forsake(anchor) {
      // Left as by a process that was killed: the next one takes it up, or finds whose it is.
      if (!closed) await begin(forsake(anchor));
    },

    lapse(anchor, lapsed) {
      const current = served.get(anchor);
      if (current === undefined || withdrawn.has(anchor) === lapsed) return;
      if (lapsed) {
        withdrawn.add(anchor);
        silent.add(anchor);
        announcer.withdraw(current, true);
      } else {
        withdrawn.delete(anchor);
        silent.delete(anchor);
        announcer.announce(current);
      }
    },

    held(anchor) {
      const current = served.get(anchor);
      if (current !== undefined) return current.held();
      const own = kept.held(anchor);
      const copy = followed.held(anchor);
      if (copy !== undefined && copy.counter > (own?.counter ?? -1n))
        return { ...copy, hasStandby: true, as: 'standby' };
      if (own !== undefined) return own;
      throw new MooringError(
        'ERR_MOORING_QUARANTINED',
        `anchor ${anchor}: relay ${settings.id} has read nothing of it yet, and has nothing to report`,
        { temporary: true, data: { anchor, relay: settings.id } },
      );
    },

    knownEpoch: kept.epochOf,

    followedEpoch: (anchor) => followed.held(anchor)?.epoch,

    othersEpoch: kept.tell,

    async redeclare(anchor) {
      const known = served.get(anchor)?.declaration;
      if (known !== undefined) await registry.redeclare(known);
    },

    deadline(anchor, untilMs) {
      engine
        .command({ op: 'deadline', anchor, untilMs })
        .catch((error: Error) => log.error({ anchor, error: error.message }, 'deadline not set'));
    },

    async handOver(anchor, relay) {
      const startedMs = timers.nowMs();
      const current = owned(anchor);
      const successor = await registry.relay(relay);
      if (successor === null || relay === settings.id) {
        throw new MooringError(
          'ERR_MOORING_NO_RELAY',
          `relay ${relay} is not a running relay other than ${settings.id}; start it, or name another`,
          { data: { anchor, relay } },
        );
      }
      const plane = await options.planeFor(relay);
      await plane.prepare({ anchor });
      const epoch = await claimed().handOver<readonly SessionState[]>(anchor, successor, {
        async freeze() {
          const frozen = engine.command({ op: 'export', anchor });
          // At once: what arrives from now on waits for the next owner's announcement instead of being lost here.
          withdrawn.add(anchor);
          announcer.withdraw(current);
          return (await frozen).sessions;
        },
        async deliver(next, sessions) {
          // Two relays must not answer for one address: withdraw before the other one announces.
          await begin(forsake(anchor));
          await plane.adopt({ anchor, epoch: String(next), sessions: [...sessions] });
        },
        // As it was frozen, without a word of the registry: that may be why there is no hand-over.
        async thaw() {
          await engine.command({ op: 'import', anchor, sessions: [] });
          withdrawn.delete(anchor);
          announcer.announce(current);
        },
      });
      return { epoch, tookMs: timers.nowMs() - startedMs };
    },

    anchors: () =>
      [...served.values()].map(({ id, epoch, prefixes }) => ({ id, epoch: String(epoch), prefixes })),

    standsByFor: followed.ready,

    useOwnership(created, asStandby) {
      ownership = created;
      standby = asStandby;
    },

    async close() {
      closed = true;
      endSweeping();
      await Promise.allSettled(underWay);
      followed.close();
      for (const anchor of served.values()) await anchor.stop();
      served.clear();
    },
  };
  return node;
}
