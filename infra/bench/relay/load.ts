/**
 * Program: one end of the packet rig. It offers packets by sendmmsg, and it counts what arrived at its interface, where
 * a rule drops it: no receiver can be the bottleneck. Argument: `LoadPlan` as JSON; obeys `LoadCommand`.
 */
import { readFileSync } from 'node:fs';
import { createAddressBook } from '../../../src/linux/address-book.ts';
import { check, libc, setSocketOption } from '../../../src/linux/libc.ts';
import { openUdp, type UdpSocket } from '../../../src/linux/udp.ts';
import { createUdpSender, type UdpSender } from '../../../src/linux/udp-sender.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import type { DataSender } from '../../../src/tunnel/data.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { serve } from '../../lab/control-channel.ts';
import { createMovers, type Movers } from './movers.ts';
import { type Flow, IPV4_HEADER, innerPacket, PROTOCOL, UDP_HEADER } from './packets.ts';
import { offerStamped, type StampedLane } from './stamped-load.ts';
import { bindDevice, type DevicePort, socketAddress } from './tunnel-device.ts';
import { allocate, bindChannel, CHANNEL, CHANNEL_HEADER } from './turn-client.ts';

export interface LoadPlan {
  readonly interface: string;
  readonly address: string;
}

interface Target {
  readonly address: string;
  readonly port: number;
}

export type LoadCommand =
  /** Become a bound device of a relay. */
  | {
      readonly op: 'tunnel';
      readonly relay: Target;
      readonly root: string;
      readonly index: number;
    }
  /** Become a TURN client; answers the relayed port. */
  | { readonly op: 'turn'; readonly server: Target; readonly peer: Target }
  /** Makes what the TURN server granted last longer. */
  | { readonly op: 'renew-turn' }
  /** Make ready to offer packets whose IP length at the peer's side is `octets`. `count` bounds what is sealed ahead. */
  | {
      readonly op: 'prepare';
      readonly via: 'plain' | 'tunnel' | 'turn';
      readonly flow: Flow;
      readonly octets: number;
      readonly count: number;
    }
  /** Offers at most `packetsPerSecond` for `forMs`; answers `Offered` afterwards. */
  | { readonly op: 'offer'; readonly packetsPerSecond: number; readonly forMs: number }
  /** Offers stamped packets of two plain flows at a time, so many a second of each; answers when it is over. */
  | {
      readonly op: 'mix';
      readonly flows: readonly { readonly flow: Flow; readonly packetsPerSecond: number }[];
      readonly octets: number;
      readonly forMs: number;
    }
  /** Moves devices between two addresses as fast as the relay lets them; answers how many moves that were. */
  | {
      readonly op: 'move';
      readonly relay: Target;
      readonly roots: readonly string[];
      readonly firstIndex: number;
      readonly forMs: number;
    }
  /** Answers `Arrived`. */
  | { readonly op: 'arrived' };

export interface Offered {
  /** Packets that this kernel took. */
  readonly packets: number;
  readonly tookMs: number;
}

export interface Arrived {
  readonly packets: number;
  readonly octets: number;
  readonly atMs: number;
}

const BATCH = 64;
const MAX_OCTETS = 2_048;
const AF_INET = 2;
const SOCK_RAW_NONBLOCK_CLOEXEC = 0x80803;
const SOL_SOCKET = 1;
const SO_SNDBUFFORCE = 32;
const SEND_BUFFER_OCTETS = 4 << 20;

const plan = JSON.parse(process.argv[2] ?? '') as LoadPlan;

/** Puts one more packet into the send queue; false when there is none left. */
type Source = { readonly next: () => boolean; readonly flush: () => number };

let tunnel: { readonly socket: UdpSocket; readonly relay: Target; readonly sender: DataSender } | undefined;
let turn: { readonly socket: UdpSocket; readonly server: Target; readonly peer: Target } | undefined;
let source: Source | undefined;
const plainSockets = new Map<number, UdpSocket>();
let rawSender: UdpSender | undefined;

function openSocket(port = 0): UdpSocket {
  return openUdp({
    family: 4,
    address: plan.address,
    port,
    batch: BATCH,
    maxDatagramBytes: MAX_OCTETS,
    inRuns: true,
  });
}

function portTo(socket: UdpSocket, target: Target): DevicePort {
  const to = socketAddress(target.address, target.port);
  return {
    send(datagram) {
      socket.queue(to, datagram, 0, datagram.length);
      socket.flush();
    },
    received() {
      const found: Uint8Array[] = [];
      for (let count = socket.receive(); count > 0; count = socket.receive()) {
        for (let i = 0; i < count; i += 1) {
          found.push(socket.buffer.slice(socket.at(i), socket.at(i) + socket.length(i)));
        }
      }
      return found;
    },
  };
}

/** What sends a plain flow, and where in the packet that begins which it is given. */
function plainLane(flow: Flow) {
  if (flow.traffic === 'esp') {
    rawSender ??= openRaw(PROTOCOL.esp);
    // A raw socket has no ports.
    return { sender: rawSender, to: socketAddress(flow.destination, 0), at: IPV4_HEADER };
  }
  const socket = plainSockets.get(flow.sourcePort) ?? openSocket(flow.sourcePort);
  plainSockets.set(flow.sourcePort, socket);
  const to = socketAddress(flow.destination, flow.destinationPort);
  return { sender: socket, to, at: IPV4_HEADER + UDP_HEADER };
}

