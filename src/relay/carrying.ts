import type { EngineAnswer, EngineCommand, LeftBehind } from '../datapath/engine-api.ts';
import type { Timers } from '../ownership/timers.ts';
import type { SessionState } from '../protocol/relay-plane.ts';
import type { Log } from '../telemetry/log.ts';
import { deriveAnchorKey, deriveRoot } from '../tunnel/keys.ts';
import type { Announcer } from './announcer.ts';
import type { JournalledStandby } from './journal/record.ts';
import type { Journalled } from './journal/replay.ts';

export interface CarryingOptions {
  /** What the former process of this relay wrote down. */
  readonly former: ReadonlyMap<string, Journalled>;
  readonly siteKey: Uint8Array;
  readonly engine: { command<C extends EngineCommand>(command: C): Promise<EngineAnswer<C>> };
  readonly announcer: Pick<Announcer, 'announce' | 'withdraw'>;
  /** Sessions that the former process left behind forwarding. */
  readonly leftBehind: readonly LeftBehind[];
  /** Asks a standby for promises; answers with the anchors for which it gave one. */
  readonly promise: (
    standby: JournalledStandby,
    anchors: readonly { readonly anchor: string; readonly epoch: string }[],
  ) => Promise<readonly string[]>;
  /** How long a promise is good for, milliseconds. */
  readonly promisedMs: number;
  readonly askEveryMs: number;
  /** How long it goes on without the registry at most, milliseconds from what was written last. */
  readonly graceMs: number;
  /** How long it keeps a lease past its end meanwhile, milliseconds. */
  readonly outageGraceMs: number;
  readonly wallMs: () => number;
  readonly timers: Timers;
  readonly log: Log;
}

/** Anchors that are forwarded for by the journal alone. */
export interface Carrying {
  readonly anchors: ReadonlySet<string>;
  /** Its claim is renewed, or another's: forwards for it no more, and gives back what its sessions need to go on. */
  end(anchor: string): Promise<readonly SessionState[]>;
  /** The same for an anchor that is another's: nothing of it is announced here any more. */
  letGo(anchor: string): Promise<void>;
  stop(): void;
}

/**
 * Goes on, after a restart while the registry is away, with what this relay owned: under the same epoch, since nobody can have
 * claimed it. Without a standby nobody may but by an operator's word, so there is no deadline but the grace. With one, only
 * for as long as it promises not to claim; whoever else it may be by now gives no promise.
 */
export async function carryOn(options: CarryingOptions): Promise<Carrying> {
  const { engine, announcer, graceMs, outageGraceMs, log, timers } = options;
  const carried = new Map<string, Journalled>();
  const announced = new Set<string>();
  let cancel = () => {};
  let stopped = false;

  for (const one of options.former.values()) {
    if (options.wallMs() - one.writtenMs > graceMs) {
      log.warn({ anchor: one.anchor }, 'the journal is too old to go on by');
      continue;
    }
    carried.set(one.anchor, one);
    await install(one);
    if (one.standby === null) announce(one);
    log.warn(
      { anchor: one.anchor, standby: one.standby?.id },
      'going on by the journal: the registry is away',
    );
  }

  async function install({ anchor: id, endpoints, epoch, leases, sessions, standby, writtenMs }: Journalled) {
    const anchorKey = deriveAnchorKey(options.siteKey, id);
    const leftMs = graceMs - (options.wallMs() - writtenMs);
    const untilMs = standby === null ? timers.nowMs() + leftMs : Number.NEGATIVE_INFINITY;
    const resumed = options.leftBehind.find(({ anchor }) => anchor === id)?.sessions ?? [];
    const live = new Set(sessions.map((session) => session.id));
    await Promise.all([
      engine.command({ op: 'anchor', anchor: { id, endpoints, epoch, untilMs } }),
      ...sessions.map((session) => {
        const { index } = session;
        const root = deriveRoot(anchorKey, session);
        return engine.command({
          op: 'session',
          anchor: id,
          session: { id: session.id, index, root, hint: null },
        });
      }),
      ...leases
        .filter(({ lease }) => live.has(lease.session))
        // Nobody can extend a lease now: its end is put off by as much as an outage may last.
        .map(({ lease, untilMs: endsMs }) =>
          engine.command({ op: 'lease', anchor: id, lease, untilMs: endsMs + outageGraceMs }),
        ),
      ...(resumed.length === 0 ? [] : [engine.command({ op: 'import', anchor: id, sessions: resumed })]),
      engine.command({ op: 'installed', anchor: id }),
    ]);
  }

  function announce(one: Journalled): void {
    if (announced.has(one.anchor)) return;
    announced.add(one.anchor);
    announcer.announce(one);
  }

  /** One question to each standby, for all anchors that it is the standby of. */
  function askAll(): void {
    if (stopped) return;
    cancel = timers.after(options.askEveryMs, askAll);
    const byStandby = new Map<string, { standby: JournalledStandby; anchors: Journalled[] }>();
    for (const one of carried.values()) {
      if (one.standby === null) continue;
      const group = byStandby.get(one.standby.id) ?? { standby: one.standby, anchors: [] };
      group.anchors.push(one);
      byStandby.set(one.standby.id, group);
    }
    for (const { standby, anchors } of byStandby.values()) {
      ask(standby, anchors).catch((error: Error) =>
        log.debug({ standby: standby.id, error: error.message }, 'no promise'),
      );
    }
  }

  async function ask(standby: JournalledStandby, anchors: readonly Journalled[]): Promise<void> {
    const sentMs = timers.nowMs();
    const wanted = anchors.map(({ anchor, epoch }) => ({ anchor, epoch: String(epoch) }));
    for (const anchor of await options.promise(standby, wanted)) {
      const one = carried.get(anchor);
      if (one === undefined || stopped) continue;
      await engine.command({ op: 'deadline', anchor, untilMs: sentMs + options.promisedMs });
      announce(one);
    }
  }

  async function end(anchor: string): Promise<readonly SessionState[]> {
    if (!carried.delete(anchor)) return [];
    const { sessions } = await engine.command({ op: 'export', anchor });
    await engine.command({ op: 'drop-anchor', anchor });
    return sessions;
  }

  askAll();
  return {
    get anchors() {
      return new Set(carried.keys());
    },
    end,
    async letGo(anchor) {
      const one = carried.get(anchor);
      await end(anchor);
      if (one !== undefined && announced.delete(anchor)) announcer.withdraw(one);
    },
    stop() {
      stopped = true;
      cancel();
    },
  };
}
