import { mayAnswerEcho } from './echo.ts';
import { echoId, ICMP_HEADER, icmpClass, isIcmp } from './icmp.ts';
import { ipsecUdpQuoted, ipsecUdpShare, isIpsecPort } from './ike.ts';
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
import { comesFrom } from './remote.ts';
import { type AddressEntry, type LeaseEntry, type LeaseTables, needsWholeDatagram } from './tables.ts';
import { type DownlinkDrop, ECHO } from './verdict.ts';

/** Headers of the packet that an ICMP error quotes; the decision runs to its end before the next begins. */
const quoted = packetHeaders();

/** A lease, why the packet is dropped, or that the relay answers it itself. */
export type DownlinkVerdict<S> = LeaseEntry<S> | DownlinkDrop | typeof ECHO;

/**
 * To whom a packet from the public side goes: the lease it belongs to, the relay itself, or nobody. Destination address,
 * then protocol, then port, SPI, quoted packet or query id; never an encrypted field (RFC 3102 §3.2, RFC 3104 §5).
 */
export function decideDownlink<S>(
  tables: LeaseTables<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): DownlinkVerdict<S> {
  const address = tables.at(buffer, packet.destinationAt, packet.addressLength);
  if (address === undefined) return 'unleased-address';
  const lease = address.whole ?? shareOf(address, buffer, packet, nowMs);
  if (typeof lease === 'string') return lease;
  if (nowMs >= lease.untilMs) return 'expired';
  if (lease.remote === null) return lease;
  if (packet.fragment === 'later' && needsWholeDatagram(address)) return 'fragment';
  return comesFrom(lease.remote, buffer, packet) ? lease : 'undeclared-remote';
}

function shareOf<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): DownlinkVerdict<S> {
  if (packet.fragment === 'later') return 'fragment';
  if (packet.payloadLength < 8) return 'malformed';
  switch (packet.protocol) {
    case PROTOCOL.tcp:
      return address.ports.get(destinationPort(buffer, packet)) ?? 'unleased-port';
    case PROTOCOL.udp: {
      const port = destinationPort(buffer, packet);
      const lease = address.ports.get(port);
      if (lease !== undefined) return lease;
      return isIpsecPort(port) ? ipsecUdpShare(address, buffer, packet, nowMs) : 'unleased-port';
    }
    case PROTOCOL.esp:
    case PROTOCOL.ah:
      return address.spis.get(spi(buffer, packet)) ?? 'unleased-spi';
    default:
      return isIcmp(packet) ? icmpShare(address, buffer, packet, nowMs) : 'other-protocol';
  }
}

function icmpShare<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): DownlinkVerdict<S> {
  switch (icmpClass(buffer, packet)) {
    case 'error':
      return quotedSender(address, buffer, packet, nowMs) ?? 'icmp-unmatched';
    case 'echo-reply': {
      const id = echoId(buffer, packet);
      const { protocol, sourceAt, addressLength } = packet;
      return address.queries.recall(id, protocol, buffer, sourceAt, addressLength, nowMs) ?? 'icmp-unasked';
    }
    case 'echo-request':
      return mayAnswerEcho(buffer, packet) ? ECHO : 'icmp-request';
    case 'other':
      return 'icmp-other';
  }
}

/** Who sent the packet that an ICMP error quotes: its *source* is on our side (RFC 5508 REQ-3). */
function quotedSender<S>(
  address: AddressEntry<S>,
  buffer: Uint8Array,
  packet: PacketHeaders,
  nowMs: number,
): LeaseEntry<S> | null {
  const at = packet.payloadAt + ICMP_HEADER;
  if (!readQuoted(buffer, at, packet.payloadLength - ICMP_HEADER, quoted)) return null;
  if (quoted.version !== packet.version || quoted.fragment === 'later') return null;
  if (!sameOctets(buffer, quoted.sourceAt, buffer, packet.destinationAt, packet.addressLength)) return null;
  const { protocol, destinationAt, addressLength } = quoted;
  switch (protocol) {
    case PROTOCOL.tcp:
      return address.ports.get(sourcePort(buffer, quoted)) ?? null;
    case PROTOCOL.udp: {
      const port = sourcePort(buffer, quoted);
      const lease = address.ports.get(port);
      if (lease !== undefined) return lease;
      return isIpsecPort(port) ? ipsecUdpQuoted(address, buffer, quoted, nowMs) : null;
    }
    case PROTOCOL.esp:
    case PROTOCOL.ah: {
      const peerSpi = spi(buffer, quoted);
      return address.peerSpis.recall(peerSpi, protocol, buffer, destinationAt, addressLength, nowMs);
    }
    default: {
      if (!isIcmp(quoted) || icmpClass(buffer, quoted) !== 'echo-request') return null;
      return address.queries.recall(
        echoId(buffer, quoted),
        protocol,
        buffer,
        destinationAt,
        addressLength,
        nowMs,
      );
    }
  }
}
