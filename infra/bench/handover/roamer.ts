/** A device that moves, under whatever system keeps its address: what the benchmark does to all of them alike. */
import type { Agent } from '../../lab/fleet.ts';
import type { Lab, Namespace } from '../../lab/lab.ts';
import type { AccessLink, Device, PublicNetwork } from '../../lab/topology.ts';
import { startTraffic, type Traffic } from '../../lab/traffic.ts';

export const PACKETS_PER_SECOND = 500;
const PORTS = { both: 7000, receiveOnly: 7001 } as const;
export const FLOW = 'flow';

export interface Links {
  readonly wifi: AccessLink;
  readonly cell: AccessLink;
}

/** Where numbered packets enter and leave the system under test. */
export interface Ends {
  readonly device: { readonly namespace: Namespace; readonly address: string };
  readonly peer: { readonly namespace: Namespace; readonly address: string };
}

export interface Roamer {
  readonly system: string;
  readonly links: Links;
  readonly traffic: { readonly both: Traffic; readonly receiveOnly: Traffic };
  /** Both links are up: use this one from now on, as a network manager (for Mooring: the user) would say it. */
  prefer(link: keyof Links): Promise<void>;
  /** The link in use is gone and this one is up: what a network manager would do, if the system needs to be told. */
  arrived(link: keyof Links): Promise<void>;
  /** Resolves when the system says that it uses this link; the benchmark itself waits for packets in any case. */
  settled(link: keyof Links): Promise<void>;
  /** Only Mooring has a relay to change. */
  changeRelay?(): Promise<void>;
}

/** A device with two access networks of its own behind NATs, which move its mappings when told to. */
export async function attachDevice(
  net: PublicNetwork,
  label: string,
): Promise<{ device: Device; links: Links }> {
  const device = await net.device(label);
  const home = await net.accessNetwork(`${label}-home`, { kind: 'nat-preserving' });
  const cellular = await net.accessNetwork(`${label}-cell`, { kind: 'nat-preserving' });
  return {
    device,
    links: {
      wifi: await device.attach(home, { interface: 'wifi0', metric: 100, delayMs: 10 }),
      cell: await device.attach(cellular, { interface: 'cell0', metric: 200, delayMs: 10 }),
    },
  };
}

export async function trafficBetween(lab: Lab, { device, peer }: Ends): Promise<Roamer['traffic']> {
  const start = (port: number, receiveOnlyDevice: boolean) =>
    startTraffic(lab, [
      {
        name: FLOW,
        device: { ...device, port },
        peer: { ...peer, port },
        packetsPerSecond: PACKETS_PER_SECOND,
        receiveOnlyDevice,
      },
    ]);
  return { both: await start(PORTS.both, false), receiveOnly: await start(PORTS.receiveOnly, true) };
}

/** Preference by the metric of default routes, as network managers do it. */
export function routePreference(
  lab: Lab,
  device: Device,
  links: Links,
): (link: keyof Links) => Promise<void> {
  const { gateway } = links.cell.network;
  const preferred = `default via ${gateway} dev ${links.cell.interface} metric 50`;
  return async (link) => {
    if (link === 'cell') await lab.ip(device.namespace, [`route replace ${preferred}`]);
    else await lab.run(device.namespace, ['sh', '-c', `ip route del ${preferred} 2>/dev/null || true`]);
  };
}

/** Mooring: the agent sees links come and go by itself. */
export function mooringRoamer(
  agent: Agent,
  links: Links,
  traffic: Roamer['traffic'],
  changeRelay: () => Promise<void>,
): Roamer {
  return {
    system: 'mooring',
    links,
    traffic,
    prefer: (link) => agent.use(links[link].interface),
    arrived: async () => {},
    async settled(link) {
      const wanted = links[link].interface;
      await agent.until(
        ({ state, path }) => state === 'bound' && path?.link === wanted,
        `bound on ${wanted}`,
      );
    },
    changeRelay,
  };
}
