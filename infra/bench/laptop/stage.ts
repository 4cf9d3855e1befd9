/** What the laptop benchmark plays on: a device for every system, behind one access router, and one peer for all of them. */
import { parsePool } from '../../../src/config/pools.ts';
import { type AccessNetwork, LAN } from '../../lab/access-network.ts';
import { startFleet } from '../../lab/fleet.ts';
import { type IperfEnds, startIperfServer } from '../../lab/iperf.ts';
import type { Lab, Namespace } from '../../lab/lab.ts';
import {
  createPublicNetwork,
  type Device,
  PUBLIC_BRIDGE,
  type PublicHost,
  type PublicNetwork,
} from '../../lab/topology.ts';
import { OPENVPN_INNER, OPENVPN_INTERFACE, startOpenvpn } from '../tunnels/openvpn.ts';
import { startWireguard, WIREGUARD_INNER } from '../tunnels/wireguard.ts';

const PEER = '198.51.100.50';
const WIREGUARD_SERVER = '198.51.100.60';
const OPENVPN_SERVER = '198.51.100.61';
const LINK = 'wifi0';
/** Of two bridges that never meet. */
const BRIDGE_ADDRESS = '02:00:00:00:00:01';
const POOL = parsePool({
  name: 'whole',
  sharing: 'whole',
  anchors: [{ id: 'whole-1', home: 'r1', endpoints: ['198.51.100.30'], prefixes: ['198.51.100.32/30'] }],
});

export const MOORING = 'mooring-userspace';
export const WIREGUARD = 'wireguard-go';

export interface System extends IperfEnds {
  readonly name: string;
}

export interface LaptopStage {
  /** Mooring first. */
  readonly systems: readonly System[];
  /** Rivals that did not start, and why. */
  readonly unavailable: readonly string[];
}

interface Ground {
  readonly lab: Lab;
  readonly net: PublicNetwork;
  readonly access: AccessNetwork;
  readonly peer: PublicHost;
}

/** @throws Error if there is no iperf3 */
export async function setLaptopStage(lab: Lab, say: (text: string) => void): Promise<LaptopStage> {
  const net = await createPublicNetwork(lab);
  const access = await net.accessNetwork('access', { kind: 'plain' });
  // A bridge takes the least address of its ports until it has one of its own: whoever knew it before would miss it.
  await lab.ip(net.namespace, [`link set ${PUBLIC_BRIDGE} address ${BRIDGE_ADDRESS}`]);
  await lab.ip(access.namespace, [`link set ${LAN} address ${BRIDGE_ADDRESS}`]);
  const peer = await net.host('peer', { address: PEER });
  await asCard(lab, net, peer);
  await startIperfServer(lab, peer.namespace, PEER);
  const ground = { lab, net, access, peer };
  const systems = [await mooring(ground)];
  say('Mooring is bound: relay r1 with the userspace engine, and the agent');
  const unavailable: string[] = [];
  for (const [name, start] of [
    [WIREGUARD, wireguard],
    ['openvpn', openvpn],
    ['plain-routing', plainRouting],
  ] as const) {
    try {
      systems.push(await start(ground));
      say(`${name} is up`);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      unavailable.push(`${name} could not be measured: ${reason.split('\n')[0]}`);
      say(unavailable.at(-1)!);
    }
  }
  return { systems, unavailable };
}

async function mooring(ground: Ground): Promise<System> {
  const { lab, net } = ground;
  const { device } = await deviceOf(ground, 'mooring');
  const fleet = await startFleet(lab, net, {
    relays: ['r1'],
    allInOne: true,
    devices: [device.label],
    pools: [POOL],
    relaySettings: { engine: 'userspace' },
  });
  await asCard(lab, net, fleet.relays.get('r1')!.host);
  const agent = await fleet.agent(device, { pool: POOL.name, kind: 'rsa-ip', interfaces: [LINK] });
  const { lease } = await agent.until(({ state }) => state === 'bound', 'bound', 30_000);
  return between(MOORING, device.namespace, lease!.address);
}

async function wireguard(ground: Ground): Promise<System> {
  const { lab } = ground;
  const server = await gateway(ground, 'wg-server', WIREGUARD_SERVER, WIREGUARD_INNER.device);
  const { device } = await deviceOf(ground, 'wg');
  const tunnel = await startWireguard(lab, server, device.namespace, [`${PEER}/32`]);
  await lab.ip(device.namespace, [`route add ${PEER}/32 dev ${tunnel.interface}`]);
  return between(WIREGUARD, device.namespace, WIREGUARD_INNER.device);
}

async function openvpn(ground: Ground): Promise<System> {
  const { lab } = ground;
  const server = await gateway(ground, 'ovpn-server', OPENVPN_SERVER, OPENVPN_INNER.device);
  const { device } = await deviceOf(ground, 'ovpn');
  await startOpenvpn(lab, server, device.namespace);
  await lab.ip(device.namespace, [`route add ${PEER}/32 dev ${OPENVPN_INTERFACE}`]);
  return between('openvpn', device.namespace, OPENVPN_INNER.device);
}

async function plainRouting(ground: Ground): Promise<System> {
  const { device, address } = await deviceOf(ground, 'plain');
  return between('plain-routing', device.namespace, address);
}

function between(name: string, namespace: Namespace, address: string): System {
  return { name, device: { namespace, address }, peer: { address: PEER } };
}

/** A rival's server, behind which the peer is as it is behind a relay: the peer is told the way to the device. */
async function gateway({ lab, net, peer }: Ground, label: string, address: string, inner: string) {
  const server = await net.host(label, { address, forwarding: true });
  await asCard(lab, net, server);
  await lab.ip(peer.namespace, [`route add ${inner}/32 via ${address}`]);
  return server;
}

/** A device on the access network by a wire: what emulates links in the other labs is slower than what is measured. */
async function deviceOf({ lab, net, access }: Ground, label: string) {
  const device: Device = await net.device(label);
  const { address } = access.takeAddress();
  const port = `l${address.split('.').pop()}`;
  await lab.ip(access.namespace, [
    `link add ${port} type veth peer name ${LINK} netns ${device.namespace}`,
    `link set ${port} master ${LAN} up`,
  ]);
  await offloads(lab, access.namespace, port);
  await offloads(lab, device.namespace, LINK);
  await lab.ip(device.namespace, [
    `address add ${address}/${access.prefixLength} dev ${LINK}`,
    `link set ${LINK} up`,
    `route add default via ${access.gateway}`,
  ]);
  return { device, address };
}

async function asCard(lab: Lab, net: PublicNetwork, host: PublicHost): Promise<void> {
  await offloads(lab, host.namespace, host.interface);
  await offloads(lab, net.namespace, host.port);
}

/** veth as a network card that completes checksums and joins what arrives, but cuts nothing: who sends pays for that. */
async function offloads(lab: Lab, namespace: Namespace, name: string): Promise<void> {
  const settings = ['tx', 'on', 'tso', 'off', 'tx-udp-segmentation', 'off', 'gro', 'on'];
  await lab.run(namespace, ['ethtool', '-K', name, ...settings]);
}
