import { TAGGED_BEHIND_HEADER } from './wire.ts';

/** What `classify` answers for a packet that only DATA-FULL may carry. */
export const FULL = 0;

const ESP = 50;
const AH = 51;
const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const MORE_FRAGMENTS_OR_OFFSET = 0x3fff;

/**
 * The class of an inner packet: how many of its first octets the tag of a DATA datagram covers (36 for IPv4,
 * 56 for IPv6), or `FULL` when every octet must be covered. Sender and receiver both apply it, so no datagram
 * can choose the weaker tag for itself.
 *
 * DATA is for packets that an IPsec association protects behind those octets: ESP or AH directly behind an
 * IPv4 header without options or fragmentation or an IPv6 header, of exactly the length they claim. Total:
 * any octets of any length have a class.
 */
export function classify(buffer: Uint8Array, at: number, length: number): number {
  if (length < IPV4_HEADER + TAGGED_BEHIND_HEADER) return FULL;
  const first = buffer[at]!;
  if (first === 0x45) {
    if (((buffer[at + 2]! << 8) | buffer[at + 3]!) !== length) return FULL;
    if ((((buffer[at + 6]! << 8) | buffer[at + 7]!) & MORE_FRAGMENTS_OR_OFFSET) !== 0) return FULL;
    const protocol = buffer[at + 9]!;
    return protocol === ESP || protocol === AH ? IPV4_HEADER + TAGGED_BEHIND_HEADER : FULL;
  }
  if (first >> 4 === 6) {
    if (length < IPV6_HEADER + TAGGED_BEHIND_HEADER) return FULL;
    if (((buffer[at + 4]! << 8) | buffer[at + 5]!) !== length - IPV6_HEADER) return FULL;
    const nextHeader = buffer[at + 6]!;
    return nextHeader === ESP || nextHeader === AH ? IPV6_HEADER + TAGGED_BEHIND_HEADER : FULL;
  }
  return FULL;
}

/** True for an IPv4 or IPv6 packet that fills exactly `length` octets by its own account. */
export function isWholePacket(buffer: Uint8Array, at: number, length: number): boolean {
  if (length < IPV4_HEADER) return false;
  const first = buffer[at]!;
  if (first >> 4 === 4) {
    const headerLength = (first & 0x0f) * 4;
    const total = (buffer[at + 2]! << 8) | buffer[at + 3]!;
    return headerLength >= IPV4_HEADER && headerLength <= length && total === length;
  }
  if (first >> 4 === 6) {
    return length >= IPV6_HEADER && ((buffer[at + 4]! << 8) | buffer[at + 5]!) === length - IPV6_HEADER;
  }
  return false;
}
