/** What the demo plays on: networks, services, relays, devices with real kernel IPsec, and numbered traffic. */

import { join } from 'node:path';
import type { AgentStatus } from '../../clients/laptop/status.ts';
import { askControl } from '../../src/admin/ask-control.ts';
import type { PoolSettings } from '../../src/config/schema.ts';
import type { EngineStatus } from '../../src/datapath/engine-api.ts';
import type { AccessNetwork } from '../lab/access-network.ts';
import { type Capture, startCapture } from '../lab/capture.ts';
import { type Agent, type Fleet, startFleet } from '../lab/fleet.ts';
import {
  associationChanges,
  establish,
  type IpsecProtocol,
  type SecurityAssociation,
  securityAssociations,
  withFreshKeys,
} from '../lab/ipsec.ts';
import type { Lab } from '../lab/lab.ts';
import { type AccessLink, createPublicNetwork, PUBLIC_BRIDGE, PUBLIC_ROUTER } from '../lab/topology.ts';
import { startTraffic, type Traffic } from '../lab/traffic.ts';
import { bootUml, type Uml } from '../lab/uml.ts';
import type { Progress } from './progress.ts';
import { described, type EngineRecord } from './report.ts';

export const PEER_ADDRESS = '198.51.100.50';
export const PACKETS_PER_SECOND = 500;
/** Inner addresses behind the associations. */
const PEER_INNER = '10.60.0.2';
/** The kernel behind a device reaches it here. */
const BEHIND = { interface: 'uml0', device: '169.254.7.1' } as const;
const PORT = 7000;

interface Cast {
  readonly name: string;
  readonly pool: 'shared' | 'whole';
  readonly protocol: IpsecProtocol;
  readonly wifi: string;
  /** One-way delays, milliseconds. */
  readonly delaysMs: { readonly wifi: number; readonly cellular: number; readonly hotel: number };
}

/** Two devices behind different NATs share one public address; the third has one of its own. */
const CAST: readonly Cast[] = [
  {
    name: 'alice',
    pool: 'shared',
    protocol: 'esp',
    wifi: 'home',
    delaysMs: { wifi: 5, cellular: 25, hotel: 15 },
  },
  {
    name: 'bob',
    pool: 'shared',
    protocol: 'esp',
    wifi: 'office',
    delaysMs: { wifi: 8, cellular: 30, hotel: 12 },
  },
  {
    name: 'carol',
    pool: 'whole',
    protocol: 'ah',
    wifi: 'home',
    delaysMs: { wifi: 5, cellular: 40, hotel: 20 },
  },
];

/** Anchor of each pool; both begin at relay r1. */
export const ANCHORS = { shared: 'shared-1', whole: 'whole-1' } as const;

export interface Actor {
  readonly name: string;
  readonly pool: Cast['pool'];
  readonly protocol: IpsecProtocol;
  readonly agent: Agent;
  readonly kernel: Uml;
  readonly lease: NonNullable<AgentStatus['lease']>;
  readonly links: { readonly wifi: AccessLink; readonly cellular: AccessLink; readonly hotel: AccessLink };
}

export interface Stage {
  readonly fleet: Fleet;
  readonly actors: readonly Actor[];
  readonly hotel: AccessNetwork;
  readonly traffic: Traffic;
  /** On the peer's interface, from before the first packet. */
  readonly peerCapture: Capture;
  /** At the far end of each relay's link, where both sides of it pass, whoever forwards. */
  readonly relayCaptures: ReadonlyMap<string, Capture>;
  /** Associations that appeared, vanished or became others since the stage was set, over all kernels. */
  associationChanges(): Promise<number>;
  /** What the relays forward with; the same for all, or an error. */
  engine(): Promise<EngineRecord>;
}

export type EngineWish = 'auto' | 'xdp' | 'userspace';

