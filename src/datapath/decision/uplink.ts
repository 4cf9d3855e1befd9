import type { LeaseKind } from '../../protocol/lease.ts';
import { echoId, ICMP_HEADER, icmpClass, isIcmp } from './icmp.ts';
import { ipsecUdpFromShare, ipsecUdpShare, isIpsecPort } from './ike.ts';
import {
  destinationPort,
  type PacketHeaders,
  PROTOCOL,
  packetHeaders,
  readQuoted,
  sameOctets,
  sourcePort,
  spi,
} from './packet.ts';
import type { AddressEntry, LeaseEntry, LeaseTables } from './tables.ts';
import type { UplinkDrop } from './verdict.ts';

/** Headers of the packet that an ICMP error quotes; the decision runs to its end before the next begins. */
const quoted = packetHeaders();

/**
 * Whether a packet that a session's device sent goes out: null, or why it is dropped. Its source must be leased to
 * that very session (RFC 3103 §10.4); a shared address carries only TCP, UDP, ICMP and, with RSIPSEC, IPsec.
 * Learns what replies without a leased number will need.
 */
export function decideUplink<S>(
  tables: LeaseTables<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): UplinkDrop | null {
  const address = tables.at(buffer, packet.sourceAt, packet.addressLength);
  if (address === undefined) return 'unleased-address';
  if (tables.isEndpoint(buffer, packet.destinationAt, packet.addressLength)) return 'own-endpoint';
  if (tables.isHost(buffer, packet.destinationAt, packet.addressLength)) return 'relay-host';
  if (!routable(buffer, packet)) return 'unroutable-destination';
  if (address.whole !== null) {
    if (address.whole.session !== session) return 'unleased-address';
    return nowMs < address.whole.untilMs ? null : 'expired';
  }
  return fromShare(address, session, buffer, packet, nowMs);
}

function fromShare<S>(
  address: AddressEntry<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): UplinkDrop | null {
  if (packet.fragment === 'later') return notHolder(address, session, nowMs) ?? 'fragment';
  if (packet.payloadLength < 8) return notHolder(address, session, nowMs) ?? 'malformed';
  switch (packet.protocol) {
    case PROTOCOL.tcp:
    case PROTOCOL.udp: {
      const port = sourcePort(buffer, packet);
      const lease = address.ports.get(port);
      if (owned(lease, session, nowMs)) return null;
      if (lease !== undefined || packet.protocol === PROTOCOL.tcp || !isIpsecPort(port)) {
        return notHolder(address, session, nowMs) ?? 'unleased-port';
      }
      const own = heldLease(address, session, nowMs, 'rsipsec');
      if (own === null) return notHolder(address, session, nowMs) ?? 'ipsec-unallowed';
      return ipsecUdpFromShare(address, own, buffer, packet, nowMs);
    }
    case PROTOCOL.esp:
    case PROTOCOL.ah: {
      const lease = heldLease(address, session, nowMs, 'rsipsec');
      if (lease === null) return notHolder(address, session, nowMs) ?? 'ipsec-unallowed';
      const { protocol, destinationAt, addressLength } = packet;
      address.peerSpis.teach(
        spi(buffer, packet),
        protocol,
        buffer,
        destinationAt,
        addressLength,
        lease,
        nowMs,
      );
      return null;
    }
  }
  const lease = heldLease(address, session, nowMs);
  if (lease === null) return notHolder(address, session, nowMs) ?? 'other-protocol';
  return isIcmp(packet) ? icmpFromShare(address, lease, buffer, packet, nowMs) : 'other-protocol';
}

function icmpFromShare<S>(
  address: AddressEntry<S>,
  own: LeaseEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): UplinkDrop | null {
  switch (icmpClass(buffer, packet)) {
    case 'error':
      return quotesOwn(address, own.session, buffer, packet, nowMs) ? null : 'icmp-unmatched';
    case 'echo-request': {
      const { protocol, destinationAt, addressLength } = packet;
      const id = echoId(buffer, packet);
      const lesson = address.queries.teach(id, protocol, buffer, destinationAt, addressLength, own, nowMs);
      if (lesson === 'taken') return 'icmp-id-taken';
      return lesson === 'full' ? 'icmp-quota' : null;
    }
    default:
      return 'icmp-unallowed';
  }
}

/** True when an ICMP error by the device quotes a packet that was sent *to* something it leases. */
function quotesOwn<S>(
  address: AddressEntry<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): boolean {
  const at = packet.payloadAt + ICMP_HEADER;
  if (!readQuoted(buffer, at, packet.payloadLength - ICMP_HEADER, quoted)) return false;
  if (quoted.version !== packet.version || quoted.fragment === 'later') return false;
  if (!sameOctets(buffer, quoted.destinationAt, buffer, packet.sourceAt, packet.addressLength)) return false;
  switch (quoted.protocol) {
    case PROTOCOL.tcp:
      return owned(address.ports.get(destinationPort(buffer, quoted)), session, nowMs);
    case PROTOCOL.udp: {
      const port = destinationPort(buffer, quoted);
      const lease = address.ports.get(port);
      if (lease !== undefined || !isIpsecPort(port)) return owned(lease, session, nowMs);
      const share = ipsecUdpShare(address, buffer, quoted, nowMs);
      return typeof share === 'object' && owned(share, session, nowMs);
    }
    case PROTOCOL.esp:
    case PROTOCOL.ah:
      return owned(address.spis.get(spi(buffer, quoted)), session, nowMs);
    default:
      return false;
  }
}

function owned<S>(lease: LeaseEntry<S> | undefined, session: S, nowMs: number): boolean {
  return lease !== undefined && lease.session === session && nowMs < lease.untilMs;
}

/** A running lease of the session on this address; a device holds few on one address. */
function heldLease<S>(
  address: AddressEntry<S>,
  session: S,
  nowMs: number,
  kind?: LeaseKind,
): LeaseEntry<S> | null {
  for (const lease of address.bySession.get(session) ?? []) {
    if (nowMs < lease.untilMs && (kind === undefined || lease.kind === kind)) return lease;
  }
  return null;
}

/** Why a session has no business on this address at all; null when it holds a share. */
function notHolder<S>(address: AddressEntry<S>, session: S, nowMs: number): UplinkDrop | null {
  if (heldLease(address, session, nowMs) !== null) return null;
  return address.bySession.has(session) ? 'expired' : 'unleased-address';
}

/** False for destinations that never leave a host or a link: a relay's own loopback is none of a device's business. */
function routable(buffer: Uint8Array, packet: PacketHeaders): boolean {
  const first = buffer[packet.destinationAt]!;
  const second = buffer[packet.destinationAt + 1]!;
  if (packet.version === 4) {
    return first !== 0 && first !== 127 && first < 224 && !(first === 169 && second === 254);
  }
  if (first === 0xff || (first === 0xfe && (second & 0xc0) === 0x80)) return false;
  // ::/96 holds the unspecified address, loopback and embedded IPv4; ::ffff:0:0/96 mapped IPv4.
  for (let i = 0; i < 10; i += 1) if (buffer[packet.destinationAt + i] !== 0) return true;
  const tail = (buffer[packet.destinationAt + 10]! << 8) | buffer[packet.destinationAt + 11]!;
  return tail !== 0 && tail !== 0xffff;
}
