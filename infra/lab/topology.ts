/**
 * The lab's networks: one public segment (198.51.100.0/24) with hosts on it, access networks behind it, and devices that
 * are attached to access networks by emulated links.
 */
import { type AccessKind, type AccessNetwork, configureAccessNetwork, LAN, WAN } from './access-network.ts';
import type { LinkShape } from './delay-line.ts';
import { type EmulatedLink, type LinkEmulator, startLinkEmulator } from './emulated-link.ts';
import type { Lab, Namespace } from './lab.ts';

/** The public segment's router: default gateway of every host, with routes to the plain access networks. */
export const PUBLIC_ROUTER = '198.51.100.1';
/** With `ipv6`, the same segment's other family: a host's address ends in the last octet of its IPv4 one. */
export const PUBLIC_ROUTER6 = '2001:db8:51::1';
/** Interface of a host on the public segment. */
export const PUBLIC_INTERFACE = 'pub0';
/** Bridge of the public segment, in its own namespace. */
export const PUBLIC_BRIDGE = 'br0';
/** Access routers take 198.51.100.200 and up. */
const FIRST_ROUTER = 200;

export interface PublicHost {
  readonly label: string;
  readonly namespace: Namespace;
  readonly address: string;
  /** On a network with IPv6. */
  readonly address6?: string;
  readonly interface: string;
  /** The other end of its interface, on the segment's bridge: what XDP sends is seen here, and not on `interface`. */
  readonly port: string;
}

export interface AttachOptions {
  /** Name of the device's interface, such as `wifi0`. */
  readonly interface: string;
  /** Metric of its default route; the least one is preferred. */
  readonly metric: number;
  /** One-way delay; default 0. */
  readonly delayMs?: number;
  /** 0 to 1; default 0. */
  readonly lossRate?: number;
  /** Seed of the loss; default 1. */
  readonly seed?: number;
  /** Of the device's interface, octets; default 1500. */
  readonly mtu?: number;
  /** False: the interface exists but is down until `up()`. Default true. */
  readonly up?: boolean;
}

/**
 * - `down`: the cable is pulled and the interface is switched off; its routes go. What most network managers do.
 * - `carrier`: only the cable is pulled; address and routes stay.
 * - `address`: the address is taken away; the link stays.
 */
export type CutKind = 'down' | 'carrier' | 'address';

export interface AccessLink {
  readonly network: AccessNetwork;
  readonly interface: string;
  /** The device's address on this link. */
  readonly address: string;
  /** On a network with IPv6. */
  readonly address6?: string;
  /** Takes the link away at once; what is in flight is lost. Default `down`. */
  cut(how?: CutKind): Promise<void>;
  /** Brings cable, interface, address and default route back. */
  up(): Promise<void>;
  /** Changes delay, loss or `dead` (silently eats everything) while it runs. */
  shape(change: Partial<LinkShape>): Promise<void>;
  counters: EmulatedLink['counters'];
}

export interface Device {
  readonly label: string;
  readonly namespace: Namespace;
  attach(network: AccessNetwork, options: AttachOptions): Promise<AccessLink>;
}

export interface PublicNetwork {
  /** Namespace with the bridge `br0`; interfaces put on it are on the public segment. */
  readonly namespace: Namespace;
  readonly emulator: LinkEmulator;
  /** A host with the interface `pub0` on the public segment. `forwarding` makes it a router, as relays are. */
  host(
    label: string,
    options: { readonly address: string; readonly forwarding?: boolean },
  ): Promise<PublicHost>;
  accessNetwork(label: string, options: { readonly kind: AccessKind }): Promise<AccessNetwork>;
  /** A namespace without any interface but loopback. */
  device(label: string): Promise<Device>;
}

export interface PublicNetworkOptions {
  /** Gives every host, access network and device IPv6 addresses too, routed and never translated. Default: no. */
  readonly ipv6?: boolean;
}

/** The IPv6 address on the public segment that belongs to an IPv4 one there. */
export const publicAddress6 = (address: string): string => `2001:db8:51::${address.split('.').pop()}`;

