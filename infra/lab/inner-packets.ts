/**
 * Compares packets inside the tunnel with packets on the public side, octet by octet: a relay may change the TTL (hop
 * limit), and with it the IPv4 header checksum, and nothing else.
 */
import { DATA, TUNNEL_PORT, TYPE } from '../../src/tunnel/wire.ts';
import { type Frame, type IpPacket, ipPacketOf, readIpPacket } from './pcap.ts';

/** IP packets that DATA and DATA-FULL datagrams in these frames carry. */
export function* tunnelledPackets(frames: Iterable<Frame>, tunnelPort = TUNNEL_PORT): Generator<IpPacket> {
  for (const frame of frames) {
    const { udp } = ipPacketOf(frame) ?? {};
    if (!udp || (udp.sourcePort !== tunnelPort && udp.destinationPort !== tunnelPort)) continue;
    const type = (udp.payload[DATA.first] ?? 0) >> 4;
    if (type !== TYPE.data && type !== TYPE.dataFull) continue;
    const inner = readIpPacket(udp.payload.subarray(DATA.inner));
    if (inner) yield inner;
  }
}

/** The packet with TTL and IPv4 header checksum blanked, in hexadecimal: equal for a packet before and after a router. */
export function unroutedImage(packet: IpPacket): string {
  const image = Buffer.from(packet.octets);
  if (packet.version === 4) {
    image[8] = 0;
    image.writeUInt16BE(0, 10);
  } else {
    image[7] = 0;
  }
  return image.toString('hex');
}

export interface Comparison {
  /** Public packets found in the tunnel with the same octets. */
  readonly same: number;
  /** Public packets without an equal in the tunnel. */
  readonly different: number;
  /** By how much the TTL fell on the way through the relay, each value seen. */
  readonly ttlSteps: readonly number[];
}

/** Looks for each packet of the public side among those of the tunnel side. */
export function compareInnerPackets(tunnel: Iterable<IpPacket>, publicSide: Iterable<IpPacket>): Comparison {
  const images = new Map<string, number>();
  for (const packet of tunnel) images.set(unroutedImage(packet), packet.ttl);
  let same = 0;
  let different = 0;
  const steps = new Set<number>();
  for (const packet of publicSide) {
    const ttl = images.get(unroutedImage(packet));
    if (ttl === undefined) {
      different += 1;
    } else {
      same += 1;
      steps.add(Math.abs(ttl - packet.ttl));
    }
  }
  return { same, different, ttlSteps: [...steps].sort((a, b) => a - b) };
}
