/**
 * A relay as a process of its own: claims, promises, relay plane, journal and all, over a data path that writes down
 * what it forwards. Started with a scene, the relay's id and the number of its start.
 */
import { randomBytes } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import pino from 'pino';
import { createPlanes } from '../../src/cli/planes.ts';
import { type PoolWatch, watchPools } from '../../src/cli/pool-watch.ts';
import { startRelay } from '../../src/cli/relay-role.ts';
import type { Supervised } from '../../src/cli/supervised.ts';
import { parseSettings } from '../../src/config/load.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { recordIn } from './history.ts';
import { openSceneRegistry } from './open-registry.ts';
import { type Hearing, recordedRegistry } from './recorded-registry.ts';
import { recordingEngine } from './recording-engine.ts';
import { quicker, type Scene, settingsOf } from './scene.ts';

/** What the test tells a relay. */
export type ToRelay = { readonly registry: Hearing; readonly planes: boolean };

const [sceneText = '', id = '', start = ''] = process.argv.slice(2);
const scene = JSON.parse(sceneText) as Scene;
process.on('disconnect', () => process.exit(1));
let hears: ToRelay = { registry: 'both', planes: true };
process.on('message', (word: ToRelay) => {
  hears = word;
});

const recorder = recordIn(scene.folder, `${id}-${start}`);
const log = pino({ name: id }, pino.destination({ dest: join(scene.folder, `${id}.log`), sync: true }));
const settings = quicker(parseSettings(JSON.stringify(settingsOf(scene, id))), scene);
const relay = settings.relay;
if (relay === undefined) throw new Error(`the scene has no relay ${id}`);
mkdirSync(settings.dataDir, { recursive: true });
const boot = randomBytes(8).toString('hex');
recorder.write({ type: 'started', atMs: monotonicMs(), relay: id, boot });

const opened = await openSceneRegistry(scene, `mooring-${id}`, log);
const registry = recordedRegistry(opened, id, recorder, () => hears.registry);
const undo: (() => Promise<void> | void)[] = [];
const poolWatch = await declared();

/** Says what the configuration says, as soon as the registry can hear it. */
async function declared(): Promise<PoolWatch> {
  for (;;) {
    try {
      return await watchPools(settings.pools, registry, log);
    } catch (error) {
      if (!(error instanceof MooringError && error.temporary)) throw error;
      log.warn({ error: error.message }, 'pools are not declared yet');
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const planes = createPlanes(settings, registry, log, () => undefined);
const alone: Supervised = {
  briefing: { supervisor: 0, restarts: Number(start), lastEnd: null, channel: 0, kept: {}, settings: null },
  give: () => undefined,
  keepSettings: () => undefined,
  duty: () => undefined,
  held: () => undefined,
  released: () => undefined,
  standsBy: () => undefined,
  probe: () => undefined,
  up: () => undefined,
};
const unreachable = () =>
  Promise.reject(
    new MooringError('ERR_MOORING_RELAY_UNREACHABLE', 'the other relay is cut off', { temporary: true }),
  );
/** Cut off at any call, also for whoever has reached it before. */
const severable = <P extends object>(plane: P): P =>
  new Proxy(plane, {
    get: (target, name) => (hears.planes || name === 'then' ? Reflect.get(target, name) : unreachable),
  });
await startRelay(relay, settings, {
  engine: { boot, client: recordingEngine(id, boot, recorder) },
  announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
  registry,
  planes: { ...planes, for: async (other) => severable(await planes.for(other)) },
  poolWatch,
  metrics: createMetrics(),
  log,
  ended: () => undefined,
  undo,
  supervised: alone,
}).then(({ node }) => planes.useLocal(id, node.plane));
process.send?.('up');
