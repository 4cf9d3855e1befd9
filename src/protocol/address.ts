import ipaddr from 'ipaddr.js';
import { badInput } from './errors.ts';

/** A transport address. `address` is canonical text (RFC 5952; a v4-mapped IPv6 address is written as IPv4). */
export interface SocketAddress {
  readonly address: string;
  /** 0–65535 */
  readonly port: number;
  /** `address|port`: equal keys mean equal transport addresses. */
  readonly key: string;
}

/** An address prefix, `bits` leading bits of `bytes` (4 or 16 octets, host bits zero). */
export interface Prefix {
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** Canonical text of an address; throws ERR_MOORING_BAD_INPUT naming `field`. */
export function canonicalAddress(text: string, field = 'address'): string {
  return formatAddress(parseAddress(text, field));
}

/** The 4 or 16 octets of a textual address; v4-mapped IPv6 becomes 4 octets. */
export function parseAddress(text: string, field = 'address'): Uint8Array {
  // Asked about the other family, the parser throws inside: a hundred times the cost of parsing.
  const isValid = text.includes(':') ? ipaddr.IPv6.isValid(text) : ipaddr.IPv4.isValidFourPartDecimal(text);
  if (!isValid) {
    throw badInput(
      field,
      text,
      'write an IPv4 address as four decimal numbers or an IPv6 address without zone',
    );
  }
  return Uint8Array.from(ipaddr.process(text).toByteArray());
}

/** Canonical text of 4 or 16 octets. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return `${bytes[0]}.${bytes[1]}.${bytes[2]}.${bytes[3]}`;
  const v6 = new ipaddr.IPv6(Array.from(bytes));
  return v6.isIPv4MappedAddress() ? v6.toIPv4Address().toString() : v6.toString();
}

/** A transport address from any spelling of its address. */
export function socketAddress(address: string, port: number, field = 'address'): SocketAddress {
  if (!Number.isInteger(port) || port < 0 || port > 65535) {
    throw badInput(`${field}.port`, port, 'use an integer from 0 to 65535');
  }
  const canonical = canonicalAddress(address, field);
  return { address: canonical, port, key: `${canonical}|${port}` };
}

/** Parses `address/bits`; a bare address is a host prefix. Host bits must be zero. */
export function parsePrefix(text: string, field = 'prefix'): Prefix {
  const [address = '', length, ...more] = text.split('/');
  const bytes = parseAddress(address, field);
  const width = bytes.length * 8;
  const bits = length === undefined ? width : Number(length);
  if (!/^\d{1,3}$/.test(length ?? '0') || bits > width || more.length > 0) {
    throw badInput(field, text, `use a prefix length from 0 to ${width}`);
  }
  for (let bit = bits; bit < width; bit += 1) {
    if (((bytes[bit >> 3] ?? 0) >> (7 - (bit & 7))) & 1) {
      throw badInput(field, text, 'clear the bits behind the prefix length');
    }
  }
  return { bytes, bits };
}

/** True when `address` (octets) lies inside `prefix`. */
export function contains(prefix: Prefix, address: Uint8Array): boolean {
  if (address.length !== prefix.bytes.length) return false;
  for (let bit = 0; bit < prefix.bits; bit += 8) {
    const left = prefix.bits - bit;
    const mask = left >= 8 ? 0xff : (0xff << (8 - left)) & 0xff;
    const at = bit >> 3;
    if (((prefix.bytes[at] ?? 0) & mask) !== ((address[at] ?? 0) & mask)) return false;
  }
  return true;
}
