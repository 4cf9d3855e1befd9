import { mkdirSync, readFileSync } from 'node:fs';
import type { Settings, SignallingSettings } from '../config/schema.ts';
import { fileFault } from '../protocol/file-fault.ts';
import type { RequestName } from '../protocol/signalling.ts';
import type { Registry } from '../registry/registry.ts';
import type { Carrying } from '../relay/carrying.ts';
import type { LeaseEnded } from '../relay/plane-calls.ts';
import type { Signalling } from '../signalling/signalling.ts';
import type { Log } from '../telemetry/log.ts';
import type { Planes } from './planes.ts';
import { type PoolWatch, watchPools } from './pool-watch.ts';
import { type RelayEngine, startRelayEngine } from './relay-engine.ts';
import type { RunningRelay } from './relay-role.ts';
import type { Supervised } from './supervised.ts';

export interface Server {
  close(): Promise<void>;
}

/** Sockets are asked to leave within this time when the program stops, milliseconds. */
const DRAIN_MS = 1_000;

/** What is undone, in reverse order, when the program stops or fails to start. */
export type Undo = () => Promise<void> | void;

/**
 * Starts the roles that `settings` configures. Rejects, having undone everything, when one of them cannot start.
 *
 * A relay's packets come first, after a restart above all: each step loads what it needs when its turn has come, and the
 * packet thread loads beside this one.
 */
export async function serve(settings: Settings, log: Log, supervised: Supervised): Promise<Server> {
  const undo: Undo[] = [];
  const close = async () => {
    for (const step of undo.splice(0).reverse()) await step();
  };
  try {
    makeDataDir(settings.dataDir);
    const engine = settings.relay === undefined ? null : startRelayEngine(settings.relay, supervised);
    const closeEngine = async () => (await engine)?.client.close();
    // Waited for below; until then its failure is nobody's.
    engine?.catch(() => undefined);
    const { openRegistry } = await import('../registry/open.ts');
    const open = () => openRegistry({ ...placeOf(settings), log });
    let carrying: Carrying | null = null;
    const registry = await open()
      .catch(async (error: unknown) => {
        if (settings.relay === undefined || engine === null) throw error;
        const { carryOnUntil, isAway } = await import('./carry-on.ts');
        if (!isAway(error)) throw error;
        const parts = { engine: await engine, log };
        const carried = await carryOnUntil(open, error, settings.relay, settings, parts);
        carrying = carried.carrying;
        return carried.registry;
      })
      .catch(async (error: unknown) => {
        await closeEngine().catch(() => undefined);
        throw error;
      });
    undo.push(() => registry.close());
    undo.push(() => closeEngine().catch(() => undefined));
    const poolWatch = await watchPools(settings.pools, registry, log);
    undo.push(() => poolWatch.close());

    let signalling: Signalling | null = null;
    const ended = ({ lease, reason }: LeaseEnded) => signalling?.pushEnded(lease.device, lease.id, reason);
    const [{ createPlanes }, { createMetrics, answerLabel }] = await Promise.all([
      import('./planes.ts'),
      import('../telemetry/metrics.ts'),
    ]);
    const metrics = createMetrics();
    const planes = createPlanes(settings, registry, log, ended);
    undo.push(() => planes.close());

    let relay: RunningRelay | null = null;
    if (settings.relay !== undefined) {
      const { startRelay } = await import('./relay-role.ts');
      relay = await startRelay(settings.relay, settings, {
        engine: (await engine) as RelayEngine,
        registry,
        planes,
        poolWatch,
        carrying,
        metrics,
        log,
        ended,
        undo,
        supervised,
      });
      planes.useLocal(settings.relay.id, relay.node.plane);
    }
    if (settings.signalling !== undefined) {
      signalling = await startSignalling(settings.signalling, {
        ...{ registry, planes, poolWatch, log, undo },
        answered: (request, error) => metrics.requests.inc({ request, answer: answerLabel(error) }),
      });
      const started = signalling;
      undo.push(() => started.close(DRAIN_MS));
      await started.listen();
    }
    const [{ startAdmin }, { createControl }] = await Promise.all([
      import('./admin-role.ts'),
      import('./control.ts'),
    ]);
    const control = createControl({ settings, relay, signalling: () => signalling, metrics, supervised });
    await startAdmin(settings, { control, registry, planes, log, undo });
    log.info({ relay: settings.relay?.id, signalling: settings.signalling?.url }, 'mooring is up');
    return { close };
  } catch (error) {
    await close();
    throw error;
  }
}

function makeDataDir(path: string): void {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw fileFault('ERR_MOORING_CONFIG', path, 'cannot be made for dataDir', cause);
  }
}

/** Where the registry is, and what it takes to reach it. */
function placeOf({ redisUrl, redis, dataDir }: Settings) {
  const url = process.env.REDIS_URL || redisUrl;
  return { ...(url === undefined ? {} : { url }), redis, dataDir };
}

async function startSignalling(
  signalling: SignallingSettings,
  parts: {
    readonly registry: Registry;
    readonly planes: Planes;
    readonly poolWatch: PoolWatch;
    readonly answered: (request: RequestName, error: unknown) => void;
    readonly log: Log;
    readonly undo: Undo[];
  },
): Promise<Signalling> {
  const { registry, planes, poolWatch, log, undo } = parts;
  const [{ createTokenVerifier }, { createSignalling }] = await Promise.all([
    import('../auth/verifier.ts'),
    import('../signalling/signalling.ts'),
  ]);
  const verifier = createTokenVerifier({
    issuers: signalling.issuers.map(({ caFile, ...issuer }) => ({
      ...issuer,
      ...(caFile === undefined ? {} : { ca: readFileSync(caFile, 'utf8') }),
    })),
    clockToleranceS: 5,
    log,
  });
  undo.push(() => verifier.close());
  const created = createSignalling({
    answered: parts.answered,
    listen: signalling.listen,
    tls: signalling.tls,
    url: signalling.url,
    registry,
    planeFor: (relay) => planes.for(relay),
    verifier,
    pools: poolWatch.roster.policies,
    log,
  });
  poolWatch.onChange(({ policies }) => created.usePools(policies));
  return created;
}