export async function setStage(lab: Lab, progress: Progress, engine: EngineWish): Promise<Stage> {
  progress.say('networks: a public segment, two homes behind NAT, a cellular network, a hotel');
  const net = await createPublicNetwork(lab);
  const home = await net.accessNetwork('home', { kind: 'nat-preserving' });
  const office = await net.accessNetwork('office', { kind: 'nat-symmetric' });
  const cellular = await net.accessNetwork('cellular', { kind: 'nat-symmetric' });
  const hotel = await net.accessNetwork('hotel', { kind: 'nat-preserving' });
  const peerApp = await lab.namespace('peer-app');

  progress.say('relays r1 and r2, signalling, Redis, a token issuer; Linux kernels for the IPsec ends');
  const devices = await Promise.all(CAST.map((role) => net.device(role.name)));
  const [fleet, peer, kernels, links] = await Promise.all([
    startFleet(lab, net, {
      relays: ['r1', 'r2'],
      devices: CAST.map(({ name }) => name),
      pools: POOLS,
      relaySettings: { engine, xdpSessions: 64 },
    }),
    bootUml(lab, {
      name: 'peer',
      cards: [
        {
          namespace: net.namespace,
          tap: 'peer0',
          bridge: PUBLIC_BRIDGE,
          address: `${PEER_ADDRESS}/24`,
          gateway: PUBLIC_ROUTER,
        },
        { namespace: peerApp, tap: 'app0', tapAddress: `${PEER_INNER}/24`, address: '10.60.0.1/24' },
      ],
    }),
    Promise.all(CAST.map((role, i) => bootDeviceKernel(lab, role, i, devices[i]!.namespace))),
    Promise.all(
      CAST.map(async ({ wifi, delaysMs }, i) => {
        const device = devices[i]!;
        return {
          wifi: await device.attach(wifi === 'home' ? home : office, {
            interface: 'wifi0',
            metric: 100,
            delayMs: delaysMs.wifi,
          }),
          cellular: await device.attach(cellular, {
            interface: 'cell0',
            metric: 200,
            delayMs: delaysMs.cellular,
          }),
          hotel: await device.attach(hotel, {
            interface: 'hotel0',
            metric: 150,
            delayMs: delaysMs.hotel,
            up: false,
          }),
        };
      }),
    ),
  ]);
  await lab.ip(peerApp, ['route add default via 10.60.0.1']);

  progress.say('devices ask for their leases');
  const actors = await Promise.all(
    CAST.map(async (role, i): Promise<Actor> => {
      const agent = await fleet.agent(devices[i]!, {
        pool: role.pool,
        kind: role.pool === 'whole' ? 'rsa-ip' : 'rsipsec',
        interfaces: ['wifi0', 'cell0', 'hotel0'],
        behind: BEHIND.interface,
      });
      const { lease } = await agent.until(
        (status) => status.lease !== null && status.path?.link === 'wifi0',
        'bound on wifi0',
      );
      const kernel = kernels[i]!;
      await kernel.exec(
        `ip address add ${lease!.address}/32 dev vec0 && ip route add default via ${BEHIND.device} dev vec0 onlink src ${lease!.address}`,
      );
      return { ...role, agent, kernel, lease: lease!, links: links[i]! };
    }),
  );
  for (const [i, actor] of actors.entries()) await associate(actor, i, peer);

  const listings = new Map<Uml, SecurityAssociation[]>();
  for (const kernel of [peer, ...kernels]) listings.set(kernel, await securityAssociations(kernel));
  const [peerCapture, ...relayCaptures] = await Promise.all([
    startCapture(lab, {
      namespace: net.namespace,
      interface: 'peer0',
      name: 'peer',
      filter: 'ip',
      snapLength: 96,
    }),
    ...[...fleet.relays.values()].map(({ host }) =>
      startCapture(lab, {
        namespace: net.namespace,
        interface: host.port,
        name: host.label,
        filter: 'ip and (udp port 4556 or proto 50 or proto 51)',
      }),
    ),
  ]);
  const traffic = await startTraffic(
    lab,
    actors.map((actor, i) => ({
      name: actor.name,
      device: { namespace: `${lab.id}-${actor.name}-app`, address: deviceInner(i), port: PORT },
      peer: { namespace: peerApp, address: PEER_INNER, port: PORT + 1 + i },
      packetsPerSecond: PACKETS_PER_SECOND,
    })),
  );
  return {
    fleet,
    actors,
    hotel,
    traffic,
    peerCapture: peerCapture!,
    relayCaptures: new Map([...fleet.relays.keys()].map((id, i) => [id, relayCaptures[i]!])),
    engine: () => engineOf(fleet),
    async associationChanges() {
      let changes = 0;
      for (const [kernel, before] of listings) {
        changes += associationChanges(before, await securityAssociations(kernel));
      }
      return changes;
    },
  };
}