export async function createPublicNetwork(
  lab: Lab,
  { ipv6 = false }: PublicNetworkOptions = {},
): Promise<PublicNetwork> {
  const [namespace, emulator] = await Promise.all([lab.namespace('net'), startLinkEmulator(lab)]);
  await lab.ip(namespace, [
    `link add ${PUBLIC_BRIDGE} type bridge forward_delay 0 stp_state 0`,
    `address add ${PUBLIC_ROUTER}/24 dev ${PUBLIC_BRIDGE}`,
    ...(ipv6 ? [`address add ${PUBLIC_ROUTER6}/64 dev ${PUBLIC_BRIDGE}`] : []),
    `link set ${PUBLIC_BRIDGE} up`,
  ]);
  await lab.run(namespace, ['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
  let ports = 0;
  let routers = 0;

  const connect = async (host: Namespace, name: string, address: string) => {
    const port = `p${ports++}`;
    await lab.ip(namespace, [
      `link add ${port} type veth peer name ${name} netns ${host}`,
      `link set ${port} master ${PUBLIC_BRIDGE} up`,
    ]);
    // What XDP sends or redirects into a veth arrives only where its other end polls (NAPI), which GRO switches on; and XDP
    // sees packets before anybody completes a checksum, so none may be left to the "hardware": neither by the host itself
    // nor by the bridge, which sends on what GRO has put together.
    await lab.run(namespace, ['ethtool', '-K', port, 'gro', 'on', 'tx', 'off']);
    await lab.run(host, ['ethtool', '-K', name, 'tx', 'off']);
    await lab.ip(host, [
      `address add ${address}/24 dev ${name}`,
      ...(ipv6 ? [`address add ${publicAddress6(address)}/64 dev ${name}`] : []),
      `link set ${name} up`,
      `route add default via ${PUBLIC_ROUTER}`,
      ...(ipv6 ? [`route add default via ${PUBLIC_ROUTER6}`] : []),
    ]);
    return port;
  };

  return {
    namespace,
    emulator,
    async host(label, { address, forwarding = false }) {
      const host = await lab.namespace(label);
      const port = await connect(host, PUBLIC_INTERFACE, address);
      if (forwarding)
        await lab.run(host, ['sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1']);
      return {
        label,
        namespace: host,
        address,
        ...(ipv6 ? { address6: publicAddress6(address) } : {}),
        interface: PUBLIC_INTERFACE,
        port,
      };
    },
    async accessNetwork(label, { kind }) {
      const number = routers++;
      const publicAddress = `198.51.100.${FIRST_ROUTER + number}`;
      const router = await lab.namespace(`net-${label}`);
      await connect(router, WAN, publicAddress);
      const plain = kind === 'plain';
      const subnetBase = plain
        ? (['203.0.113', number * 16] as const)
        : ([`10.${100 + number}.0`, 0] as const);
      const prefixLength = plain ? 28 : 24;
      if (plain && number > 15)
        throw new Error(`access network ${label}: at most 16 fit into 203.0.113.0/24`);
      const network = await configureAccessNetwork(lab, router, {
        label,
        kind,
        publicAddress,
        subnetBase,
        prefixLength,
        ...(ipv6 ? { network6: `2001:db8:a${number}` } : {}),
      });
      if (ipv6) {
        await lab.ip(namespace, [`route add 2001:db8:a${number}::/64 via ${publicAddress6(publicAddress)}`]);
      }
      if (plain) {
        await lab.ip(namespace, [`route add ${subnetBase.join('.')}/${prefixLength} via ${publicAddress}`]);
      }
      return network;
    },
    async device(label) {
      const device = await lab.namespace(label);
      return {
        label,
        namespace: device,
        attach: (network, options) => attach(lab, emulator, device, network, options),
      };
    },
  };
}

async function attach(
  lab: Lab,
  emulator: LinkEmulator,
  device: Namespace,
  network: AccessNetwork,
  options: AttachOptions,
): Promise<AccessLink> {
  const name = options.interface;
  const { address, address6 } = network.takeAddress();
  const port = `l${address.split('.').pop()}`;
  const link = await emulator.link(
    [
      { namespace: device, interface: name },
      { namespace: network.namespace, interface: port },
    ],
    { delayMs: options.delayMs ?? 0, lossRate: options.lossRate ?? 0, dead: false },
    options.seed ?? 1,
  );
  await lab.ip(network.namespace, [`link set ${port} master ${LAN} up`]);
  const addresses = [
    `${address}/${network.prefixLength}`,
    ...(address6 === undefined ? [] : [`${address6}/64`]),
  ];
  const up = async () => {
    await link.carrier(true);
    await lab.ip(device, [
      `link set ${name} mtu ${options.mtu ?? 1500}`,
      // Both again each time: IPv6 addresses go with their link.
      ...addresses.map((one) => `address replace ${one} dev ${name}`),
      `link set ${name} up`,
      ...[network.gateway, ...(network.gateway6 === undefined ? [] : [network.gateway6])].map(
        (gateway) => `route replace default via ${gateway} dev ${name} metric ${options.metric}`,
      ),
    ]);
  };
  if (options.up ?? true) await up();
  else await link.carrier(false);
  return {
    network,
    interface: name,
    address,
    ...(address6 === undefined ? {} : { address6 }),
    up,
    async cut(how = 'down') {
      switch (how) {
        case 'down':
          await link.carrier(false);
          await lab.ip(device, [`link set ${name} down`]);
          return;
        case 'carrier':
          await link.carrier(false);
          return;
        case 'address':
          await lab.ip(
            device,
            addresses.map((one) => `address delete ${one} dev ${name}`),
          );
          return;
      }
    },
    shape: link.shape,
    counters: link.counters,
  };
}
