import type { LeaseKind } from '../../protocol/lease.ts';
import { fragmentId } from './fragments.ts';
import { echoId, ICMP_HEADER, icmpClass, isIcmp } from './icmp.ts';
import { ipsecUdpFromShare, ipsecUdpShare, isIpsecPort, leasedIkeSpi } from './ike.ts';
import {
  destinationPort,
  hasPorts,
  type PacketHeaders,
  PROTOCOL,
  packetHeaders,
  readQuoted,
  sameOctets,
  sourcePort,
  spi,
} from './packet.ts';
import { remoteRefusal } from './remote.ts';
import { type AddressEntry, type LeaseEntry, type LeaseTables, needsWholeDatagram } from './tables.ts';
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
  const lease = address.whole ?? shareFor(address, session, buffer, packet, nowMs);
  if (typeof lease === 'string') return lease;
  if (lease.session !== session) return 'unleased-address';
  if (nowMs >= lease.untilMs) return 'expired';
  if (packet.fragment === 'later' && needsWholeDatagram(address)) return 'fragment';
  const refusal = lease.remote === null ? null : remoteRefusal(lease.remote, buffer, packet);
  if (refusal !== null || address.whole !== null) return refusal;
  return learnFrom(address, lease, buffer, packet, nowMs);
}

/** The share of the address under which the session's packet would go out, or why there is none. Learns nothing. */
function shareFor<S>(
  address: AddressEntry<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): LeaseEntry<S> | UplinkDrop {
  const { fragment, payloadLength, protocol } = packet;
  const isCut = fragment === 'later' || payloadLength < 8;
  const port = !isCut && hasPorts(packet) ? sourcePort(buffer, packet) : -1;
  const byPort = port < 0 ? undefined : address.ports.get(port);
  if (owned(byPort, session, nowMs)) return byPort;
  const held = heldLease(address, session, buffer, packet, nowMs);
  if (held === null) return address.bySession.has(session) ? 'expired' : 'unleased-address';
  if (isCut) return fragment === 'later' ? 'fragment' : 'malformed';
  switch (protocol) {
    case PROTOCOL.tcp:
      return 'unleased-port';
    case PROTOCOL.udp:
      return byPort === undefined && isIpsecPort(port)
        ? ipsecUdpShareFor(address, session, buffer, packet, nowMs)
        : 'unleased-port';
    case PROTOCOL.esp:
    case PROTOCOL.ah:
      return heldLease(address, session, buffer, packet, nowMs, 'rsipsec') ?? 'ipsec-unallowed';
  }
  if (!isIcmp(packet)) return 'other-protocol';
  switch (icmpClass(buffer, packet)) {
    case 'error':
      return quotedReceiver(address, session, buffer, packet, nowMs) ?? 'icmp-unmatched';
    case 'echo-request':
      return held;
    default:
      return 'icmp-unallowed';
  }
}

/** From port 500 or 4500, which nobody leases: by the device's IKE SPI where that is leased, else any RSIPSEC lease. */
function ipsecUdpShareFor<S>(
  address: AddressEntry<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): LeaseEntry<S> | UplinkDrop {
  const held = heldLease(address, session, buffer, packet, nowMs, 'rsipsec');
  if (held === null) return 'ipsec-unallowed';
  const lease = leasedIkeSpi(address, buffer, packet);
  if (lease === undefined) return held;
  return owned(lease, session, nowMs) ? lease : 'ike-cookie-taken';
}

/** Remembers what a packet that goes out teaches; or why it must stay, because another share was first. */
function learnFrom<S>(
  address: AddressEntry<S>,
  lease: LeaseEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): UplinkDrop | null {
  const { protocol, destinationAt, addressLength } = packet;
  if (packet.fragment === 'first') {
    const id = fragmentId(buffer, packet);
    const kind = packet.version === 4 ? protocol : 0;
    const { fragmentIds } = address;
    const lesson = fragmentIds.teach(id, kind, buffer, destinationAt, addressLength, lease, nowMs);
    if (lesson === 'taken') return 'ip-id-taken';
  }
  switch (protocol) {
    case PROTOCOL.esp:
    case PROTOCOL.ah:
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
    case PROTOCOL.udp: {
      const port = sourcePort(buffer, packet);
      const byIpsec = isIpsecPort(port) && address.ports.get(port) === undefined;
      return byIpsec ? ipsecUdpFromShare(address, lease, buffer, packet, nowMs) : null;
    }
  }
  if (!isIcmp(packet) || icmpClass(buffer, packet) !== 'echo-request') return null;
  const id = echoId(buffer, packet);
  const lesson = address.queries.teach(id, protocol, buffer, destinationAt, addressLength, lease, nowMs);
  if (lesson === 'taken') return 'icmp-id-taken';
  return lesson === 'full' ? 'icmp-quota' : null;
}

/** The session's share that the packet which its ICMP error quotes was sent *to*. */
function quotedReceiver<S>(
  address: AddressEntry<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): LeaseEntry<S> | null {
  const at = packet.payloadAt + ICMP_HEADER;
  if (!readQuoted(buffer, at, packet.payloadLength - ICMP_HEADER, quoted)) return null;
  if (quoted.version !== packet.version || quoted.fragment === 'later') return null;
  if (!sameOctets(buffer, quoted.destinationAt, buffer, packet.sourceAt, packet.addressLength)) return null;
  const share = quotedShare(address, buffer, nowMs);
  return typeof share === 'object' && owned(share, session, nowMs) ? share : null;
}

function quotedShare<S>(address: AddressEntry<S>, buffer: Uint8Array, nowMs: number) {
  switch (quoted.protocol) {
    case PROTOCOL.tcp:
      return address.ports.get(destinationPort(buffer, quoted));
    case PROTOCOL.udp: {
      const port = destinationPort(buffer, quoted);
      const lease = address.ports.get(port);
      return lease === undefined && isIpsecPort(port) ? ipsecUdpShare(address, buffer, quoted, nowMs) : lease;
    }
    case PROTOCOL.esp:
    case PROTOCOL.ah:
      return address.spis.get(spi(buffer, quoted));
    default:
      return undefined;
  }
}

function owned<S>(lease: LeaseEntry<S> | undefined, session: S, nowMs: number): lease is LeaseEntry<S> {
  return lease !== undefined && lease.session === session && nowMs < lease.untilMs;
}

/**
 * A running lease of the session on this address, of several the first for the packet's remote; a device holds few on
 * one address.
 */
function heldLease<S>(
  address: AddressEntry<S>,
  session: S,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
  kind?: LeaseKind,
): LeaseEntry<S> | null {
  let held: LeaseEntry<S> | null = null;
  for (const lease of address.bySession.get(session) ?? []) {
    if (nowMs >= lease.untilMs || (kind !== undefined && lease.kind !== kind)) continue;
    if (lease.remote === null || remoteRefusal(lease.remote, buffer, packet) === null) return lease;
    held ??= lease;
  }
  return held;
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