async function engineOf(fleet: Fleet): Promise<EngineRecord> {
  const records = await Promise.all(
    [...fleet.relays.values()].map(async ({ dataDir }): Promise<EngineRecord> => {
      const text = await askControl(join(dataDir, 'control.sock'), 'GET', '/status');
      const { engine, interfaces, notes } = (JSON.parse(text) as { relay: EngineStatus }).relay;
      return { engine, mode: interfaces[0]?.mode ?? null, engineNotes: notes };
    }),
  );
  const [first, ...others] = records;
  for (const other of others) {
    if (other.engine !== first!.engine || other.mode !== first!.mode) {
      throw new Error(`the relays forward with ${records.map(described).join(' and ')}`);
    }
  }
  return first!;
}

const POLICY = {
  portBlock: 1024,
  spiBlock: 256,
  leaseMs: { default: 3_600_000, max: 86_400_000 },
  coolingMs: 120_000,
  maxLeasesPerDevice: 4,
};

const POOLS: readonly PoolSettings[] = [
  {
    ...POLICY,
    name: 'shared',
    sharing: 'shared',
    anchors: [
      { id: ANCHORS.shared, home: 'r1', endpoints: ['198.51.100.20'], prefixes: ['198.51.100.21/32'] },
    ],
  },
  {
    ...POLICY,
    name: 'whole',
    sharing: 'whole',
    anchors: [
      { id: ANCHORS.whole, home: 'r1', endpoints: ['198.51.100.30'], prefixes: ['198.51.100.32/30'] },
    ],
  },
];

function deviceInner(i: number): string {
  return `10.50.${i + 1}.2`;
}

/** A kernel behind the device: its first card holds the leased address, its second leads to the applications. */
async function bootDeviceKernel(lab: Lab, role: Cast, i: number, device: string): Promise<Uml> {
  const app = await lab.namespace(`${role.name}-app`);
  const gateway = `10.50.${i + 1}.1`;
  const kernel = await bootUml(lab, {
    name: role.name,
    cards: [
      { namespace: device, tap: BEHIND.interface, tapAddress: `${BEHIND.device}/32`, mtu: 1280 },
      { namespace: app, tap: 'app0', tapAddress: `${deviceInner(i)}/24`, address: `${gateway}/24` },
    ],
  });
  await lab.ip(app, [`route add default via ${gateway}`]);
  return kernel;
}

/** Tunnel-mode association between the device's kernel and the peer's: by its own policy the peer tells devices apart. */
async function associate(actor: Actor, i: number, peer: Uml): Promise<void> {
  const spi = actor.lease.spis?.first ?? 0x1000_0000 + i;
  await establish(
    withFreshKeys({
      protocol: actor.protocol,
      reqid: i + 1,
      device: { outer: actor.lease.address, inner: deviceInner(i), spi },
      peer: { outer: PEER_ADDRESS, inner: PEER_INNER, spi: 0xc000_0000 + i },
    }),
    actor.kernel,
    peer,
  );
}
