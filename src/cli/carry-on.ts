import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { RelaySettings, Settings } from '../config/schema.ts';
import { hostAddresses } from '../linux/host-addresses.ts';
import { processTimers } from '../ownership/timers.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Registry } from '../registry/registry.ts';
import { createAnnouncer } from '../relay/announcer.ts';
import { type Carrying, carryOn } from '../relay/carrying.ts';
import { openJournal } from '../relay/journal/journal.ts';
import type { JournalledStandby } from '../relay/journal/record.ts';
import type { PlaneClient } from '../relay/plane-client.ts';
import { connectPlane } from '../relay/plane-client.ts';
import { loadSiteKey } from '../relay/site-key.ts';
import type { Log } from '../telemetry/log.ts';
import type { RelayEngine } from './relay-engine.ts';
import { ASK_EVERY_MS, PAIRED_MS } from './takeover.ts';

const GO_ON_FOR_MS = 3_600_000;
const TRY_EVERY_MS = 500;

export interface CarriedOn {
  readonly registry: Registry;
  readonly carrying: Carrying;
}

/**
 * Forwards by the journal until `open` has reached the registry. Rejects with `reason`, why it cannot be reached, when the journal
 * holds nothing to go on with.
 */
export async function carryOnUntil(
  open: () => Promise<Registry>,
  reason: unknown,
  relay: RelaySettings,
  settings: Settings,
  { engine, log }: { readonly engine: RelayEngine; readonly log: Log },
): Promise<CarriedOn> {
  const journal = await openJournal(join(settings.dataDir, 'journal'), { log });
  const former = await journal.read();
  if (former.size === 0) throw reason;
  const { client } = engine;
  const { interface: device, tun, announce } = relay;
  const announcer = createAnnouncer({ interface: device, tun, announce, log });
  announcer.prepare();
  await client.command({ op: 'host-addresses', addresses: hostAddresses() });
  const { anchors: leftBehind } = await client.command({ op: 'left-behind' });
  const planes = new Map<string, PlaneClient>();

  async function promise(
    { planeUrl }: JournalledStandby,
    anchors: readonly { readonly anchor: string; readonly epoch: string }[],
  ): Promise<readonly string[]> {
    const tls = relay.plane?.tls;
    if (planeUrl === '' || tls === undefined) return [];
    const plane = planes.get(planeUrl) ?? connectPlane({ url: planeUrl, tls, log });
    planes.set(planeUrl, plane);
    return (await plane.promise({ anchors: [...anchors] })).promised;
  }

  const carrying = await carryOn({
    ...{ former, engine: client, announcer, leftBehind, promise, log },
    siteKey: loadSiteKey({ file: relay.masterKeyFile, dataDir: settings.dataDir, log }),
    promisedMs: PAIRED_MS,
    askEveryMs: ASK_EVERY_MS,
    graceMs: GO_ON_FOR_MS,
    outageGraceMs: relay.outageGraceMs,
    wallMs: Date.now,
    timers: processTimers,
  });
  client.begin();
  for (;;) {
    await delay(TRY_EVERY_MS);
    try {
      const registry = await open();
      return {
        registry,
        carrying: {
          ...carrying,
          get anchors() {
            return carrying.anchors;
          },
          stop() {
            carrying.stop();
            for (const plane of planes.values()) plane.close();
          },
        },
      };
    } catch (error) {
      if (!isAway(error)) {
        carrying.stop();
        throw error;
      }
    }
  }
}

/** The registry may come back by itself. */
export function isAway(error: unknown): boolean {
  return error instanceof MooringError && error.code === 'ERR_MOORING_REGISTRY_UNAVAILABLE';
}
