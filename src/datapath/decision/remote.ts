import { ICMP_HEADER, icmpClass, isIcmp } from './icmp.ts';
import {
  destinationPort,
  hasPorts,
  type PacketHeaders,
  packetHeaders,
  readQuoted,
  sameOctets,
  sourcePort,
} from './packet.ts';
import type { DeclaredRemote } from './tables.ts';

/**
 * The remote flow policy (RFC 3103 §7.2), both ways: a lease for one remote carries packets to and from that one alone.
 * Ports are looked at where a packet shows them: of ESP, ICMP queries and the like the address alone decides
 * (RFC 3104 appendix D).
 */

/** Headers of the packet that an ICMP error quotes; the decision runs to its end before the next begins. */
const quoted = packetHeaders();

/** Why a packet from the device goes to no remote of its lease; null when it does. */
export function remoteRefusal(
  remote: DeclaredRemote,
  buffer: Uint8Array,
  packet: PacketHeaders,
): 'remote-address' | 'remote-port' | null {
  if (!isAddress(remote, buffer, packet.destinationAt, packet.addressLength)) return 'remote-address';
  if (remote.port === null || !hasPorts(packet)) return null;
  return packet.payloadLength >= 4 && destinationPort(buffer, packet) === remote.port ? null : 'remote-port';
}

/** True for a packet from the public side that concerns the remote: an error may come from anyone on the way to it. */
export function comesFrom(remote: DeclaredRemote, buffer: Uint8Array, packet: PacketHeaders): boolean {
  if (isIcmp(packet) && packet.fragment !== 'later' && packet.payloadLength >= ICMP_HEADER) {
    if (icmpClass(buffer, packet) === 'error') return quotesRemote(remote, buffer, packet);
  }
  if (!isAddress(remote, buffer, packet.sourceAt, packet.addressLength)) return false;
  if (remote.port === null || !hasPorts(packet)) return true;
  return packet.payloadLength >= 4 && sourcePort(buffer, packet) === remote.port;
}

function quotesRemote(remote: DeclaredRemote, buffer: Uint8Array, packet: PacketHeaders): boolean {
  const at = packet.payloadAt + ICMP_HEADER;
  if (!readQuoted(buffer, at, packet.payloadLength - ICMP_HEADER, quoted)) return false;
  if (quoted.version !== packet.version || quoted.fragment === 'later') return false;
  return remoteRefusal(remote, buffer, quoted) === null;
}

function isAddress(remote: DeclaredRemote, buffer: Uint8Array, at: number, size: number): boolean {
  return remote.address.length === size && sameOctets(remote.address, 0, buffer, at, size);
}
