/** What goes beside a datagram through sendmsg and recvmsg: `struct cmsghdr` after `struct cmsghdr`. */
import { parseAddress } from '../protocol/address.ts';
import { allocate } from './libc.ts';
import { CMSG_HEADER_BYTES } from './message-batch.ts';

export const IPPROTO_IP = 0;
export const IP_TOS = 1;
export const IP_PKTINFO = 8;
export const IPPROTO_IPV6 = 41;
export const IPV6_PKTINFO = 50;
export const IPV6_TCLASS = 67;
export const SOL_UDP = 17;
/** On sending: cut the payload into datagrams of this many octets, the last one shorter or equal. */
export const UDP_SEGMENT = 103;
/** On receiving: the payload is that of several datagrams of this many octets, the last one shorter or equal. */
export const UDP_GRO = 104;

/** Octets of the control message that `writeSegmentSize` writes. */
export const SEGMENT_CONTROL_BYTES = CMSG_HEADER_BYTES + 8;

/**
 * The control messages that choose a source address and a traffic class (0: the socket's own). Null when `source` is not of
 * the family.
 */
export function sendControl(
  family: 4 | 6,
  source: string | undefined,
  trafficClass: number,
): Uint8Array | null {
  const parts: Uint8Array[] = [];
  if (source !== undefined) {
    const octets = parseAddress(source, 'from');
    if (octets.length !== (family === 4 ? 4 : 16)) return null;
    // in_pktinfo: ifindex, spec_dst, addr; in6_pktinfo: addr, ifindex. The index stays 0: routing decides.
    const data = new Uint8Array(family === 4 ? 12 : 20);
    data.set(octets, family === 4 ? 4 : 0);
    parts.push(
      family === 4 ? message(IPPROTO_IP, IP_PKTINFO, data) : message(IPPROTO_IPV6, IPV6_PKTINFO, data),
    );
  }
  if (trafficClass !== 0) {
    const data = Uint8Array.of(trafficClass, 0, 0, 0);
    parts.push(family === 4 ? message(IPPROTO_IP, IP_TOS, data) : message(IPPROTO_IPV6, IPV6_TCLASS, data));
  }
  const all = allocate(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

function message(level: number, type: number, data: Uint8Array): Uint8Array {
  const memory = allocate((CMSG_HEADER_BYTES + data.length + 7) & ~7);
  const view = new DataView(memory.buffer);
  view.setUint32(0, CMSG_HEADER_BYTES + data.length, true);
  view.setInt32(8, level, true);
  view.setInt32(12, type, true);
  memory.set(data, CMSG_HEADER_BYTES);
  return memory;
}

/** Writes the control message UDP_SEGMENT at `at`. */
export function writeSegmentSize(controls: DataView, at: number, octets: number): void {
  controls.setUint32(at, CMSG_HEADER_BYTES + 2, true);
  controls.setUint32(at + 4, 0, true);
  controls.setInt32(at + 8, SOL_UDP, true);
  controls.setInt32(at + 12, UDP_SEGMENT, true);
  controls.setUint16(at + CMSG_HEADER_BYTES, octets, true);
}
