import type { Settings } from '../../src/config/schema.ts';

/** What all processes of a run agree on; goes to them as JSON. */
export interface Scene {
  /** Where every process writes its history, and finds keys and certificates. */
  readonly folder: string;
  readonly redisUrl: string;
  readonly tls: { readonly certFile: string; readonly keyFile: string; readonly caFile: string };
  readonly relays: readonly { readonly id: string; readonly port: number }[];
  /** How long a resource rests before another device gets it, milliseconds: short, so that it does. */
  readonly coolingMs: number;
  /** How long a claim of an anchor without standby lasts, milliseconds. */
  readonly ownershipMs: number;
  /** Longer than a claim, and than a former primary of this run's Redis goes on answering, milliseconds. */
  readonly quarantineMs: number;
  readonly leaseMs: number;
  /** The scripts of every process, as JSON, when they are to be others than the program's. */
  readonly commandsFile?: string;
}

/** Two pools with two anchors each: whole addresses with a standby, shared ones without. */
export const ANCHORS = [
  { id: 'w1', pool: 'whole', home: 'r1', endpoints: ['198.51.100.1'], prefixes: ['192.0.2.0/28'] },
  { id: 'w2', pool: 'whole', home: 'r2', endpoints: ['198.51.100.2'], prefixes: ['192.0.2.32/28'] },
  { id: 's1', pool: 'shared', home: 'r1', endpoints: ['198.51.100.3'], prefixes: ['203.0.113.1/32'] },
  { id: 's2', pool: 'shared', home: 'r2', endpoints: ['198.51.100.4'], prefixes: ['203.0.113.2/32'] },
] as const;

/** Settings of relay `id`, or of a signalling node when it is null. */
export function settingsOf(scene: Scene, id: string | null): object {
  const relay = scene.relays.find((one) => one.id === id);
  const { tls } = scene;
  const pool = (name: 'whole' | 'shared') => ({
    name,
    sharing: name,
    portBlock: 4096,
    leaseMs: { default: scene.leaseMs, max: 600_000 },
    standby: name === 'whole',
    maxLeasesPerDevice: 8,
    anchors: ANCHORS.filter((anchor) => anchor.pool === name).map(({ pool: _, ...anchor }) => anchor),
  });
  return {
    dataDir: `${scene.folder}/${id ?? 'door'}`,
    redisUrl: scene.redisUrl,
    logLevel: 'info',
    pools: [pool('whole'), pool('shared')],
    ...(relay === undefined
      ? {
          signalling: {
            listen: { port: 1 },
            url: 'https://door.example',
            issuers: [{ issuer: 'https://issuer.example', audience: 'mooring' }],
            planeTls: tls,
          },
        }
      : {
          relay: {
            id: relay.id,
            interface: 'lo',
            engine: 'userspace',
            masterKeyFile: `${scene.folder}/site.key`,
            ownershipMs: scene.ownershipMs,
            // Its rules are exact: what ends, ends.
            outageGraceMs: 0,
            announce: 'routed',
            plane: {
              listen: { host: '127.0.0.1', port: relay.port },
              url: `wss://127.0.0.1:${relay.port}`,
              tls,
            },
          },
        }),
  };
}

/** The pools rest for less than a configuration may say: a run is short. */
export function quicker(settings: Settings, scene: Scene): Settings {
  return { ...settings, pools: settings.pools.map((pool) => ({ ...pool, coolingMs: scene.coolingMs })) };
}
