import type { EngineCommand, EngineSession } from '../datapath/engine-api.ts';
import { processTimers, type Timers } from '../ownership/timers.ts';
import type { EndReason, Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';
import type { SessionState } from '../protocol/relay-plane.ts';
import type { Registry, Snapshot } from '../registry/registry.ts';
import type { Log } from '../telemetry/log.ts';
import { deriveAnchorKey, deriveRoot } from '../tunnel/keys.ts';

/** Events read from the registry at a time. */
const EVENT_PAGE = 512;
/** Leases ended in one sweep. */
const SWEEP_LIMIT = 64;

export interface ServedAnchorOptions {
  readonly anchor: string;
  readonly epoch: bigint;
  /** Monotonic milliseconds until which this claim holds. */
  readonly untilMs: number;
  readonly siteKey: Uint8Array;
  readonly registry: Registry;
  readonly engine: { command(command: EngineCommand): Promise<unknown> };
  readonly onEnded: (lease: Lease, reason: EndReason) => void;
  readonly log: Log;
  readonly timers?: Pick<Timers, 'nowMs'>;
}

/**
 * An anchor that this relay owns: the registry's leases and sessions, in the order of their fences, kept
 * installed in the packet engine. Whatever wakes it, it reads the anchor's event stream: there is one order.
 */
export interface ServedAnchor {
  readonly id: string;
  readonly epoch: bigint;
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
  /** Applies every event that the registry holds now; resolves when the engine has them. */
  follow(): Promise<void>;
  /** All that this relay has of it, as of the counter of its last fence. */
  held(): Held;
  lease(id: string): Lease | undefined;
  session(id: string): Session | undefined;
  /** K_root of a session that this anchor carries. */
  root(session: Session): Uint8Array;
  /** Ends what has expired, in the registry and in the engine. */
  sweep(): Promise<void>;
  /** Stops following; the engine is left as it is. */
  stop(): Promise<void>;
}

export interface Held {
  readonly counter: bigint;
  readonly leases: readonly Lease[];
  readonly sessions: readonly Session[];
}

/** Installs an anchor from the registry into the engine, continuing `resumed` sessions where given. */
export async function serveAnchor(
  options: ServedAnchorOptions,
  resumed: readonly SessionState[] = [],
): Promise<ServedAnchor> {
  const { anchor, epoch, registry, engine, log, timers = processTimers } = options;
  const anchorKey = deriveAnchorKey(options.siteKey, anchor);
  const leases = new Map<string, Lease>();
  const untilMs = new Map<string, number>();
  const sessions = new Map<string, Session>();
  let lastId = '0-0';

  const root = (session: Session) => deriveRoot(anchorKey, session);

  async function installSession(session: Session, hint: PathHint | null): Promise<void> {
    if (sessions.has(session.id)) return;
    sessions.set(session.id, session);
    const installed: EngineSession = { id: session.id, index: session.index, root: root(session), hint };
    await engine.command({ op: 'session', anchor, session: installed });
  }

  async function dropSession(id: string): Promise<void> {
    if (sessions.delete(id)) await engine.command({ op: 'drop-session', anchor, id });
  }

  async function installLease(lease: Lease): Promise<void> {
    const endsMs = timers.nowMs() + lease.remainingMs;
    leases.set(lease.id, lease);
    untilMs.set(lease.id, endsMs);
    await engine.command({ op: 'lease', anchor, lease, untilMs: endsMs });
  }

  async function dropLease(id: string): Promise<void> {
    const lease = leases.get(id);
    if (lease === undefined) return;
    leases.delete(id);
    untilMs.delete(id);
    await engine.command({ op: 'drop-lease', anchor, id });
    const idle = ![...leases.values()].some((other) => other.session === lease.session);
    if (idle) await dropSession(lease.session);
  }

  /** spin: leases.install */
  async function apply(event: LeaseEvent): Promise<void> {
    switch (event.type) {
      case 'granted':
        await installSession(event.session, null);
        await installLease(event.lease);
        return;
      case 'activated':
      case 'extended':
        await installLease(event.lease);
        return;
      case 'ended': {
        const known = leases.has(event.lease.id);
        await dropLease(event.lease.id);
        if (known) options.onEnded(event.lease, event.reason);
        return;
      }
      case 'session':
        await replaceSession(event.session, event.replaces);
        return;
      case 'owned':
        return;
      default:
        event satisfies never;
    }
  }

  async function replaceSession(session: Session, replaced: string): Promise<void> {
    await installSession(session, null);
    for (const lease of [...leases.values()]) {
      if (lease.session === replaced) await installLease({ ...lease, session: session.id });
    }
    await dropSession(replaced);
  }

  async function load(snapshot: Snapshot): Promise<void> {
    const hints = new Map(snapshot.hints.map((hint) => [hint.session, hint]));
    const live = new Set(snapshot.leases.map((lease) => lease.id));
    // First what ended: a newer lease may hold the same ports by now.
    for (const id of [...leases.keys()]) if (!live.has(id)) await dropLease(id);
    // The engine takes commands in order: one wait for all of them.
    await Promise.all([
      ...snapshot.sessions.map((session) => installSession(session, hints.get(session.id) ?? null)),
      ...snapshot.leases.map(installLease),
    ]);
    lastId = snapshot.lastId;
  }

  async function catchUp(): Promise<void> {
    for (;;) {
      const page = await registry.events(anchor, lastId, EVENT_PAGE);
      if (page.reload) {
        log.info({ anchor, lastId }, 'event stream has a gap: reading the whole anchor');
        await load(await registry.snapshot(anchor));
        continue;
      }
      for (const event of page.events) await apply(event);
      lastId = page.lastId;
      if (page.events.length < EVENT_PAGE) return;
    }
  }

  const follower = oneAtATime(catchUp);
  let isLoaded = false;
  const [unwatch, snapshot] = await Promise.all([
    registry.watch(anchor, () => {
      // Whoever serves follows once after loading: a wake-up before that is not lost.
      if (!isLoaded) return;
      follower().catch((error: Error) =>
        log.warn({ anchor, error: error.message }, 'cannot follow the anchor now'),
      );
    }),
    registry.snapshot(anchor),
  ]);
  try {
    await Promise.all([
      engine.command({
        op: 'anchor',
        anchor: { id: anchor, endpoints: snapshot.anchor.endpoints, epoch, untilMs: options.untilMs },
      }),
      load(snapshot),
      ...(resumed.length === 0 ? [] : [engine.command({ op: 'import', anchor, sessions: resumed })]),
      engine.command({ op: 'installed', anchor }),
    ]);
    isLoaded = true;
  } catch (error) {
    await unwatch();
    throw error;
  }

  return {
    id: anchor,
    epoch,
    endpoints: snapshot.anchor.endpoints,
    prefixes: snapshot.anchor.prefixes,
    follow: follower,
    held: () => ({
      counter: BigInt(lastId.slice(lastId.indexOf('-') + 1)),
      leases: [...leases.values()].map((lease) => ({
        ...lease,
        remainingMs: Math.max(0, Math.round(untilMs.get(lease.id)! - timers.nowMs())),
      })),
      sessions: [...sessions.values()],
    }),
    lease: (id) => leases.get(id),
    session: (id) => sessions.get(id),
    root,
    async sweep() {
      let more = true;
      while (more) ({ more } = await registry.sweep(anchor, epoch, SWEEP_LIMIT));
      await follower();
    },
    stop: unwatch,
  };
}

/** Runs `work` alone; a call during a run gets a run that starts after it. */
function oneAtATime(work: () => Promise<void>): () => Promise<void> {
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
