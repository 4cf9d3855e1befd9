import { formatAddress, parseAddress } from '../../src/protocol/address.ts';
import { internetChecksum } from '../unit/datapath/packets.ts';

/**
 * What the kernel of a relay does around its userspace engine, as far as a packet can tell: it trims, counts the hops
 * down, routes leased addresses into the TUN device and the tunnel's port to the socket. It is the same for everybody
 * who is compared.
 */

export interface OuterDatagram {
  readonly source: Uint8Array;
  readonly sourcePort: number;
  readonly destination: Uint8Array;
  readonly destinationPort: number;
  /** DSCP and ECN of the outer header. */
  readonly trafficClass: number;
  readonly payload: Uint8Array;
}

/** The IP packet in an Ethernet frame without what padded it; null when the kernel would not look at it. */
export function packetOf(frame: Uint8Array): Uint8Array | null {
  if (frame.length < 14 + 20) return null;
  const etherType = (frame[12]! << 8) | frame[13]!;
  const packet = frame.subarray(14);
  const version = packet[0]! >> 4;
  if (etherType === 0x0800 && version === 4) {
    const headerLength = (packet[0]! & 0x0f) * 4;
    const total = (packet[2]! << 8) | packet[3]!;
    return headerLength >= 20 && total >= headerLength && total <= packet.length
      ? packet.slice(0, total)
      : null;
  }
  if (etherType === 0x86dd && version === 6 && packet.length >= 40) {
    const total = 40 + ((packet[4]! << 8) | packet[5]!);
    return total <= packet.length ? packet.slice(0, total) : null;
  }
  return null;
}

/** The UDP datagram in an unfragmented packet; null when there is none that the kernel would deliver. */
export function datagramOf(packet: Uint8Array): OuterDatagram | null {
  const v4 = packet[0]! >> 4 === 4;
  const headerLength = v4 ? (packet[0]! & 0x0f) * 4 : 40;
  const protocol = v4 ? packet[9]! : packet[6]!;
  if (protocol !== 17 || packet.length < headerLength + 8) return null;
  if (v4 && (((packet[6]! << 8) | packet[7]!) & 0x3fff) !== 0) return null;
  const udp = packet.subarray(headerLength);
  const octets = (udp[4]! << 8) | udp[5]!;
  if (octets < 8 || octets > udp.length) return null;
  const addresses = v4 ? packet.subarray(12, 20) : packet.subarray(8, 40);
  const size = addresses.length / 2;
  return {
    source: addresses.subarray(0, size),
    destination: addresses.subarray(size),
    sourcePort: (udp[0]! << 8) | udp[1]!,
    destinationPort: (udp[2]! << 8) | udp[3]!,
    trafficClass: v4 ? packet[1]! : ((packet[0]! << 4) | (packet[1]! >> 4)) & 0xff,
    payload: udp.slice(8, octets),
  };
}

/** One hop less, the checksum made right again; false when the packet ends here. */
export function hop(packet: Uint8Array): boolean {
  const v4 = packet[0]! >> 4 === 4;
  const at = v4 ? 8 : 7;
  if (packet[at]! <= 1) return false;
  packet[at]! -= 1;
  if (v4) addToWord(packet, 10, 0x0100);
  return true;
}

/** As the kernel does it: a checksum that was wrong stays as wrong as it was. */
function addToWord(packet: Uint8Array, at: number, amount: number): void {
  let sum = ((packet[at]! << 8) | packet[at + 1]!) + amount;
  if (sum >= 0xffff) sum += 1;
  packet[at] = (sum >>> 8) & 0xff;
  packet[at + 1] = sum & 0xff;
}

export function destinationOf(packet: Uint8Array): string {
  return textOf(packet[0]! >> 4 === 4 ? packet.subarray(16, 20) : packet.subarray(24, 40));
}

const texts = new Map<string, string>();
const parsed = new Map<string, Uint8Array>();

/** Canonical text of an address; stories have few. */
export function textOf(address: Uint8Array): string {
  const key = String.fromCharCode(...address);
  let text = texts.get(key);
  if (text === undefined) {
    text = formatAddress(address);
    if (texts.size < 10_000) texts.set(key, text);
  }
  return text;
}

function octetsOf(text: string): Uint8Array {
  let octets = parsed.get(text);
  if (octets === undefined) {
    octets = parseAddress(text);
    parsed.set(text, octets);
  }
  return octets;
}

const ROUTER = Uint8Array.of(2, 0, 0, 0, 0, 1);
const RELAY = Uint8Array.of(2, 0, 0, 0, 0, 2);

export function frameOf(packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(14 + packet.length);
  frame.set(RELAY, 0);
  frame.set(ROUTER, 6);
  const v6 = packet.length > 0 && packet[0]! >> 4 === 6;
  frame.set(v6 ? [0x86, 0xdd] : [0x08, 0x00], 12);
  frame.set(packet, 14);
  return frame;
}

/** A device's datagram as it arrives at the relay: without UDP checksum over IPv4, with it over IPv6. */
export function outerPacket(
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
  payload: Uint8Array,
  trafficClass = 0,
): Uint8Array {
  const from = octetsOf(source);
  const to = octetsOf(destination);
  const v4 = from.length === 4;
  const headerLength = v4 ? 20 : 40;
  const packet = new Uint8Array(headerLength + 8 + payload.length);
  const view = new DataView(packet.buffer);
  if (v4) {
    packet.set([0x45, trafficClass], 0);
    view.setUint16(2, packet.length);
    packet.set([0x40, 0, 64, 17], 6);
    packet.set(from, 12);
    packet.set(to, 16);
    view.setUint16(10, internetChecksum(packet.subarray(0, 20)));
  } else {
    view.setUint16(0, 0x6000 | (trafficClass << 4));
    view.setUint16(4, 8 + payload.length);
    packet.set([17, 64], 6);
    packet.set(from, 8);
    packet.set(to, 24);
  }
  view.setUint16(headerLength, sourcePort);
  view.setUint16(headerLength + 2, destinationPort);
  view.setUint16(headerLength + 4, 8 + payload.length);
  packet.set(payload, headerLength + 8);
  if (!v4) view.setUint16(46, udpChecksum6(packet));
  return packet;
}

/** The UDP checksum that an IPv6 packet with UDP directly behind its header should carry. */
export function udpChecksum6(packet: Uint8Array): number {
  const covered = new Uint8Array(32 + 8 + packet.length - 40);
  covered.set(packet.subarray(8, 40));
  const view = new DataView(covered.buffer);
  view.setUint32(32, packet.length - 40);
  covered[39] = 17;
  covered.set(packet.subarray(40), 40);
  view.setUint16(46, 0);
  return internetChecksum(covered) || 0xffff;
}
