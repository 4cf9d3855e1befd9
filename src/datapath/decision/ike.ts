import { type PacketHeaders, PROTOCOL, u16, u32 } from './packet.ts';
import type { AddressEntry, LeaseEntry } from './tables.ts';
import type { DownlinkDrop, UplinkDrop } from './verdict.ts';

/**
 * IPsec's UDP ports on a shared address, which no device holds alone: IKE by the device's half of the SPIs (cookies,
 * RFC 3104 §4), ESP-in-UDP by the leased SPI (RFC 3948). A half in a leased block needs no state, even when the peer
 * renews the association; any other is learned from what the device sends. Where a device leases the port itself, none
 * of this applies.
 */

const IKE_PORT = 500;
const NAT_PORT = 4500;
const UDP_HEADER = 8;
const NON_ESP_MARKER = 4;
/** IKE header (RFC 7296 §3.1, RFC 2408 §3.1): initiator's SPI 0 · responder's SPI 8 · version 17 · flags 19 */
const IKE_HEADER = 28;
const SPI_OCTETS = 8;
const VERSION = 17;
const FLAGS = 19;
/** Set in every message of who began the association. */
const INITIATOR = 0x08;

/** What IKE SPIs are remembered under, among other learned things of 8 octets. */
const COOKIE = 0;

export function isIpsecPort(port: number): boolean {
  return port === IKE_PORT || port === NAT_PORT;
}

/** To whom a packet to port 500 or 4500 of a shared address goes. */
export function ipsecUdpShare<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): LeaseEntry<S> | DownlinkDrop {
  const at = packet.payloadAt + UDP_HEADER;
  switch (inside(buffer, packet, u16(buffer, packet.payloadAt + 2))) {
    case 'ike':
      return cookieOwner(address, buffer, packet, 'peer', nowMs) ?? 'ike-unmatched';
    case 'ike-behind-marker':
      return cookieOwner(address, buffer, packet, 'peer', nowMs, NON_ESP_MARKER) ?? 'ike-unmatched';
    case 'esp':
      return address.spis.get(u32(buffer, at)) ?? 'unleased-spi';
    case 'keepalive':
      return 'nat-keepalive';
    case 'neither':
      return 'malformed';
  }
}

/** The lease whose block holds the device's half of the SPIs in a packet that a device sent from port 500 or 4500. */
export function leasedIkeSpi<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
): LeaseEntry<S> | undefined {
  const kind = inside(buffer, packet, u16(buffer, packet.payloadAt));
  if (kind !== 'ike' && kind !== 'ike-behind-marker') return undefined;
  const marker = kind === 'ike' ? 0 : NON_ESP_MARKER;
  const at = deviceHalf(buffer, packet.payloadAt + UDP_HEADER + marker, 'device');
  return at < 0 ? undefined : address.ikeSpis.get(u32(buffer, at));
}

/** Whether a packet that `own`'s device sent from port 500 or 4500 of a shared address goes out; learns its SPIs. */
export function ipsecUdpFromShare<S>(
  address: AddressEntry<S>,
  own: LeaseEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): UplinkDrop | null {
  switch (inside(buffer, packet, u16(buffer, packet.payloadAt))) {
    case 'ike':
      return teachCookie(address, own, buffer, packet, nowMs, 0);
    case 'ike-behind-marker':
      return teachCookie(address, own, buffer, packet, nowMs, NON_ESP_MARKER);
    case 'esp': {
      const { destinationAt, addressLength } = packet;
      const spi = u32(buffer, packet.payloadAt + UDP_HEADER);
      address.peerSpis.teach(spi, PROTOCOL.udp, buffer, destinationAt, addressLength, own, nowMs);
      return null;
    }
    case 'keepalive':
      return null;
    case 'neither':
      return 'ike-malformed';
  }
}

/** Who sent the packet from port 500 or 4500 that an ICMP error quotes, when it quotes enough to tell. */
export function ipsecUdpQuoted<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  quoted: PacketHeaders,
  nowMs: number,
): LeaseEntry<S> | null {
  switch (inside(buffer, quoted, u16(buffer, quoted.payloadAt))) {
    case 'ike':
      return cookieOwner(address, buffer, quoted, 'device', nowMs);
    case 'ike-behind-marker':
      return cookieOwner(address, buffer, quoted, 'device', nowMs, NON_ESP_MARKER);
    case 'esp': {
      const { destinationAt, addressLength } = quoted;
      const spi = u32(buffer, quoted.payloadAt + UDP_HEADER);
      return address.peerSpis.recall(spi, PROTOCOL.udp, buffer, destinationAt, addressLength, nowMs);
    }
    default:
      return null;
  }
}

type Inside = 'ike' | 'ike-behind-marker' | 'esp' | 'keepalive' | 'neither';

function inside(buffer: Uint8Array, packet: PacketHeaders, port: number): Inside {
  const at = packet.payloadAt + UDP_HEADER;
  const octets = packet.payloadLength - UDP_HEADER;
  if (port === IKE_PORT) return octets >= IKE_HEADER ? 'ike' : 'neither';
  if (octets === 1 && buffer[at] === 0xff) return 'keepalive';
  if (octets < SPI_OCTETS) return 'neither';
  if (u32(buffer, at) !== 0) return 'esp';
  return octets >= NON_ESP_MARKER + IKE_HEADER ? 'ike-behind-marker' : 'neither';
}

/**
 * Where the device's half of the SPIs is; −1 when there is none. IKEv2 says who began the association; IKEv1 does
 * not, and only associations that the device began are told apart.
 */
function deviceHalf(buffer: Uint8Array, ikeAt: number, sender: 'device' | 'peer'): number {
  const major = buffer[ikeAt + VERSION]! >> 4;
  if (major !== 1 && major !== 2) return -1;
  const byInitiator = (buffer[ikeAt + FLAGS]! & INITIATOR) !== 0;
  const deviceBegan = major === 1 || byInitiator === (sender === 'device');
  const at = deviceBegan ? ikeAt : ikeAt + SPI_OCTETS;
  return u32(buffer, at) === 0 && u32(buffer, at + 4) === 0 ? -1 : at;
}

function cookieOwner<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  sender: 'device' | 'peer',
  nowMs: number,
  marker = 0,
): LeaseEntry<S> | null {
  const at = deviceHalf(buffer, packet.payloadAt + UDP_HEADER + marker, sender);
  if (at < 0) return null;
  const first = u32(buffer, at);
  return address.ikeSpis.get(first) ?? address.cookies.recall(first, COOKIE, buffer, at, SPI_OCTETS, nowMs);
}

function teachCookie<S>(
  address: AddressEntry<S>,
  own: LeaseEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
  marker: number,
): UplinkDrop | null {
  const at = deviceHalf(buffer, packet.payloadAt + UDP_HEADER + marker, 'device');
  if (at < 0) return 'ike-malformed';
  const first = u32(buffer, at);
  // A leased half was found to be the device's own, and needs no remembering.
  if (address.ikeSpis.get(first) !== undefined) return null;
  const lesson = address.cookies.teach(first, COOKIE, buffer, at, SPI_OCTETS, own, nowMs);
  return lesson === 'taken' ? 'ike-cookie-taken' : null;
}
