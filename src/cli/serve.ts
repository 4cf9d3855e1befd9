import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { type Control, serveControl } from '../admin/control-socket.ts';
import { createTokenVerifier } from '../auth/verifier.ts';
import type { RelaySettings, Settings, SignallingSettings } from '../config/schema.ts';
import { startUserspaceEngine } from '../datapath/userspace/client.ts';
import { createOwnership } from '../ownership/ownership.ts';
import { MooringError } from '../protocol/errors.ts';
import type { RelayPlane } from '../protocol/relay-plane.ts';
import { openRegistry } from '../registry/open.ts';
import type { Registry } from '../registry/registry.ts';
import { createAnnouncer } from '../relay/announcer.ts';
import { createRelayNode, type RelayNode } from '../relay/node.ts';
import type { LeaseEnded } from '../relay/plane-calls.ts';
import { connectPlane, type PlaneClient } from '../relay/plane-client.ts';
import { servePlane } from '../relay/plane-server.ts';
import { loadSiteKey } from '../relay/site-key.ts';
import { createSignalling, type Signalling } from '../signalling/signalling.ts';
import type { Log } from '../telemetry/log.ts';
import { createMetrics, type Metrics } from '../telemetry/metrics.ts';

export interface Server {
  close(): Promise<void>;
}

/** How long the registry remembers a relay that no longer says it is there, milliseconds. */
const RELAY_TTL_MS = 10_000;
/** Sockets are asked to leave within this time when the program stops, milliseconds. */
const DRAIN_MS = 1_000;

/** What is undone, in reverse order, when the program stops or fails to start. */
type Undo = () => Promise<void> | void;

