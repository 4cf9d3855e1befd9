import { type Lane, sealData } from '../../../src/tunnel/data.ts';
import { type SipKey, sipKey } from '../../../src/tunnel/siphash.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { internetChecksum, ip, udp } from '../../unit/datapath/packets.ts';
import { BED, DEVICE_PORT, type Family, frameOf, INDEX, TUNNEL_PORT } from './xdp-bed.ts';

/** Datagrams as a device sends them, and what a frame to a device says. */

export const UPLINK_KEY = Uint8Array.from({ length: 16 }, (_, i) => i);
export const DOWNLINK_KEY = Uint8Array.from({ length: 16 }, (_, i) => 0xf0 - i);

/** A family in a family. */
export const COMBINATIONS = [
  [4, 4],
  [4, 6],
  [6, 4],
  [6, 6],
] as const;

export interface UplinkOptions {
  readonly outer?: Family;
  readonly sequence?: number;
  readonly keyNumber?: number;
  readonly lane?: Lane;
  readonly key?: SipKey;
  readonly index?: number;
  readonly from?: string;
  readonly port?: number;
}

/** A sealed DATA or DATA-FULL datagram around an inner packet. */
export function sealed(packet: Uint8Array, options: UplinkOptions = {}): Uint8Array {
  const { sequence = 1, keyNumber = 1, lane = 0, index = INDEX, key = sipKey(UPLINK_KEY) } = options;
  const buffer = new Uint8Array(DATA.inner + packet.length);
  buffer.set(packet, DATA.inner);
  sealData(key, { index, keyNumber, lane, sequence }, buffer, 0, packet.length);
  return buffer;
}

/** A frame from a device that carries any octets to the tunnel's port. */
export function toTunnel(datagram: Uint8Array, options: UplinkOptions = {}): Uint8Array {
  const { outer = 4, port = DEVICE_PORT, from = BED[outer].device } = options;
  return frameOf('access', ip(from, BED[outer].endpoint, 17, udp(port, TUNNEL_PORT, datagram)));
}

/** The frame of `sealed`. */
export function fromDevice(packet: Uint8Array, options: UplinkOptions = {}): Uint8Array {
  return toTunnel(sealed(packet, options), options);
}

export interface Outer {
  readonly source: string;
  readonly destination: string;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly checksum: number;
  /** What the checksum should be; of IPv4 0. */
  readonly expectedChecksum: number;
  readonly trafficClass: number;
  readonly datagram: Uint8Array;
}

/** Takes apart a frame to a device; throws when lengths or the IPv4 header checksum are wrong. */
export function outerOf(frame: Uint8Array, outer: Family): Outer {
  const header = outer === 4 ? 20 : 40;
  const packet = frame.subarray(14);
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const length = outer === 4 ? view.getUint16(2) : 40 + view.getUint16(4);
  if (length !== packet.length)
    throw new Error(`the outer header says ${length}, there are ${packet.length}`);
  if (outer === 4 && internetChecksum(packet.subarray(0, 20)) !== 0) throw new Error('bad IPv4 checksum');
  const udpLength = view.getUint16(header + 4);
  if (udpLength !== packet.length - header) throw new Error(`UDP says ${udpLength}`);
  const addresses = outer === 4 ? packet.subarray(12, 20) : packet.subarray(8, 40);
  const half = addresses.length / 2;
  return {
    source: addressText(addresses.subarray(0, half)),
    destination: addressText(addresses.subarray(half)),
    sourcePort: view.getUint16(header),
    destinationPort: view.getUint16(header + 2),
    checksum: view.getUint16(header + 6),
    expectedChecksum: outer === 4 ? 0 : udpChecksum(packet),
    trafficClass: outer === 4 ? packet[1]! : (view.getUint16(0) >> 4) & 0xff,
    datagram: packet.slice(header + 8),
  };
}

function udpChecksum(packet: Uint8Array): number {
  const udpPart = packet.slice(40);
  udpPart.set([0, 0], 6);
  const pseudo = new Uint8Array(40 + udpPart.length);
  pseudo.set(packet.subarray(8, 40));
  new DataView(pseudo.buffer).setUint32(32, udpPart.length);
  pseudo[39] = 17;
  pseudo.set(udpPart, 40);
  return internetChecksum(pseudo) || 0xffff;
}

function addressText(octets: Uint8Array): string {
  if (octets.length === 4) return octets.join('.');
  const words = Array.from({ length: 8 }, (_, i) =>
    ((octets[i * 2]! << 8) | octets[i * 2 + 1]!).toString(16),
  );
  return words
    .join(':')
    .replace(/\b0(:0)+\b/, ':')
    .replace(/:{3,}/, '::');
}

/** The packet with another TTL, and of IPv4 the checksum that goes with it. */
export function withTtl(packet: Uint8Array, ttl: number): Uint8Array {
  const copy = packet.slice();
  if (copy[0]! >> 4 === 6) {
    copy[7] = ttl;
    return copy;
  }
  copy[8] = ttl;
  copy.set([0, 0], 10);
  const checksum = internetChecksum(copy.subarray(0, 20));
  copy.set([checksum >> 8, checksum & 0xff], 10);
  return copy;
}
