/** What the demo plays on: networks, services, relays, devices with real kernel IPsec, and numbered traffic. */

import { join } from 'node:path';
import type { AgentStatus } from '../../clients/laptop/status.ts';
import { askControl } from '../../src/admin/ask-control.ts';
import { parsePool } from '../../src/config/pools.ts';
import type { EngineStatus } from '../../src/datapath/engine-api.ts';
import type { AccessNetwork } from '../lab/access-network.ts';
import { type Capture, startCapture } from '../lab/capture.ts';
import { type Agent, type Fleet, startFleet } from '../lab/fleet.ts';
import { associationChanges, type SecurityAssociation, securityAssociations } from '../lab/ipsec.ts';
import type { Lab, Namespace } from '../lab/lab.ts';
import { type AccessLink, createPublicNetwork, PUBLIC_BRIDGE, PUBLIC_ROUTER } from '../lab/topology.ts';
import { startTraffic, type Traffic } from '../lab/traffic.ts';
import { bootUml, type UmlCard } from '../lab/uml.ts';
import { type UmlHost, umlHost } from '../lab/uml-host.ts';
import {
  type IkeEnd,
  type IkePlan,
  type Rekey,
  startDevice,
  startLibreswanPeer,
  startStrongswanPeer,
} from './ike.ts';
import type { Progress } from './progress.ts';
import { described, type EngineRecord } from './report.ts';

export const PACKETS_PER_SECOND = 500;
/** Two far ends that know nothing of Mooring: public address, and the application behind. */
export const PEERS = {
  strongswan: { address: '198.51.100.50', inner: '10.60.0.2', gateway: '10.60.0.1' },
  libreswan: { address: '198.51.100.51', inner: '10.61.0.2', gateway: '10.61.0.1' },
} as const;
/** The kernel behind a device reaches it here. */
const BEHIND = { interface: 'uml0', device: '169.254.7.1' } as const;
const PORT = 7000;

interface Cast {
  readonly name: string;
  readonly pool: 'shared' | 'whole';
  readonly protocol: IkePlan['protocol'];
  readonly peer: keyof typeof PEERS;
  /** Whose daemon renews the association. */
  readonly rekeysBy: Rekey['by'];
  readonly wifi: string;
  /** One-way delays, milliseconds. */
  readonly delaysMs: { readonly wifi: number; readonly cellular: number; readonly hotel: number };
}

/**
 * Two devices behind different NATs share one public address, and reach the same peer from it; the third has an address of its
 * own, and a peer of another make.
 */
const CAST: readonly Cast[] = [
  {
    name: 'alice',
    pool: 'shared',
    protocol: 'ah',
    peer: 'strongswan',
    rekeysBy: 'device',
    wifi: 'home',
    delaysMs: { wifi: 5, cellular: 25, hotel: 15 },
  },
  {
    name: 'bob',
    pool: 'shared',
    protocol: 'esp',
    peer: 'strongswan',
    rekeysBy: 'peer',
    wifi: 'office',
    delaysMs: { wifi: 8, cellular: 30, hotel: 12 },
  },
  {
    name: 'carol',
    pool: 'whole',
    protocol: 'esp',
    peer: 'libreswan',
    rekeysBy: 'peer',
    wifi: 'home',
    delaysMs: { wifi: 5, cellular: 40, hotel: 20 },
  },
];

/** Anchor of each pool; both begin at relay r1. */
export const ANCHORS = { shared: 'shared-1', whole: 'whole-1' } as const;

export interface Actor {
  readonly name: string;
  readonly pool: Cast['pool'];
  readonly protocol: Cast['protocol'];
  readonly peer: Cast['peer'];
  readonly agent: Agent;
  readonly lease: NonNullable<AgentStatus['lease']>;
  readonly links: { readonly wifi: AccessLink; readonly cellular: AccessLink; readonly hotel: AccessLink };
  /** Renews its child association and its IKE association, one after the other. */
  rekey(): Promise<Rekey[]>;
}