function plainSource(flow: Flow, octets: number): Source {
  const { sender, to, at } = plainLane(flow);
  const packet = innerPacket(flow, octets);
  return { next: () => sender.queue(to, packet, at, octets - at), flush: () => sender.flush() };
}

function openRaw(protocol: number): UdpSender {
  const object = `raw socket of protocol ${protocol}`;
  const fd = check('socket', object, libc.socket(AF_INET, SOCK_RAW_NONBLOCK_CLOEXEC, protocol));
  setSocketOption(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER_OCTETS, object);
  return createUdpSender(fd, 4, createAddressBook(), BATCH, MAX_OCTETS);
}

/** Seals ahead: the relay is measured, not the device's SipHash on the neighbouring core. */
function tunnelSource(flow: Flow, octets: number, count: number): Source {
  const { socket, relay, sender } = tunnel ?? missing('tunnel');
  const to = socketAddress(relay.address, relay.port);
  const packet = innerPacket(flow, octets);
  const stride = DATA.inner + octets;
  const arena = new Uint8Array(count * stride);
  for (let i = 0; i < count; i += 1) {
    arena.set(packet, i * stride + DATA.inner);
    sender.seal(arena, i * stride + DATA.inner, octets);
  }
  let used = 0;
  return {
    next() {
      if (used === count) return false;
      socket.queue(to, arena, used * stride, stride);
      used += 1;
      return true;
    },
    flush: socket.flush,
  };
}

function turnSource(octets: number): Source {
  const { socket, server } = turn ?? missing('turn');
  const to = socketAddress(server.address, server.port);
  const length = octets - IPV4_HEADER - UDP_HEADER;
  const message = Buffer.alloc(CHANNEL_HEADER + length, 0x5a);
  message.writeUInt16BE(CHANNEL, 0);
  message.writeUInt16BE(length, 2);
  return { next: () => socket.queue(to, message, 0, message.length), flush: socket.flush };
}

function missing(op: string): never {
  throw new Error(`command ${op} must come first`);
}

/** Blocks: nothing else may take time between two batches. A source that falls behind does not make up for it. */
function offer(packetsPerSecond: number, forMs: number): Offered {
  const { next, flush } = source ?? missing('prepare');
  const pause = new Int32Array(new SharedArrayBuffer(4));
  const startMs = monotonicMs();
  let due = 0;
  let packets = 0;
  let nowMs = startMs;
  for (; nowMs - startMs < forMs; nowMs = monotonicMs()) {
    const target = ((nowMs - startMs) * packetsPerSecond) / 1_000;
    if (target - due < 1) {
      Atomics.wait(pause, 0, 0, 0.1);
      continue;
    }
    const burst = Math.min(BATCH, Math.floor(target - due));
    due = Math.max(due + burst, target - packetsPerSecond / 100);
    let left = true;
    for (let i = 0; i < burst && left; i += 1) left = next();
    packets += flush();
    if (!left) break;
  }
  return { packets, tookMs: monotonicMs() - startMs };
}

function mix({ flows, octets, forMs }: Extract<LoadCommand, { op: 'mix' }>): null {
  const lanes = flows.map(({ flow, packetsPerSecond }): StampedLane => {
    const { sender, to, at } = plainLane(flow);
    const packet = innerPacket(flow, octets);
    return {
      packet,
      packetsPerSecond,
      queue: () => sender.queue(to, packet, at, octets - at),
      flush: () => sender.flush(),
    };
  });
  offerStamped(lanes, forMs);
  return null;
}

let movers: Movers | undefined;

function move({ relay, roots, firstIndex, forMs }: Extract<LoadCommand, { op: 'move' }>) {
  movers ??= createMovers(
    roots.map((root, i) => ({ index: firstIndex + i, root: new Uint8Array(Buffer.from(root, 'hex')) })),
    [openSocket(), openSocket()],
    socketAddress(relay.address, relay.port),
  );
  return movers.run(forMs);
}

function arrived(): Arrived {
  const line = readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .find((text) => text.trim().startsWith(`${plan.interface}:`));
  const [octets, packets] = (line ?? '').split(':')[1]!.trim().split(/\s+/);
  return { packets: Number(packets), octets: Number(octets), atMs: monotonicMs() };
}

serve<LoadCommand>(async (command) => {
  switch (command.op) {
    case 'tunnel': {
      const { relay, index } = command;
      const socket = openSocket();
      const root = new Uint8Array(Buffer.from(command.root, 'hex'));
      tunnel = { socket, relay, sender: await bindDevice(portTo(socket, relay), { root, index }) };
      return null;
    }
    case 'turn': {
      const { server, peer } = command;
      const socket = openSocket();
      turn = { socket, server, peer };
      return allocate(portTo(socket, server), peer);
    }
    case 'renew-turn': {
      const { socket, server, peer } = turn ?? missing('turn');
      return bindChannel(portTo(socket, server), peer);
    }
    case 'prepare': {
      const { via, flow, octets, count } = command;
      source =
        via === 'plain'
          ? plainSource(flow, octets)
          : via === 'tunnel'
            ? tunnelSource(flow, octets, count)
            : turnSource(octets);
      return null;
    }
    case 'offer':
      return offer(command.packetsPerSecond, command.forMs);
    case 'mix':
      return mix(command);
    case 'move':
      return move(command);
    case 'arrived':
      return arrived();
    default:
      return command satisfies never;
  }
});
