/**
 * A peer, a relay host and a device as namespaces in a row, whose ends turn everything round inside XDP: packets circle
 * as fast as the relay lets them. Each processor has a queue of its own all the way, so that a packet stays on the one
 * that started it.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { TUNNEL_PORT } from '../../../src/tunnel/wire.ts';
import { type ControlChannel, controlChannel } from '../../lab/control-channel.ts';
import type { Lab, Namespace } from '../../lab/lab.ts';
import { nodeCommand } from '../../lab/node-command.ts';
import { type FrameAddresses, plainFrame, tunnelledFrame } from './frames.ts';
import { devicePort, indexOf, placeOf } from './leases.ts';
import type { LoopEndCommand, Turned } from './loop-end.ts';
import { bindPolling } from './packet-injector.ts';
import { type Flow, innerPacket, type Traffic } from './packets.ts';
import { KEY_NUMBER } from './program-instance.ts';
import type { Loaded, XdpHostCommand, XdpHostPlan } from './xdp-host.ts';

const NET = { peer: '198.18.8', device: '198.18.9' } as const;
export const LOOP = {
  peer: `${NET.peer}.2`,
  device: `${NET.device}.2`,
  endpoint: `${NET.device}.1`,
} as const;
const MAC = {
  peer: '02:00:00:00:01:02',
  towardsPeer: '02:00:00:00:01:01',
  device: '02:00:00:00:02:02',
  towardsDevice: '02:00:00:00:02:01',
} as const;
export const INTERFACES = { towardsPeer: 'peer0', towardsDevice: 'dev0' } as const;
const POLLED: readonly string[] = [...Object.values(INTERFACES), 'net0', 'net1'];
/** Of inner packets; the largest case fits an Ethernet's 1,500 with what the tunnel adds. */
export const INNER_MTU = 1_400;
const PEER_PORT = 9_000;
/** Packets that circle. */
const CIRCLING = 128;
const QUEUED = 'numtxqueues 2 numrxqueues 2';
/** The ends stop by themselves: a loop that nobody is left to stop would never end. */
const LONGEST_MS = 60_000;

export const KEYS = {
  toRelay: crypto.getRandomValues(new Uint8Array(16)),
  toDevice: crypto.getRandomValues(new Uint8Array(16)),
} as const;
const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');

export interface ClosedLoop {
  readonly peer: ControlChannel<LoopEndCommand>;
  readonly device: ControlChannel<LoopEndCommand>;
  readonly relay: ControlChannel<XdpHostCommand>;
}

/** `mostLeases`: of all cases to come. */
export async function buildClosedLoop(lab: Lab, mostLeases: number): Promise<ClosedLoop> {
  const [peer, relay, device] = await Promise.all([
    lab.namespace('loop-peer'),
    lab.namespace('loop-relay'),
    lab.namespace('loop-device'),
  ]);
  await join(lab, relay, INTERFACES.towardsPeer, MAC.towardsPeer, peer, MAC.peer, NET.peer);
  await join(lab, relay, INTERFACES.towardsDevice, MAC.towardsDevice, device, MAC.device, NET.device);
  await lab.run(relay, ['sysctl', '-qw', 'net.ipv4.ip_forward=1']);
  await joinDirectly(lab, peer, device);
  const plan: XdpHostPlan = {
    interfaces: [INTERFACES.towardsPeer, INTERFACES.towardsDevice],
    endpoint: LOOP.endpoint,
    device: LOOP.device,
    innerMtu: INNER_MTU,
    keys: { toRelay: hex(KEYS.toRelay), toDevice: hex(KEYS.toDevice) },
  };
  const [peerEnd, deviceEnd, host] = await Promise.all([
    start<LoopEndCommand>(lab, peer, 'loop-end', 'peer end'),
    start<LoopEndCommand>(lab, device, 'loop-end', 'device end'),
    start<XdpHostCommand>(lab, relay, 'xdp-host', 'xdp host', JSON.stringify(plan)),
  ]);
  const devices = { count: mostLeases, key: hex(KEYS.toRelay), keyNumber: KEY_NUMBER };
  await deviceEnd.request({ op: 'devices', ...devices });
  return { peer: peerEnd, device: deviceEnd, relay: host };
}

