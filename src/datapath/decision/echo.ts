import { ICMP_HEADER, icmpChecksum, ipv4Checksum } from './icmp.ts';
import { type PacketHeaders, sameOctets } from './packet.ts';

/** Hop limit of what the relay says itself. */
const OWN_TTL = 64;

/**
 * True for an echo request that the relay answers in place of a shared address (RFC 3102 §6.2): whole, plain,
 * undamaged, and from one host, so that an answer reaches nobody but who asked (RFC 1122 §3.2.2.6, RFC 4443 §4.2).
 */
export function mayAnswerEcho(buffer: Uint8Array, packet: PacketHeaders): boolean {
  if (packet.fragment !== 'whole' || packet.payloadLength < ICMP_HEADER) return false;
  const plain = packet.payloadAt - packet.at === (packet.version === 4 ? 20 : 40);
  return plain && fromOneHost(buffer, packet) && icmpChecksum(buffer, packet) === 0;
}

/** False for sources that stand for many hosts, for none, or for the one that is asked (RFC 1812 §5.3.7). */
export function fromOneHost(buffer: Uint8Array, packet: PacketHeaders): boolean {
  const { sourceAt, destinationAt, addressLength } = packet;
  if (sameOctets(buffer, sourceAt, buffer, destinationAt, addressLength)) return false;
  const first = buffer[sourceAt]!;
  if (packet.version === 4) return first !== 0 && first !== 127 && first < 224;
  // ::/8 holds the unspecified address and loopback.
  return first !== 0 && first !== 0xff;
}

/** Turns the request into its reply, in place: the same octets, never more. */
export function answerEcho(buffer: Uint8Array, packet: PacketHeaders): void {
  const { at, version, sourceAt, destinationAt, addressLength, payloadAt } = packet;
  for (let i = 0; i < addressLength; i += 1) {
    const octet = buffer[sourceAt + i]!;
    buffer[sourceAt + i] = buffer[destinationAt + i]!;
    buffer[destinationAt + i] = octet;
  }
  if (version === 4) {
    buffer[at + 1] = 0;
    // Not to be fragmented: the identification then says nothing (RFC 6864 §4.1), whatever the devices use.
    buffer.set([0, 0, 0x40, 0, OWN_TTL], at + 4);
    put16(buffer, at + 10, 0);
    put16(buffer, at + 10, ipv4Checksum(buffer, at));
  } else {
    buffer.set([0x60, 0, 0, 0], at);
    buffer[at + 7] = OWN_TTL;
  }
  buffer[payloadAt] = version === 4 ? 0 : 129;
  put16(buffer, payloadAt + 2, 0);
  put16(buffer, payloadAt + 2, icmpChecksum(buffer, packet));
}

function put16(buffer: Uint8Array, at: number, value: number): void {
  buffer[at] = value >> 8;
  buffer[at + 1] = value & 0xff;
}
