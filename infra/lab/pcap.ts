/** Reads capture files (the classic format of libpcap) and the header fields that the lab judges by. Pure. */

export interface Frame {
  /** Wall clock, milliseconds. */
  readonly timeMs: number;
  /** Length on the wire; the capture may hold less. */
  readonly wireOctets: number;
  /** The Ethernet frame. */
  readonly octets: Buffer;
}

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const MAGIC_MICROSECONDS = 0xa1b2_c3d4;
const MAGIC_NANOSECONDS = 0xa1b2_3c4d;
const ETHERNET = 1;

/**
 * Frames in the order of capture. A last record that is still being written is left out.
 * @throws Error if it is not a capture of Ethernet frames
 */
export function* readFrames(capture: Buffer): Generator<Frame> {
  if (capture.length < FILE_HEADER) return;
  const little = [MAGIC_MICROSECONDS, MAGIC_NANOSECONDS].includes(capture.readUInt32LE(0));
  const u32 = (at: number) => (little ? capture.readUInt32LE(at) : capture.readUInt32BE(at));
  const magic = u32(0);
  if (magic !== MAGIC_MICROSECONDS && magic !== MAGIC_NANOSECONDS) {
    throw new Error(`not a capture file: magic is 0x${magic.toString(16)}`);
  }
  if (u32(20) !== ETHERNET) throw new Error(`capture has link type ${u32(20)}; only Ethernet (1) is read`);
  const perMs = magic === MAGIC_NANOSECONDS ? 1e6 : 1e3;
  let at = FILE_HEADER;
  while (at + RECORD_HEADER <= capture.length) {
    const held = u32(at + 8);
    const start = at + RECORD_HEADER;
    if (start + held > capture.length) return;
    yield {
      timeMs: u32(at) * 1_000 + u32(at + 4) / perMs,
      wireOctets: u32(at + 12),
      octets: capture.subarray(start, start + held),
    };
    at = start + held;
  }
}

const ETHERNET_HEADER = 14;
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const UDP = 17;
const ESP = 50;
const AH = 51;

export interface IpPacket {
  readonly version: 4 | 6;
  readonly source: string;
  readonly destination: string;
  /** Of the last header: IPv6 extension headers are not walked. */
  readonly protocol: number;
  readonly ttl: number;
  /** The whole IP packet without Ethernet padding, as far as captured. */
  readonly octets: Buffer;
  readonly headerOctets: number;
  readonly udp?: { readonly sourcePort: number; readonly destinationPort: number; readonly payload: Buffer };
  /** Of ESP or AH. */
  readonly spi?: number;
  readonly ipsecSequence?: number;
}

function ipv6Text(octets: Buffer): string {
  const groups: string[] = [];
  for (let at = 0; at < 16; at += 2) groups.push(octets.readUInt16BE(at).toString(16));
  return groups.join(':');
}

function addressesOf(octets: Buffer, version: 4 | 6) {
  return version === 4
    ? { source: octets.subarray(12, 16).join('.'), destination: octets.subarray(16, 20).join('.') }
    : { source: ipv6Text(octets.subarray(8, 24)), destination: ipv6Text(octets.subarray(24, 40)) };
}

/** Reads an IP packet as it lies in a frame or in a tunnel; undefined if it is none. */
export function readIpPacket(packet: Buffer): IpPacket | undefined {
  const version = (packet[0] ?? 0) >> 4;
  if (version !== 4 && version !== 6) return undefined;
  const headerOctets = version === 4 ? (packet[0]! & 0x0f) * 4 : 40;
  if (packet.length < headerOctets || headerOctets < 20) return undefined;
  const length = version === 4 ? packet.readUInt16BE(2) : 40 + packet.readUInt16BE(4);
  const octets = packet.subarray(0, length);
  const protocol = version === 4 ? octets[9]! : octets[6]!;
  const behind = octets.subarray(headerOctets);
  const fragmentOffset = version === 4 ? octets.readUInt16BE(6) & 0x1fff : 0;
  const base = {
    version,
    ...addressesOf(octets, version),
    protocol,
    ttl: version === 4 ? octets[8]! : octets[7]!,
    octets,
    headerOctets,
  } as const;
  if (fragmentOffset !== 0) return base;
  if (protocol === UDP && behind.length >= 8) {
    const udp = {
      sourcePort: behind.readUInt16BE(0),
      destinationPort: behind.readUInt16BE(2),
      payload: behind.subarray(8),
    };
    return { ...base, udp };
  }
  if (protocol === ESP && behind.length >= 8) {
    return { ...base, spi: behind.readUInt32BE(0), ipsecSequence: behind.readUInt32BE(4) };
  }
  if (protocol === AH && behind.length >= 12) {
    return { ...base, spi: behind.readUInt32BE(4), ipsecSequence: behind.readUInt32BE(8) };
  }
  return base;
}

/** The IP packet in an Ethernet frame; undefined for anything else. */
export function ipPacketOf(frame: Frame): IpPacket | undefined {
  if (frame.octets.length < ETHERNET_HEADER) return undefined;
  const type = frame.octets.readUInt16BE(12);
  if (type !== IPV4 && type !== IPV6) return undefined;
  return readIpPacket(frame.octets.subarray(ETHERNET_HEADER));
}