async function join(
  lab: Lab,
  relay: Namespace,
  name: string,
  mac: string,
  end: Namespace,
  endMac: string,
  net: string,
): Promise<void> {
  await lab.ip(relay, [
    `link add ${name} address ${mac} ${QUEUED} type veth peer name net0 address ${endMac} ${QUEUED} netns ${end}`,
    `address add ${net}.1/24 dev ${name}`,
    `link set ${name} up`,
    `neighbour replace ${net}.2 lladdr ${endMac} dev ${name} nud permanent`,
  ]);
  await lab.ip(end, [`address add ${net}.2/24 dev net0`, 'link set net0 up']);
  await polledByThreads(lab, relay, name);
  await polledByThreads(lab, end, 'net0');
}

/** The ends alone, without anything between them: what they cost is known by it. */
async function joinDirectly(lab: Lab, peer: Namespace, device: Namespace): Promise<void> {
  const [near, far] = [`address ${MAC.peer}`, `address ${MAC.towardsPeer}`];
  await lab.ip(peer, [
    `link add net1 ${near} ${QUEUED} type veth peer name net1 ${far} ${QUEUED} netns ${device}`,
    'link set net1 up',
  ]);
  await lab.ip(device, ['link set net1 up']);
  for (const end of [peer, device]) await polledByThreads(lab, end, 'net1');
}

/** Each queue has a thread, which can be bound to a processor, and each processor sends by its own queue. */
async function polledByThreads(lab: Lab, namespace: Namespace, device: string): Promise<void> {
  const at = `/sys/class/net/${device}`;
  // veth polls at all only with this, or with a program on it.
  await lab.run(namespace, ['ethtool', '-K', device, 'gro', 'on']);
  const orders = [`1 > ${at}/threaded`, `1 > ${at}/queues/tx-0/xps_cpus`, `2 > ${at}/queues/tx-1/xps_cpus`];
  await lab.run(namespace, ['sh', '-ec', orders.map((order) => `echo ${order}`).join('; ')]);
}

async function start<Command extends object>(
  lab: Lab,
  namespace: Namespace,
  name: string,
  label: string,
  ...args: string[]
): Promise<ControlChannel<Command>> {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const file = fileURLToPath(new URL(`${name}.${extension}`, import.meta.url));
  const env = { ...process.env, NODE_OPTIONS: '--max-old-space-size=12288' };
  const child = await lab.spawn(namespace, nodeCommand(file, ...args), { label, control: true, env });
  return controlChannel<Command>(label, child.control!);
}

/** What relays in the middle. */
export type Middle =
  | { readonly kind: 'kernel' }
  | { readonly kind: 'bare' }
  | { readonly kind: 'mooring'; readonly name: string; readonly mode: 'native' | 'generic' };

export interface LoopRun {
  /** Null: the ends alone. */
  readonly middle: Middle | null;
  readonly traffic: Traffic;
  readonly octets: number;
  /** Processors that packets are started on. */
  readonly cores: 1 | 2;
  /** Leases that the circling packets belong to: 1, or spread over so many. */
  readonly leases: number;
  /** Every packet goes on to another lease, drawn by lot among all. */
  readonly byLot?: boolean;
  readonly settleMs: number;
  readonly windowMs: number;
  /** Happens while packets circle. */
  readonly meanwhile?: () => Promise<unknown>;
}

export interface LoopFigures {
  /** Packets that came out of the relay, both ways. */
  readonly packetsPerSecond: number;
  readonly wrongPath: number;
  /** Arrived in all, with those before and after the window. */
  readonly packets: number;
}

const octetsOf = (mac: string): Uint8Array =>
  Uint8Array.from(mac.split(':'), (part) => Number.parseInt(part, 16));
export const FROM_PEER: FrameAddresses = { to: octetsOf(MAC.towardsPeer), from: octetsOf(MAC.peer) };
export const FROM_DEVICE: FrameAddresses = { to: octetsOf(MAC.towardsDevice), from: octetsOf(MAC.device) };

