/** What the decision needs of one IPv4 or IPv6 packet. One object is reused for every packet: nothing is allocated. */
export interface PacketHeaders {
  version: 4 | 6;
  /** Offset of the packet in its buffer, and its octets. */
  at: number;
  length: number;
  /** Offsets of the addresses; `addressLength` octets each. */
  sourceAt: number;
  destinationAt: number;
  addressLength: 4 | 16;
  /** The first protocol behind the IP header and the extension headers that may be skipped. */
  protocol: number;
  /** Where that protocol's header starts, and how many octets of it are here. */
  payloadAt: number;
  payloadLength: number;
  fragment: Fragment;
  /** Where the IPv6 fragment header is, when there is one. */
  fragmentAt: number;
}

/** `first` and `later` are parts of a fragmented packet; only `first` carries ports, SPIs and ids. */
export type Fragment = 'whole' | 'first' | 'later';

export const PROTOCOL = { icmp: 1, tcp: 6, udp: 17, esp: 50, ah: 51, icmp6: 58 } as const;

/** IPv6 extension headers that may stand before the protocol (RFC 8200 §4); AH is demultiplexed, not skipped. */
const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const DESTINATION_OPTIONS = 60;
/** More than this many extension headers in one packet are nobody's honest traffic. */
const EXTENSION_HEADERS = 8;

/** Octets behind a quoted IP header that an ICMP error carries for certain (RFC 792). */
export const QUOTED_OCTETS = 8;

export function packetHeaders(): PacketHeaders {
  return {
    version: 4,
    at: 0,
    length: 0,
    sourceAt: 0,
    destinationAt: 0,
    addressLength: 4,
    protocol: 0,
    payloadAt: 0,
    payloadLength: 0,
    fragment: 'whole',
    fragmentAt: 0,
  };
}

/**
 * Reads the headers of the packet that fills `length` octets of `buffer` from `at`. False when it is not
 * exactly one well-formed IPv4 (RFC 791) or IPv6 (RFC 8200) packet; `into` then means nothing. Never throws,
 * never reads outside the range.
 */
export function readPacket(buffer: Uint8Array, at: number, length: number, into: PacketHeaders): boolean {
  if (!readHeaders(buffer, at, length, into)) return false;
  return into.length === length;
}

/**
 * Reads the packet quoted by an ICMP error: as much as is there, with at least {@link QUOTED_OCTETS} behind its
 * headers. False when that much cannot be had.
 */
export function readQuoted(buffer: Uint8Array, at: number, available: number, into: PacketHeaders): boolean {
  if (!readHeaders(buffer, at, available, into)) return false;
  return into.payloadLength >= QUOTED_OCTETS;
}

/** `available` may be less than the packet's own length (a quote), never more than the range. */
function readHeaders(buffer: Uint8Array, at: number, available: number, into: PacketHeaders): boolean {
  if (at < 0 || available < 20 || at + available > buffer.length) return false;
  into.at = at;
  const version = buffer[at]! >> 4;
  if (version === 4) return readIpv4(buffer, at, available, into);
  return version === 6 && readIpv6(buffer, at, available, into);
}

function readIpv4(buffer: Uint8Array, at: number, available: number, into: PacketHeaders): boolean {
  const headerLength = (buffer[at]! & 0x0f) * 4;
  const length = u16(buffer, at + 2);
  if (headerLength < 20 || headerLength > available || length < headerLength) return false;
  const flagsAndOffset = u16(buffer, at + 6);
  const offset = flagsAndOffset & 0x1fff;
  into.version = 4;
  into.length = length;
  into.sourceAt = at + 12;
  into.destinationAt = at + 16;
  into.addressLength = 4;
  into.protocol = buffer[at + 9]!;
  into.payloadAt = at + headerLength;
  into.payloadLength = Math.min(length, available) - headerLength;
  into.fragment = offset !== 0 ? 'later' : (flagsAndOffset & 0x2000) !== 0 ? 'first' : 'whole';
  return true;
}

function readIpv6(buffer: Uint8Array, at: number, available: number, into: PacketHeaders): boolean {
  if (available < 40) return false;
  const length = 40 + u16(buffer, at + 4);
  const end = at + Math.min(length, available);
  let next = buffer[at + 6]!;
  let cursor = at + 40;
  let fragmented = false;
  into.fragment = 'whole';
  for (
    let skipped = 0;
    next === HOP_BY_HOP || next === ROUTING || next === FRAGMENT || next === DESTINATION_OPTIONS;
    skipped += 1
  ) {
    if (skipped === EXTENSION_HEADERS || cursor + 8 > end) return false;
    if (next === FRAGMENT) {
      // A fragment of a fragment is nobody's honest traffic either.
      if (fragmented) return false;
      fragmented = true;
      into.fragmentAt = cursor;
      const offsetAndMore = u16(buffer, cursor + 2);
      into.fragment = offsetAndMore >> 3 !== 0 ? 'later' : (offsetAndMore & 1) !== 0 ? 'first' : 'whole';
      next = buffer[cursor]!;
      cursor += 8;
      // What follows is a piece of something that only the whole packet says.
      if (into.fragment === 'later') break;
    } else {
      const octets = (buffer[cursor + 1]! + 1) * 8;
      if (cursor + octets > end) return false;
      next = buffer[cursor]!;
      cursor += octets;
    }
  }
  into.version = 6;
  into.length = length;
  into.sourceAt = at + 8;
  into.destinationAt = at + 24;
  into.addressLength = 16;
  into.protocol = next;
  into.payloadAt = cursor;
  into.payloadLength = end - cursor;
  return true;
}

export function hasPorts({ protocol }: PacketHeaders): boolean {
  return protocol === PROTOCOL.tcp || protocol === PROTOCOL.udp;
}

/** The source port of TCP or UDP; the caller has made sure of 4 octets of payload. */
export function sourcePort(buffer: Uint8Array, packet: PacketHeaders): number {
  return u16(buffer, packet.payloadAt);
}

export function destinationPort(buffer: Uint8Array, packet: PacketHeaders): number {
  return u16(buffer, packet.payloadAt + 2);
}

/** The SPI of ESP (RFC 4303 §2) or AH (RFC 4302 §2); the caller has made sure of 8 octets of payload. */
export function spi(buffer: Uint8Array, packet: PacketHeaders): number {
  return u32(buffer, packet.payloadAt + (packet.protocol === PROTOCOL.ah ? 4 : 0));
}

/** True when the `size` octets at `a` in `left` and at `b` in `right` are equal. */
export function sameOctets(left: Uint8Array, a: number, right: Uint8Array, b: number, size: number): boolean {
  for (let i = 0; i < size; i += 1) if (left[a + i] !== right[b + i]) return false;
  return true;
}

export function u16(buffer: Uint8Array, at: number): number {
  return (buffer[at]! << 8) | buffer[at + 1]!;
}

export function u32(buffer: Uint8Array, at: number): number {
  return ((buffer[at]! << 24) | (buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!) >>> 0;
}
