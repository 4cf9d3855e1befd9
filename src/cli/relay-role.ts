import { join } from 'node:path';
import type { RelaySettings, Settings } from '../config/schema.ts';
import type { EngineClient } from '../datapath/userspace/client.ts';
import { relayPins } from '../datapath/xdp/pins.ts';
import { hostAddresses } from '../linux/host-addresses.ts';
import { watchLinks } from '../linux/link-monitor.ts';
import { createOwnership, type Ownership } from '../ownership/ownership.ts';
import { isGiven, isToBeClaimed } from '../ownership/unclaimed.ts';
import type { Roster } from '../registry/pools.ts';
import { privateSocket } from '../registry/private-server.ts';
import { type Anchor, deliveredPrefixes, type Registry } from '../registry/registry.ts';
import { type Announcer, createAnnouncer } from '../relay/announcer.ts';
import type { Carrying } from '../relay/carrying.ts';
import { openJournal } from '../relay/journal/journal.ts';
import { createRelayNode, type RelayNode } from '../relay/node.ts';
import type { LeaseEnded } from '../relay/plane-calls.ts';
import { loadSiteKey, siteName } from '../relay/site-key.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Planes } from './planes.ts';
import type { PoolWatch } from './pool-watch.ts';
import type { RelayEngine } from './relay-engine.ts';
import type { Undo } from './serve.ts';
import type { Supervised } from './supervised.ts';
import type { Duty } from './supervision.ts';
import { createTakeover } from './takeover.ts';

/** How long the registry remembers a relay that no longer says it is there, milliseconds. */
const RELAY_TTL_MS = 10_000;

/** An engine that still waits for its anchors takes packets after this time, milliseconds. */
const BEGIN_AT_LATEST_MS = 2_000;

/** An owner of an anchor with a standby speaks to the registry several times as often, milliseconds. */
const FIRST_CLAIM_MS = 600;

/** Devices of the next anchor are told what they hold so often, milliseconds. */
const REINDEX_EVERY_MS = 30_000;
/** All of them within this time, milliseconds. */
const REINDEX_ROUND_MS = 1_800_000;

/** The supervisor knows deadlines as exactly as this, milliseconds. */
const TELL_EVERY_MS = 1_000;

export interface RunningRelay {
  readonly node: RelayNode;
  readonly engine: EngineClient;
}

export interface RelayParts {
  readonly engine: RelayEngine;
  /** What tells the network; default: by netlink, as the settings say. */
  readonly announcer?: Announcer;
  readonly registry: Registry;
  readonly planes: Planes;
  readonly poolWatch: Pick<PoolWatch, 'roster' | 'onChange'>;
  /** What was forwarded for by the journal until the registry could be reached (default: nothing). */
  readonly carrying?: Carrying | null;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly ended: (event: LeaseEnded) => void;
  readonly undo: Undo[];
  readonly supervised: Supervised;
}

