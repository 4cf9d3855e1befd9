import type { EngineCommand, EngineSession } from '../datapath/engine-api.ts';
import type { Timers } from '../ownership/timers.ts';
import { MooringError } from '../protocol/errors.ts';
import type { EndReason, Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';
import {
  type Anchor,
  deliveredPrefixes,
  type OwnersReport,
  type Registry,
  type Snapshot,
} from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import { deriveAnchorKey, deriveRoot } from '../tunnel/keys.ts';
import type { AnchorJournal, JournalBase } from './journal/anchor-journal.ts';

/** Events read from the registry at a time. */
const EVENT_PAGE = 512;
/** What woke the relay is read so much later, milliseconds: by then whoever asks for it has mostly done so, and for much at once. */
const WOKEN_MS = 20;
/** Last paths read at a time, and how often in all for a session that has none. */
const HINTS_AT_ONCE = 1_024;
const HINT_ASKED_TIMES = 6;
/** Sessions and leases told to the engine at a time while it has other things to do. */
const GENTLE_BATCH = 32;

export interface AnchorCopyOptions {
  readonly anchor: string;
  /** Under which this relay has it; a registry that knows less has forgotten it since (default: another relay has it). */
  readonly epoch?: bigint;
  readonly siteKey: Uint8Array;
  readonly registry: Registry;
  readonly engine: { command(command: EngineCommand): Promise<unknown> };
  readonly log: Log;
  readonly timers: Timers;
}

/** What a relay knows of an anchor, as of the last fence that it has read. */
export interface Held {
  readonly epoch: bigint;
  readonly counter: bigint;
  readonly leases: readonly Lease[];
  readonly sessions: readonly Session[];
  /** What their resources follow, as the registry had it; '' when it is not known. */
  readonly plan: string;
  /** Another relay may forward for the anchor by now. */
  readonly hasStandby?: true;
  /** As what this relay knows it (default: owner). */
  readonly as?: NonNullable<OwnersReport['as']>;
}

export type HeldUntil = Pick<JournalBase, 'sessions' | 'leases' | 'plan' | 'fence'>;

/** A lease, and until when it is forwarded for: monotonic milliseconds. */
export interface Ending {
  readonly lease: Lease;
  readonly untilMs: number;
}

/**
 * The registry's leases and sessions of one anchor, in the order of their fences, kept in the packet engine as well: installed when
 * this relay owns the anchor, else followed. Whatever wakes it, it reads the anchor's event stream: there is one order.
 */
export interface AnchorCopy {
  readonly id: string;
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
  /** As it was declared last. */
  readonly declaration: Anchor;
  /** Tells the engine everything at once; `gently`, bit by bit, leaving it time for packets in between. */
  tellEngine(gently?: boolean): Promise<void>;
  /**
   * Applies every event that the registry holds now; resolves when the engine has them. `acknowledging`: a lease that is written
   * down as an acknowledged one as soon as it is there, which `witness` would do afterwards.
   */
  follow(acknowledging?: string): Promise<void>;
  /** Reads last paths of sessions that had none when they came, and tells the engine. */
  learnHints(): Promise<void>;
  /** Runs `work` when nothing is being applied, and applies nothing meanwhile. */
  alone<T>(work: (catchUp: () => Promise<void>) => Promise<T>): Promise<T>;
  /** All that this relay has of it, as of its last fence: lower than its claim when it could not read that any more. */
  held(): Held;
  lease(id: string): Lease | undefined;
  session(id: string): Session | undefined;
  /** K_root of a session that this anchor carries. */
  root(session: Session): Uint8Array;
  /**
   * This relay serves it under `epoch` from now on. Where the registry goes on without a gap, so does the copy; but all of it under another
   * epoch is another owner's, who may know less: what is held here stays as it is.
   */
  serveUnder(epoch: bigint): void;
  /** Journals every change from now on. */
  keep(journal: AnchorJournal): void;
  /** The same with the instants at which leases end: what a journal begins with. */
  base(): HeldUntil;
  /**
   * From now on the lease is told of as one that is acknowledged. Resolves when it is on the disk so; rejects when it cannot be
   * written.
   */
  witness(id: string): Promise<void>;
  /** The registry has made the lease active; its event is on the way, or may be lost. */
  activated(id: string): void;
  /** When the registry was asked for events that answered last, monotonic milliseconds. */
  readonly heardMs: number;
  /** Leases that are, or may be, acknowledged, and when they end; without those of `letEnd`. */
  endings(): Iterable<Ending>;
  /** The lease ends then: whatever the registry still says that it said before it was `told`. */
  putOff(id: string, endsMs: number): Promise<void>;
  /** Ends that were put off and that the registry does not know of. */
  untold(): ReadonlyMap<string, number>;
  told(id: string, endsMs: number): void;
  /** It was freed or revoked, whether or not the registry can say so now: its end is put off no more. */
  letEnd(id: string): void;
  /** Says in the journal that it is still true. */
  touch(): void;
  /** Resolves when all that was applied is on the disk. */
  journalled(): Promise<void>;
  /** Whom to tell of leases that end, from now on. */
  onEnded(listener: (lease: Lease, reason: EndReason) => void): void;
  /** Whom to tell when other prefixes belong to the anchor, from now on. */
  onResized(listener: (former: readonly string[], current: readonly string[]) => void): void;
  /** Stops following; the engine is left as it is, whatever the registry still answers. */
  stop(): Promise<void>;
}

/** Reads an anchor from the registry, and follows it once the engine has been told. */
export async function copyAnchor(options: AnchorCopyOptions): Promise<AnchorCopy> {
  const { anchor, registry, engine, log, timers } = options;
  const anchorKey = deriveAnchorKey(options.siteKey, anchor);
  const leases = new Map<string, Lease>();
  const untilMs = new Map<string, number>();
  const sessions = new Map<string, Session>();
  /** Those whose last path is not known, and how often it was asked for. */
  const unhinted = new Map<string, number>();
  /** Pending, as far as was heard, and acknowledged at any moment. */
  const witnessed = new Set<string>();
  /** Not there yet, and to be witnessed when they are. */
  const expected = new Set<string>();
  /** Ends that were put off here and of which the registry has not heard. */
  const untold = new Map<string, number>();
  /** Ended by somebody's word, as far as was heard outside the event stream. */
  const leaving = new Set<string>();
  let lastId = '0-0';
  /** The highest that the registry has named. */
  let epoch = options.epoch ?? 0n;
  let servedUnder: bigint | null = null;
  let journal: AnchorJournal | null = null;
  let stopped = false;
  let prefixes: readonly string[] = [];
  let plan = '';
  let declaration: Anchor;
  let resized: (former: readonly string[], current: readonly string[]) => void = () => undefined;
  let ended: (lease: Lease, reason: EndReason) => void = () => undefined;

  const asWitnessed = (lease: Lease): Lease =>
    witnessed.has(lease.id) ? { ...lease, state: 'active' } : lease;
  const asOfNow = (lease: Lease): Lease => ({
    ...lease,
    remainingMs: Math.max(0, Math.round(untilMs.get(lease.id)! - timers.nowMs())),
  });
  const roots = new Map<string, Uint8Array>();
  const root = (session: Session) => roots.get(session.id) ?? deriveRoot(anchorKey, session);

  async function installSession(session: Session, hint: PathHint | null): Promise<void> {
    if (sessions.has(session.id)) return;
    sessions.set(session.id, session);
    roots.set(session.id, root(session));
    if (hint === null) unhinted.set(session.id, 0);
    journal?.note({ type: 'session', session });
    const installed: EngineSession = { id: session.id, index: session.index, root: root(session), hint };
    await engine.command({ op: 'session', anchor, session: installed });
  }

  async function dropSession(id: string): Promise<void> {
    if (!sessions.delete(id)) return;
    roots.delete(id);
    unhinted.delete(id);
    journal?.note({ type: 'session-ended', id });
    await engine.command({ op: 'drop-session', anchor, id });
  }

  /** Its life counts from when the registry was *asked*: a process that hung before it heard must not lengthen it. */
  async function installLease(lease: Lease, askedMs: number): Promise<void> {
    await installUntil(lease, Math.max(askedMs + lease.remainingMs, untold.get(lease.id) ?? 0));
  }

  async function installUntil(lease: Lease, endsMs: number): Promise<void> {
    keepLease(lease, endsMs);
    await engine.command({ op: 'lease', anchor, lease, untilMs: endsMs });
  }

  function keepLease(lease: Lease, endsMs: number): void {
    leases.set(lease.id, lease);
    untilMs.set(lease.id, endsMs);
    if (expected.has(lease.id)) witnessed.add(lease.id);
    journal?.note({ type: 'lease', lease: asWitnessed(lease), untilMs: endsMs });
  }

  async function dropLease(id: string): Promise<void> {
    const lease = leases.get(id);
    if (lease === undefined) return;
    leases.delete(id);
    untilMs.delete(id);
    witnessed.delete(id);
    untold.delete(id);
    leaving.delete(id);
    journal?.note({ type: 'lease-ended', id });
    const dropped = engine.command({ op: 'drop-lease', anchor, id });
    const idle = ![...leases.values()].some((other) => other.session === lease.session);
    await Promise.all([dropped, ...(idle ? [dropSession(lease.session)] : [])]);
  }

  /**
   * Tells the engine all of an event before it waits for anything, so that the next one may be applied at once: the engine
   * takes commands in order.  spin: leases.install
   */
  async function apply(event: LeaseEvent, askedMs: number): Promise<void> {
    switch (event.type) {
      case 'granted':
        await Promise.all([installSession(event.session, null), installLease(event.lease, askedMs)]);
        return;
      case 'activated': {
        const endsMs = untilMs.get(event.lease.id);
        // The engine has forwarded for it since it was granted.
        if (endsMs === undefined) await installLease(event.lease, askedMs);
        else keepLease(event.lease, endsMs);
        return;
      }
      case 'extended':
        await installLease(event.lease, askedMs);
        return;
      case 'ended': {
        const known = leases.has(event.lease.id);
        await dropLease(event.lease.id);
        if (known) ended(event.lease, event.reason);
        return;
      }
      case 'session':
        await replaceSession(event.session, event.replaces);
        return;
      case 'declared':
        await readDeclaration();
        return;
      case 'owned':
        epoch = BigInt(event.fence.slice(0, event.fence.indexOf('-')));
        return;
      default:
        event satisfies never;
    }
  }

  async function readDeclaration(): Promise<void> {
    const [current, stored] = await Promise.all([registry.anchor(anchor), registry.plan(anchor)]);
    if (current === null) return;
    const former = prefixes;
    plan = stored;
    declaration = current;
    journal?.note({ type: 'plan', plan });
    prefixes = deliveredPrefixes(current);
    resized(former, prefixes);
  }

  async function replaceSession(session: Session, replaced: string): Promise<void> {
    const moved = [...leases.values()].filter((lease) => lease.session === replaced);
    await Promise.all([
      installSession(session, null),
      ...moved.map((lease) => installUntil({ ...lease, session: session.id }, untilMs.get(lease.id)!)),
      dropSession(replaced),
    ]);
  }

  async function load(snapshot: Snapshot, askedMs: number, gently: boolean): Promise<void> {
    const hints = new Map(snapshot.hints.map((hint) => [hint.session, hint]));
    const live = new Set(snapshot.leases.map((lease) => lease.id));
    // First what ended: a newer lease may hold the same ports by now.
    for (const id of [...leases.keys()]) if (!live.has(id)) await dropLease(id);
    const session = (one: Session) => installSession(one, hints.get(one.id) ?? null);
    const lease = (one: Lease) => installLease(one, askedMs);
    if (gently) {
      await inBatches(snapshot.sessions, GENTLE_BATCH, session);
      await inBatches(snapshot.leases, GENTLE_BATCH, lease);
    } else {
      // All is said before anything is waited for: the engine takes commands in order, and what follows these counts on them.
      await Promise.all([...snapshot.sessions.map(session), ...snapshot.leases.map(lease)]);
    }
    lastId = snapshot.lastId;
    mark();
    sync();
  }

  /** A registry that was emptied or put back is to hear from the owner, not the owner from it. */
  function refuseOlder(snapshot: Snapshot): void {
    if (snapshot.epoch >= epoch && counterOf(snapshot.lastId) >= counterOf(lastId)) {
      epoch = snapshot.epoch;
      return;
    }
    throw new MooringError(
      'ERR_MOORING_QUARANTINED',
      `anchor ${anchor}: the registry knows it as of ${snapshot.lastId} under epoch ${snapshot.epoch}, this relay as of ${lastId} under epoch ${epoch}; its owner is to report`,
      { temporary: true, data: { anchor } },
    );
  }

  const mark = (): void => journal?.note({ type: 'at', fence: lastId });

  /** Who acknowledges waits for it; nobody else does. */
  function sync(): void {
    journal?.synced().catch((error: Error) => log.error({ anchor, error: error.message }, 'not journalled'));
  }

  async function catchUp(): Promise<void> {
    for (;;) {
      const askedMs = timers.nowMs();
      const page = await registry.events(anchor, lastId, EVENT_PAGE);
      if (stopped) throw stoppedError(anchor);
      heardMs = askedMs;
      if (page.reload) {
        log.info({ anchor, lastId }, 'event stream has a gap: reading the whole anchor');
        const whole = await registry.snapshot(anchor);
        if (stopped) throw stoppedError(anchor);
        refuseOlder(whole);
        if (servedUnder !== null && whole.epoch !== servedUnder) throw overtakenError(anchor, whole.epoch);
        await load(whole, askedMs, false);
        await readDeclaration();
        continue;
      }
      await Promise.all(page.events.map((event) => apply(event, askedMs)));
      lastId = page.lastId;
      if (page.events.length > 0) mark();
      // That a lease is active is no news to whoever has activated it.
      if (page.events.some(({ type }) => type !== 'activated')) sync();
      if (page.events.length < EVENT_PAGE) return;
    }
  }

  async function learnHints(): Promise<void> {
    const asked = [...unhinted.keys()];
    for (let at = 0; at < asked.length && !stopped; at += HINTS_AT_ONCE)
      await learnHintsOf(asked.slice(at, at + HINTS_AT_ONCE));
  }

  async function learnHintsOf(asked: readonly string[]): Promise<void> {
    // A device binds soon after its session has come, or it is asked for when it speaks.
    for (const id of asked) {
      const times = unhinted.get(id);
      if (times === undefined) continue;
      if (times + 1 < HINT_ASKED_TIMES) unhinted.set(id, times + 1);
      else unhinted.delete(id);
    }
    const hints = await registry.hints(anchor, asked);
    if (stopped || hints.length === 0) return;
    for (const { session } of hints) unhinted.delete(session);
    await engine.command({ op: 'hints', anchor, hints });
  }

  let last: Promise<unknown> = Promise.resolve();
  const alone = <T>(work: (next: () => Promise<void>) => Promise<T>): Promise<T> => {
    const result = last.then(() => work(catchUp));
    last = result.catch(() => undefined);
    return result;
  };
  const followed = coalesced(() => alone(catchUp));
  async function follow(acknowledging?: string): Promise<void> {
    if (acknowledging === undefined) return followed();
    expected.add(acknowledging);
    await followed().finally(() => expected.delete(acknowledging));
  }

  let isLoaded = false;
  let wokenMs = 0;
  let cancelWoken: (() => void) | null = null;
  function woken(): void {
    // Whoever copies follows once after loading: a wake-up before that is not lost.
    if (!isLoaded) return;
    wokenMs = timers.nowMs();
    cancelWoken ??= timers.after(WOKEN_MS, () => {
      cancelWoken = null;
      if (stopped || heardMs > wokenMs) return;
      follow().catch((error: Error) =>
        log.warn({ anchor, error: error.message }, 'cannot follow the anchor now'),
      );
    });
  }
  const snapshotAskedMs = timers.nowMs();
  let heardMs = snapshotAskedMs;
  const [unwatch, snapshot, storedPlan] = await Promise.all([
    registry.watch(anchor, woken),
    registry.snapshot(anchor),
    registry.plan(anchor),
  ]);

  try {
    refuseOlder(snapshot);
  } catch (error) {
    await unwatch();
    throw error;
  }
  prefixes = deliveredPrefixes(snapshot.anchor);
  plan = storedPlan;
  declaration = snapshot.anchor;

  return {
    id: anchor,
    endpoints: snapshot.anchor.endpoints,
    get prefixes() {
      return prefixes;
    },
    get declaration() {
      return declaration;
    },
    async tellEngine(gently = false) {
      await load(snapshot, snapshotAskedMs, gently);
      isLoaded = true;
    },
    follow,
    learnHints,
    alone,
    held: () => ({
      epoch: BigInt(lastId.slice(0, lastId.indexOf('-'))),
      counter: counterOf(lastId),
      leases: [...leases.values()].map((lease) => asOfNow(asWitnessed(lease))),
      sessions: [...sessions.values()],
      plan,
    }),
    lease(id) {
      const lease = leases.get(id);
      return lease === undefined ? undefined : asOfNow(lease);
    },
    session: (id) => sessions.get(id),
    root,
    serveUnder(served) {
      servedUnder = served;
    },
    keep(kept) {
      journal = kept;
    },
    base: () => ({
      sessions: [...sessions.values()],
      leases: [...leases.values()].map((lease) => ({
        lease: asWitnessed(lease),
        untilMs: untilMs.get(lease.id)!,
      })),
      plan,
      fence: lastId,
    }),
    async witness(id) {
      const lease = leases.get(id);
      if (lease === undefined) return;
      if (!witnessed.has(id)) {
        witnessed.add(id);
        keepLease(lease, untilMs.get(id)!);
        mark();
      }
      await journal?.synced();
    },
    activated(id) {
      const lease = leases.get(id);
      if (lease !== undefined) leases.set(id, { ...lease, state: 'active' });
    },
    get heardMs() {
      return heardMs;
    },
    *endings() {
      for (const lease of leases.values()) {
        const isHeld = lease.state === 'active' || witnessed.has(lease.id);
        if (isHeld && !leaving.has(lease.id)) yield { lease, untilMs: untilMs.get(lease.id)! };
      }
    },
    async putOff(id, endsMs) {
      const lease = leases.get(id);
      if (lease === undefined) return;
      untold.set(id, endsMs);
      await installUntil(lease, endsMs);
    },
    untold: () => untold,
    told(id, endsMs) {
      if (untold.get(id) === endsMs) untold.delete(id);
    },
    letEnd(id) {
      leaving.add(id);
      untold.delete(id);
    },
    touch() {
      mark();
      sync();
    },
    async journalled() {
      await journal?.synced();
    },
    onEnded(listener) {
      ended = listener;
    },
    onResized(listener) {
      resized = listener;
    },
    stop() {
      stopped = true;
      cancelWoken?.();
      return unwatch();
    },
  };
}

function stoppedError(anchor: string): MooringError {
  return new MooringError(
    'ERR_MOORING_NOT_OWNER',
    `anchor ${anchor}: this relay has let go of it, or has begun anew with it; ask the registry for its owner and try there`,
    { temporary: true, retryAfterMs: 200, data: { anchor } },
  );
}

function overtakenError(anchor: string, epoch: bigint): MooringError {
  return new MooringError(
    'ERR_MOORING_NOT_OWNER',
    `anchor ${anchor}: the registry has it under epoch ${epoch}, which is not this relay's; ask the registry for its owner and try there`,
    { temporary: true, retryAfterMs: 200, data: { anchor } },
  );
}

function counterOf(fence: string): bigint {
  return BigInt(fence.slice(fence.indexOf('-') + 1));
}

async function inBatches<T>(
  items: readonly T[],
  size: number,
  work: (item: T) => Promise<void>,
): Promise<void> {
  for (let at = 0; at < items.length; at += size) {
    await Promise.all(items.slice(at, at + size).map(work));
  }
}

/** A call during a run gets a run that starts after it; further calls meanwhile get the same. */
function coalesced(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | null = null;
  let next: Promise<void> | null = null;
  const start = (): Promise<void> => {
    running = work().finally(() => {
      running = null;
    });
    return running;
  };
  return () => {
    if (running === null) return start();
    next ??= running
      .catch(() => {})
      .then(() => {
        next = null;
        return start();
      });
    return next;
  };
}