export interface Stage {
  readonly fleet: Fleet;
  readonly actors: readonly Actor[];
  readonly hotel: AccessNetwork;
  readonly traffic: Traffic;
  /** On the peers' interfaces, from before the first packet of the traffic. */
  readonly peerCaptures: readonly Capture[];
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
  progress.say('relays r1 and r2, signalling, Redis, a token issuer; Linux kernels for the IPsec ends');
  const devices = await Promise.all(CAST.map((role) => net.device(role.name)));
  const [fleet, peers, hosts, links] = await Promise.all([
    startFleet(lab, net, {
      relays: ['r1', 'r2'],
      devices: CAST.map(({ name }) => name),
      pools: POOLS,
      relaySettings: { engine, xdpSessions: 64 },
    }),
    bootPeers(lab, net.namespace),
    bootDevices(
      lab,
      devices.map(({ namespace }) => namespace),
    ),
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

  progress.say('devices ask for their leases; strongSwan and libreswan start at the peers');
  const plans = CAST.map(
    ({ name, protocol, peer }, i): IkePlan => ({
      ...{ device: name, protocol, peer: PEERS[peer].address },
      inner: { device: deviceInner(i), peer: PEERS[peer].inner },
    }),
  );
  const towards = (peer: Cast['peer']) => plans.filter((_, i) => CAST[i]!.peer === peer);
  const [held, strongswan, libreswan] = await Promise.all([
    Promise.all(
      CAST.map(async (role, i) => {
        const charon = { file: lab.file(`${role.name}-lease.conf`), reload: [] };
        const agent = await fleet.agent(devices[i]!, {
          pool: role.pool,
          kind: role.pool === 'whole' ? 'rsa-ip' : 'rsipsec',
          interfaces: ['wifi0', 'cell0', 'hotel0'],
          behind: BEHIND.interface,
          charon,
        });
        const { lease } = await agent.until(
          (status) => status.lease !== null && status.path?.link === 'wifi0',
          'bound on wifi0',
        );
        await hosts[i]!.exec(
          `ip address add ${lease!.address}/32 dev ${deviceCard(i)} && ip route add default via ${BEHIND.device} dev ${deviceCard(i)} onlink src ${lease!.address}`,
        );
        return { agent, lease: lease!, settingsFile: charon.file };
      }),
    ),
    startStrongswanPeer(lab, peers.strongswan, towards('strongswan')),
    startLibreswanPeer(lab, peers.libreswan, towards('libreswan')),
  ]);
  progress.say('strongSwan starts behind every device');
  const ends = await Promise.all(
    plans.map((plan, i) =>
      startDevice(lab, hosts[i]!, plan, {
        address: held[i]!.lease.address,
        settingsFile: held[i]!.settingsFile,
      }),
    ),
  );
  const peerEnds: Record<Cast['peer'], IkeEnd> = { strongswan, libreswan };
  const actors = CAST.map((role, i): Actor => {
    const { agent, lease } = held[i]!;
    const by = role.rekeysBy;
    return {
      ...role,
      ...{ agent, lease, links: links[i]! },
      rekey: () => ends[i]!.rekey(by, by === 'peer' ? peerEnds[role.peer] : ends[i]!),
    };
  });

  const listings = new Map<UmlHost, SecurityAssociation[]>();
  for (const host of [...Object.values(peers), ...hosts])
    listings.set(host, await securityAssociations(host));
  const [relayCaptures, peerCaptures] = await Promise.all([
    Promise.all(
      [...fleet.relays.values()].map(({ host }) =>
        startCapture(lab, {
          namespace: net.namespace,
          interface: host.port,
          name: host.label,
          filter: 'ip and (udp port 4556 or proto 50 or proto 51)',
        }),
      ),
    ),
    Promise.all(
      Object.keys(PEERS).map((name) =>
        startCapture(lab, {
          ...{ namespace: net.namespace, interface: name, name },
          ...{ filter: 'ip', snapLength: 96 },
        }),
      ),
    ),
  ]);
  const traffic = await startTraffic(
    lab,
    actors.map((actor, i) => ({
      name: actor.name,
      device: { namespace: `${lab.id}-${actor.name}-app`, address: deviceInner(i), port: PORT },
      peer: { namespace: `${lab.id}-peer-app`, address: PEERS[actor.peer].inner, port: PORT + 1 + i },
      packetsPerSecond: PACKETS_PER_SECOND,
    })),
  );
  return {
    fleet,
    actors,
    hotel,
    traffic,
    peerCaptures,
    relayCaptures: new Map([...fleet.relays.keys()].map((id, i) => [id, relayCaptures[i]!])),
    engine: () => engineOf(fleet),
    async associationChanges() {
      let changes = 0;
      for (const [host, before] of listings) {
        changes += associationChanges(before, await securityAssociations(host));
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

const POOLS = [
  {
    name: 'shared',
    sharing: 'shared',
    anchors: [
      { id: ANCHORS.shared, home: 'r1', endpoints: ['198.51.100.20'], prefixes: ['198.51.100.21/32'] },
    ],
  },
  {
    name: 'whole',
    sharing: 'whole',
    anchors: [
      { id: ANCHORS.whole, home: 'r1', endpoints: ['198.51.100.30'], prefixes: ['198.51.100.32/30'] },
    ],
  },
].map((pool) => parsePool(pool));

function deviceInner(i: number): string {
  return `10.50.${i + 1}.2`;
}

/** Card of a device's host that holds the leased address; the next one leads to its applications. */
const deviceCard = (i: number) => `vec${2 * i}`;

/** A host behind each device, all in one kernel: its first card holds the leased address, its second leads to the applications. */
async function bootDevices(lab: Lab, namespaces: readonly Namespace[]): Promise<UmlHost[]> {
  const apps = await Promise.all(CAST.map(({ name }) => lab.namespace(`${name}-app`)));
  const gateway = (i: number) => `10.50.${i + 1}.1`;
  const kernel = await bootUml(lab, {
    name: 'devices',
    memoryMb: 192,
    cards: CAST.flatMap(({ name: host }, i): UmlCard[] => [
      {
        ...{ host, namespace: namespaces[i]!, mtu: 1280 },
        ...{ tap: BEHIND.interface, tapAddress: `${BEHIND.device}/32` },
      },
      {
        ...{ host, namespace: apps[i]!, tap: 'app0' },
        ...{ tapAddress: `${deviceInner(i)}/24`, address: `${gateway(i)}/24` },
      },
    ]),
  });
  await Promise.all(apps.map((app, i) => lab.ip(app, [`route add default via ${gateway(i)}`])));
  return CAST.map(({ name }) => umlHost(kernel, name));
}

/** Both peers in one kernel, with the applications of both in one namespace. */
async function bootPeers(lab: Lab, segment: Namespace): Promise<Record<keyof typeof PEERS, UmlHost>> {
  const app = await lab.namespace('peer-app');
  const kernel = await bootUml(lab, {
    name: 'peers',
    memoryMb: 192,
    cards: Object.entries(PEERS).flatMap(([host, { address, inner, gateway }]): UmlCard[] => [
      {
        ...{ host, namespace: segment, tap: host, bridge: PUBLIC_BRIDGE },
        ...{ address: `${address}/24`, gateway: PUBLIC_ROUTER },
      },
      {
        ...{ host, namespace: app, tap: `${host}-app` },
        ...{ tapAddress: `${inner}/24`, address: `${gateway}/24` },
      },
    ]),
  });
  await lab.ip(
    app,
    CAST.map(({ peer }, i) => `route add ${deviceInner(i)}/32 via ${PEERS[peer].gateway}`),
  );
  return {
    strongswan: umlHost(kernel, 'strongswan'),
    libreswan: umlHost(kernel, 'libreswan'),
  };
}