/** Starts the relay of this process over its packet engine: ownership of its anchors, then its relay plane. */
export async function startRelay(
  relay: RelaySettings,
  settings: Settings,
  parts: RelayParts,
): Promise<RunningRelay> {
  const { registry, planes, metrics, log, undo, supervised } = parts;
  const { boot, client: engine } = parts.engine;
  const siteKey = loadSiteKey({ file: relay.masterKeyFile, dataDir: settings.dataDir, log });
  const announcer =
    parts.announcer ??
    createAnnouncer({ interface: relay.interface, tun: relay.tun, announce: relay.announce, log });
  supervised.probe(() => engine.command({ op: 'counters' }));
  supervised.duty(dutyOf(relay, settings, engine));
  tellEngine(engine, log);
  engine.onExit((error) => {
    if (error === null) return;
    log.fatal({ error: error.message }, 'the packet engine has ended');
    process.exit(1);
  });
  announcer.prepare();
  // No anchor is served before the engine knows what devices must not speak to.
  await engine.command({ op: 'host-addresses', addresses: hostAddresses() });
  const cannotFollow = (error: unknown) =>
    log.error({ error: String(error) }, "the host's own addresses are not followed");
  const hostWatch = watchLinks(() => {
    engine.command({ op: 'host-addresses', addresses: hostAddresses() }).catch(cannotFollow);
  }, cannotFollow);
  undo.push(() => hostWatch.close());

  let announceEnded: (event: LeaseEnded) => void = parts.ended;
  const journal = await openJournal(join(settings.dataDir, 'journal'), { log });
  const former = new Map(await journal.read());
  const { anchors: leftBehind } = await engine.command({ op: 'left-behind' });
  const node: RelayNode = createRelayNode({
    settings: relay,
    boot,
    siteKey,
    registry,
    engine,
    announcer,
    leftBehind,
    journal,
    former,
    aside: await journal.readAside(),
    carrying: parts.carrying ?? null,
    planeFor: (other) => planes.for(other),
    onEnded: (lease, reason) => announceEnded({ type: 'ended', lease, reason }),
    log,
  });
  undo.push(() => node.close());
  engine.onEvent((event) => {
    if (event.type === 'path') metrics.rebinds.inc({ anchor: event.anchor, old_path: event.oldPath });
    node.engineEvent(event);
  });

  const announcement = { id: relay.id, boot, planeUrl: relay.plane?.url ?? '', site: siteName(siteKey) };
  await registry.announceRelay(announcement, RELAY_TTL_MS);
  const heartbeat = setInterval(() => {
    registry
      .announceRelay(announcement, RELAY_TTL_MS)
      .catch((error: Error) =>
        log.warn({ error: error.message }, 'cannot tell the registry that this relay is here'),
      );
  }, RELAY_TTL_MS / 4);
  undo.push(() => clearInterval(heartbeat));

  const cannotEnlist = (anchor: string) => (error: Error) =>
    log.warn({ anchor, error: error.message }, 'cannot tell the pools which addresses the anchor has now');
  const declared = new Map<string, Anchor>();
  /** What the supervisor knows. */
  const told = new Map<string, { epoch: bigint; ttlMs: number; untilMs: number }>();
  const hold = (anchor: string, epoch: bigint, untilMs: number): void => {
    const known = declared.get(anchor);
    const { home = relay.id, endpoints = [] } = known ?? {};
    const prefixes = known === undefined ? [] : deliveredPrefixes(known);
    const successor = home === relay.id ? null : home;
    const ttlMs = takeover.pairing.ttlOf(anchor);
    const former = told.get(anchor);
    // An anchor with a standby moves its deadline ten times a second: the supervisor need not hear of each.
    if (former?.epoch === epoch && former.ttlMs === ttlMs && untilMs - former.untilMs < TELL_EVERY_MS) return;
    told.set(anchor, { epoch, ttlMs, untilMs });
    supervised.held({ anchor, epoch: String(epoch), untilMs, ttlMs, successor, endpoints, prefixes });
  };
  const takeover = createTakeover({
    roster: parts.poolWatch.roster,
    announcement,
    aloneMs: relay.ownershipMs,
    registry,
    planes,
    ownership: () => ownership,
    onTakenOver: () => metrics.ownership.inc({ change: 'taken-over' }),
    onFollow(anchor) {
      supervised.standsBy();
      void node.follow(anchor);
    },
    onUnfollow: (anchor) => node.unfollow(anchor),
    async note(anchor, standby) {
      const announced = standby === null ? null : await registry.relay(standby.id);
      const named = standby === null ? null : { ...standby, planeUrl: announced?.planeUrl ?? '' };
      await node.noteStandby(anchor, named);
    },
    log,
  });
  undo.push(() => takeover.close());
  const ownership: Ownership = createOwnership({
    registry,
    relay: relay.id,
    boot,
    ttlMs: relay.ownershipMs,
    ttlOf: takeover.pairing.ttlOf,
    mayBegin: takeover.mayBegin,
    report: async (anchor, epoch, ttlMs) => {
      const hadStandby = former.get(anchor)?.epoch === epoch && former.get(anchor)?.standby !== null;
      const hasStandby = hadStandby || takeover.pairing.hadStandby(anchor, epoch);
      const report = { relay: relay.id, boot, hasStandby, ...node.held(anchor) };
      const settled = await registry.report(anchor, report, ttlMs);
      registry.enlist(anchor).catch(cannotEnlist(anchor));
      return settled;
    },
    nobodyElse: (anchor, epoch) =>
      !takeover.pairing.hadStandby(anchor, epoch) && declared.get(anchor)?.home === relay.id,
    standbyOf: (anchor) => takeover.pairing.standbyOf(anchor),
    firstClaimMs: (anchor) => (takeover.isPaired(anchor) ? FIRST_CLAIM_MS : 0),
    knownEpoch: node.knownEpoch,
    followedEpoch: node.followedEpoch,
    redeclare: (anchor) => node.redeclare(anchor),
    onAdopted: (anchor, epoch) => takeover.pairing.adopted(anchor, epoch),
    onOwned(anchor, epoch, untilMs) {
      metrics.ownership.inc({ change: 'owned' });
      hold(anchor, epoch, untilMs);
      // What the former process held is told and taken up by then.
      return node.serve(anchor, epoch, untilMs).then(() => void former.delete(anchor));
    },
    onDeadline(anchor, untilMs) {
      const epoch = ownership.owned().get(anchor)?.epoch;
      if (epoch !== undefined) hold(anchor, epoch, untilMs);
      node.deadline(anchor, untilMs);
    },
    onLapsed(anchor, lapsed) {
      if (lapsed) metrics.ownership.inc({ change: 'lapsed' });
      node.lapse(anchor, lapsed);
    },
    onLost(anchor) {
      metrics.ownership.inc({ change: 'lost' });
      told.delete(anchor);
      supervised.released(anchor);
      node
        .forsake(anchor)
        .catch((error: Error) =>
          log.error({ anchor, error: error.message }, 'did not let the anchor go cleanly'),
        );
    },
    log,
  });
  node.useOwnership(ownership, takeover.standby);
  undo.push(() => ownership.stop());
  const learn = ({ anchors }: Roster): string[] => {
    const fresh = anchors.filter(({ id }) => !declared.has(id)).map(({ id }) => id);
    declared.clear();
    for (const anchor of anchors) declared.set(anchor.id, anchor);
    return fresh;
  };
  learn(parts.poolWatch.roster);
  // Its registry may be away: what this relay serves so far must not wait for what it does not.
  const late = setTimeout(() => engine.begin(), BEGIN_AT_LATEST_MS);
  undo.push(() => clearTimeout(late));
  await ownership.start([...declared.keys()]);
  engine.begin();
  for (const anchor of parts.carrying?.anchors ?? []) {
    log.warn({ anchor }, 'another relay has the anchor by now');
    await parts.carrying?.letGo(anchor);
    await journal.end(anchor);
  }
  parts.carrying?.stop();
  // A hand-over whose last message was lost left an anchor ours without our knowing; one to a former start of this
  // relay, that of nobody who lives.
  const reminder = setInterval(() => {
    for (const [anchor, { draining, retiring, home }] of declared) {
      if ((draining.length > 0 || retiring) && ownership.owned().has(anchor))
        registry
          .finishDraining(anchor)
          .catch((error: Error) =>
            log.warn({ anchor, error: error.message }, 'cannot let drained addresses go now'),
          );
      if (ownership.owned().has(anchor)) continue;
      registry
        .owner(anchor)
        .then(async (owner) => {
          const isHome = home === relay.id;
          if (isToBeClaimed(owner, announcement, isHome, node.knownEpoch(anchor))) {
            const epoch = await ownership.claim(anchor);
            if (isGiven(owner, announcement)) takeover.pairing.adopted(anchor, epoch);
          }
          if (owner?.standby?.id === relay.id) await takeover.standby.look(anchor);
          if (owner !== null) await node.othersEpoch(anchor, owner.epoch);
        })
        .catch((error: Error) => log.warn({ anchor, error: error.message }, 'cannot ask for the owner now'));
    }
  }, relay.ownershipMs / 4);
  undo.push(() => clearInterval(reminder));
  // One anchor at a time: an index that was lost is whole again after a round.
  let turn = 0;
  let indexing: NodeJS.Timeout;
  const indexNext = (): void => {
    const owned = [...ownership.owned().keys()];
    const pauseMs = Math.min(REINDEX_EVERY_MS, REINDEX_ROUND_MS / Math.max(1, owned.length));
    indexing = setTimeout(indexNext, pauseMs);
    turn += 1;
    const anchor = owned[turn % owned.length];
    if (anchor === undefined) return;
    registry
      .reindex(anchor)
      .catch((error: Error) =>
        log.warn({ anchor, error: error.message }, 'cannot tell devices what they hold now'),
      );
    registry.enlist(anchor).catch(cannotEnlist(anchor));
  };
  indexNext();
  undo.push(() => clearTimeout(indexing));
  parts.poolWatch.onChange((roster) => {
    const fresh = learn(roster);
    takeover.usePools(roster);
    if (fresh.length > 0)
      ownership
        .start(fresh)
        .catch((error: Error) =>
          log.warn({ anchors: fresh, error: error.message }, 'cannot claim new anchors now'),
        );
  });
  takeover.pairing.start();
  if (relay.plane !== undefined) {
    // Loaded when packets flow again: after a restart those who call wait, and packets do not.
    const { servePlane } = await import('../relay/plane-server.ts');
    const plane = await servePlane({
      listen: relay.plane.listen,
      tls: relay.plane.tls,
      plane: node.plane,
      log,
    });
    undo.push(() => plane.close());
    announceEnded = (event) => {
      parts.ended(event);
      plane.announceEnded(event);
    };
  }
  return { node, engine };
}

/** What the supervisor needs to stand in for this relay. */
function dutyOf(relay: RelaySettings, settings: Settings, engine: EngineClient): Duty {
  const { id, interface: device, tun, announce, ownershipMs } = relay;
  return {
    relay: { id, interface: device, tun, announce, ownershipMs },
    registry: {
      url: process.env.REDIS_URL || (settings.redisUrl ?? privateSocket(settings.dataDir)),
      redis: settings.redis,
    },
    logLevel: settings.logLevel,
    pins: pinsOf(relay, engine),
  };
}

/** Where forwarding goes on while this process is away. */
function pinsOf(relay: RelaySettings, engine: EngineClient): string | null {
  return engine.status.engine === 'xdp' ? relayPins(relay.bpffs, relay.id) : null;
}

/** What forwards, once; `mooring status` says it again. */
function tellEngine({ status }: EngineClient, log: Log): void {
  const { engine, interfaces, notes } = status;
  log.info({ engine, interfaces, notes }, 'packets are forwarded');
}