/** From the peer to a lease. */
export function downlinkFlow(traffic: Traffic, lease: number): Flow {
  const { address, port, spi } = placeOf(lease);
  const ends = { source: LOOP.peer, destination: address, sourcePort: PEER_PORT, destinationPort: port };
  return { traffic, ...ends, spi };
}

export async function loadProgram(
  loop: ClosedLoop,
  name: string,
  leases: number,
  benchmark = false,
): Promise<Loaded> {
  return (await loop.relay.request({ op: 'load', name, leases, benchmark })) as Loaded;
}

export async function runLoop(loop: ClosedLoop, run: LoopRun): Promise<LoopFigures> {
  const { middle, settleMs, windowMs } = run;
  // In generic mode the ends are so too: what XDP sends reaches no end of veth without a program in native mode.
  const mode = middle?.kind === 'mooring' ? middle.mode : 'native';
  const on = { mode, interface: middle === null ? 'net1' : 'net0' };
  await loop.peer.request({ op: 'attach', program: 'turn_plain', ...on });
  await loop.device.request({ op: 'attach', program: 'turn_device', ...on });
  if (middle !== null) {
    const name = middle.kind === 'kernel' ? 'leave' : middle.kind === 'bare' ? 'bare' : middle.name;
    await loop.relay.request({ op: 'attach', name, mode });
  }
  bindPolling(POLLED);
  try {
    return await circle(loop, run, Math.min(settleMs + windowMs + 20_000, LONGEST_MS));
  } finally {
    for (const end of [loop.peer, loop.device]) await end.request({ op: 'turn', forMs: 0, leases: 1 });
    await delay(20);
  }
}

async function circle(loop: ClosedLoop, run: LoopRun, forMs: number): Promise<LoopFigures> {
  await loop.peer.request({ op: 'turn', forMs, leases: run.byLot ? run.leases : 1 });
  await loop.device.request({ op: 'turn', forMs, leases: 1 });
  const before = await counts(loop);
  await loop.peer.request({ op: 'inject', frames: framesOf(run) });
  const meanwhile = run.meanwhile?.();
  await delay(run.settleMs);
  const from = await counts(loop);
  await delay(run.windowMs);
  const to = await counts(loop);
  await meanwhile;
  await delay(5);
  const last = await counts(loop);
  if (last.packets - to.packets < 2 && run.meanwhile === undefined) {
    throw new Error('the packets were lost, or their time was over, before the end of the run');
  }
  return {
    packetsPerSecond: (to.packets - from.packets) / ((to.atNs - from.atNs) / 1e9),
    wrongPath: last.wrongPath - before.wrongPath,
    packets: last.packets - before.packets,
  };
}

async function counts(loop: ClosedLoop): Promise<{ packets: number; wrongPath: number; atNs: number }> {
  const [peer, device] = (await Promise.all([
    loop.peer.request({ op: 'counts' }),
    loop.device.request({ op: 'counts' }),
  ])) as [Turned, Turned];
  return {
    packets: peer.turned + device.turned,
    wrongPath: device.wrongPath,
    atNs: (peer.atNs + device.atNs) / 2,
  };
}

/**
 * The leases of the circling packets lie as far apart as there is room. A relay without a tunnel is given the datagrams that
 * Mooring would make of them: all do the same work at the ends.
 */
function framesOf(run: LoopRun): string[][] {
  const lists: string[][] = Array.from({ length: run.cores }, () => []);
  for (let i = 0; i < CIRCLING; i += 1) {
    const lease = Math.floor((i * run.leases) / CIRCLING);
    const inner = innerPacket(downlinkFlow(run.traffic, lease), run.octets);
    const frame =
      run.middle?.kind === 'mooring'
        ? plainFrame(FROM_PEER, inner)
        : tunnelledFrame({
            frame: FROM_PEER,
            from: { address: LOOP.peer, port: TUNNEL_PORT },
            to: { address: LOOP.device, port: devicePort(lease) },
            key: KEYS.toDevice,
            keyNumber: KEY_NUMBER,
            index: indexOf(lease),
            sequence: 1,
            inner,
          });
    lists[i % run.cores]!.push(hex(frame));
  }
  return lists;
}