/** Starts the roles that `settings` configures. Rejects, having undone everything, when one of them cannot start. */
export async function serve(settings: Settings, log: Log): Promise<Server> {
  const undo: Undo[] = [];
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    mkdirSync(settings.dataDir, { recursive: true, mode: 0o700 });
    const metrics = createMetrics();
    const registry = await openRegistry({
      ...urlOf(settings),
      dataDir: settings.dataDir,
      log,
    });
    undo.push(() => registry.close());
    await declarePools(settings, registry);

    let signalling: Signalling | null = null;
    const ended = ({ lease, reason }: LeaseEnded) => signalling?.pushEnded(lease.device, lease.id, reason);
    const planes = createPlanes(settings, registry, log, ended);
    undo.push(() => planes.close());

    let relay: RunningRelay | null = null;
    if (settings.relay !== undefined) {
      relay = await startRelay(settings.relay, settings, { registry, planes, metrics, log, ended, undo });
      planes.useLocal(settings.relay.id, relay.node.plane);
    }
    if (settings.signalling !== undefined) {
      signalling = startSignalling(settings.signalling, settings, { registry, planes, log });
      const started = signalling;
      undo.push(() => started.close(DRAIN_MS));
      await started.listen();
    }
    const control = await serveControl(
      join(settings.dataDir, 'control.sock'),
      createControl(settings, relay, () => signalling, metrics),
      log,
    );
    undo.push(() => control.close());
    log.info({ relay: settings.relay?.id, signalling: settings.signalling?.url }, 'mooring is up');
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

function urlOf(settings: Settings): { url?: string } {
  const url = process.env.REDIS_URL || settings.redisUrl;
  return url === undefined ? {} : { url };
}

async function declarePools(settings: Settings, registry: Registry): Promise<void> {
  for (const pool of settings.pools) {
    for (const anchor of pool.anchors) {
      await registry.declareAnchor({
        ...anchor,
        pool: pool.name,
        sharing: pool.sharing,
        coolingMs: pool.coolingMs,
        ...(pool.sharing === 'shared' ? { portBlock: pool.portBlock, spiBlock: pool.spiBlock } : {}),
      });
    }
  }
}

interface Planes {
  for(relay: string): Promise<RelayPlane>;
  useLocal(relay: string, plane: RelayPlane): void;
  close(): void;
}

/** Relay planes by relay id: the one of this process is called directly, others over the network. */
function createPlanes(
  settings: Settings,
  registry: Registry,
  log: Log,
  onEnded: (event: LeaseEnded) => void,
): Planes {
  const tls = settings.relay?.plane?.tls ?? settings.signalling?.planeTls;
  const clients = new Map<string, PlaneClient>();
  let local: { relay: string; plane: RelayPlane } | null = null;
  return {
    async for(relay) {
      if (local?.relay === relay) return local.plane;
      const found = await registry.relay(relay);
      if (found === null) {
        throw new MooringError(
          'ERR_MOORING_NO_RELAY',
          `relay ${relay} is not running; start it or name another`,
          {
            temporary: true,
            retryAfterMs: 500,
            data: { relay },
          },
        );
      }
      if (tls === undefined) {
        throw new MooringError(
          'ERR_MOORING_CONFIG',
          `relay ${relay} is another process: configure signalling.planeTls (or relay.plane.tls) to reach it`,
        );
      }
      let client = clients.get(found.planeUrl);
      if (client === undefined) {
        client = connectPlane({ url: found.planeUrl, tls, log, onEnded });
        clients.set(found.planeUrl, client);
      }
      return client;
    },
    useLocal(relay, plane) {
      local = { relay, plane };
    },
    close() {
      for (const client of clients.values()) client.close();
    },
  };
}

interface RunningRelay {
  readonly node: RelayNode;
  readonly engine: Awaited<ReturnType<typeof startUserspaceEngine>>;
}

interface RelayParts {
  readonly registry: Registry;
  readonly planes: Planes;
  readonly metrics: Metrics;
  readonly log: Log;
  readonly ended: (event: LeaseEnded) => void;
  readonly undo: Undo[];
}

async function startRelay(
  relay: RelaySettings,
  settings: Settings,
  parts: RelayParts,
): Promise<RunningRelay> {
  const { registry, planes, metrics, log, undo } = parts;
  const boot = randomBytes(8).toString('hex');
  const siteKey = loadSiteKey({ file: relay.masterKeyFile, dataDir: settings.dataDir, log });
  const announcer = createAnnouncer({
    interface: relay.interface,
    tun: relay.tun,
    announce: relay.announce,
    log,
  });
  const engine = await startUserspaceEngine({
    tun: relay.tun,
    port: relay.port,
    relayBoot: BigInt(`0x${boot}`),
  });
  undo.push(() => engine.close());
  engine.onExit((error) => {
    if (error === null) return;
    log.fatal({ error: error.message }, 'the packet engine has ended');
    process.exit(1);
  });
  announcer.prepare();

  let announceEnded: (event: LeaseEnded) => void = parts.ended;
  const node: RelayNode = createRelayNode({
    settings: relay,
    boot,
    siteKey,
    registry,
    engine,
    announcer,
    planeFor: (other) => planes.for(other),
    onEnded: (lease, reason) => announceEnded({ type: 'ended', lease, reason }),
    log,
  });
  undo.push(() => node.close());
  engine.onEvent((event) => {
    if (event.type === 'path') metrics.rebinds.inc({ anchor: event.anchor, old_path: event.oldPath });
    node.engineEvent(event);
  });
  if (relay.plane !== undefined) {
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

  const announcement = { id: relay.id, boot, planeUrl: relay.plane?.url ?? '', site: hostname() };
  await registry.announceRelay(announcement, RELAY_TTL_MS);
  const heartbeat = setInterval(() => {
    registry
      .announceRelay(announcement, RELAY_TTL_MS)
      .catch((error: Error) =>
        log.warn({ error: error.message }, 'cannot tell the registry that this relay is here'),
      );
  }, RELAY_TTL_MS / 4);
  undo.push(() => clearInterval(heartbeat));

  const ownership = createOwnership({
    registry,
    relay: relay.id,
    boot,
    ttlMs: relay.ownershipMs,
    onOwned: (anchor, epoch, untilMs) => node.serve(anchor, epoch, untilMs),
    onDeadline: (anchor, untilMs) => node.deadline(anchor, untilMs),
    onLost: (anchor) =>
      void node
        .forsake(anchor)
        .catch((error: Error) =>
          log.error({ anchor, error: error.message }, 'did not let the anchor go cleanly'),
        ),
    log,
  });
  node.useOwnership(ownership);
  undo.push(() => ownership.stop());
  const anchors = settings.pools.flatMap((pool) => pool.anchors.map((anchor) => anchor.id));
  await ownership.start(anchors);
  // A hand-over whose last message was lost left an anchor ours without our knowing.
  const reminder = setInterval(() => {
    for (const anchor of anchors) {
      if (ownership.owned().has(anchor)) continue;
      registry
        .owner(anchor)
        .then(async (owner) => {
          if (owner?.relay === relay.id && owner.boot === boot) await ownership.claim(anchor);
        })
        .catch((error: Error) => log.warn({ anchor, error: error.message }, 'cannot ask for the owner now'));
    }
  }, relay.ownershipMs / 4);
  undo.push(() => clearInterval(reminder));
  return { node, engine };
}

function startSignalling(
  signalling: SignallingSettings,
  settings: Settings,
  { registry, planes, log }: { registry: Registry; planes: Planes; log: Log },
): Signalling {
  const verifier = createTokenVerifier({
    issuers: signalling.issuers.map(({ caFile, ...issuer }) => ({
      ...issuer,
      ...(caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') }),
    })),
    clockToleranceS: 5,
    log,
  });
  return createSignalling({
    listen: signalling.listen,
    tls: signalling.tls,
    url: signalling.url,
    registry,
    planeFor: (relay) => planes.for(relay),
    verifier,
    pools: settings.pools,
    log,
  });
}

function createControl(
  settings: Settings,
  relay: RunningRelay | null,
  signalling: () => Signalling | null,
  metrics: Metrics,
): Control {
  return {
    async status() {
      return {
        relay: settings.relay === undefined ? null : { id: settings.relay.id, engine: 'userspace' },
        anchors: relay?.node.anchors() ?? [],
        signalling:
          settings.signalling === undefined
            ? null
            : { url: settings.signalling.url, sockets: signalling()?.sockets },
        packets: relay === null ? null : await relay.engine.command({ op: 'counters' }),
      };
    },
    async moveAnchor(anchor, to) {
      if (relay === null) {
        throw new MooringError(
          'ERR_MOORING_NOT_OWNER',
          'this process is no relay; ask the relay that owns the anchor',
        );
      }
      const { epoch, tookMs } = await relay.node.handOver(anchor, to);
      return { anchor, to, epoch: String(epoch), tookMs };
    },
    async metrics() {
      if (relay !== null) {
        const counters = await relay.engine.command({ op: 'counters' });
        for (const [direction, verdicts] of Object.entries(counters)) {
          for (const [verdict, count] of Object.entries(verdicts as Record<string, number>)) {
            metrics.packets.set({ direction, verdict }, count);
          }
        }
        metrics.anchors.set(relay.node.anchors().length);
      }
      return metrics.registry.metrics();
    },
  };
}
