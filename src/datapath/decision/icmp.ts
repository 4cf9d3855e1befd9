import { type PacketHeaders, PROTOCOL, u16 } from './packet.ts';

/**
 * What an ICMP message is to a relay (RFC 792, RFC 4443). Redirects, source quenches, router and neighbour
 * discovery concern a link and never cross: `other`.
 */
export type IcmpClass = 'error' | 'echo-request' | 'echo-reply' | 'other';

/** ICMP header before the quoted packet of an error. */
export const ICMP_HEADER = 8;

/** Least MTU that a too-big message may claim: smaller ones only serve to slow somebody down (RFC 791, RFC 8200 §5). */
const LEAST_MTU = { 4: 68, 6: 1280 } as const;

/** The class of an ICMP packet with at least {@link ICMP_HEADER} octets of payload. */
export function icmpClass(buffer: Uint8Array, packet: PacketHeaders): IcmpClass {
  const type = buffer[packet.payloadAt]!;
  const code = buffer[packet.payloadAt + 1]!;
  if (packet.version === 4) {
    if (type === 8) return 'echo-request';
    if (type === 0) return 'echo-reply';
    if (type === 3)
      return code === 4 && claimsTooLittle(u16(buffer, packet.payloadAt + 6), 4) ? 'other' : 'error';
    return type === 11 || type === 12 ? 'error' : 'other';
  }
  if (type === 128) return 'echo-request';
  if (type === 129) return 'echo-reply';
  if (type === 2) {
    const mtu = u16(buffer, packet.payloadAt + 4) * 65536 + u16(buffer, packet.payloadAt + 6);
    return claimsTooLittle(mtu, 6) ? 'other' : 'error';
  }
  return type === 1 || type === 3 || type === 4 ? 'error' : 'other';
}

/** Zero is what routers before RFC 1191 sent on IPv4: the receiver guesses. */
function claimsTooLittle(mtu: number, version: 4 | 6): boolean {
  return mtu < LEAST_MTU[version] && !(version === 4 && mtu === 0);
}

/** Query id of an echo request or reply. */
export function echoId(buffer: Uint8Array, packet: PacketHeaders): number {
  return u16(buffer, packet.payloadAt + 4);
}

/** True when the packet's protocol is the ICMP of its own IP version. */
export function isIcmp(packet: PacketHeaders): boolean {
  return packet.protocol === (packet.version === 4 ? PROTOCOL.icmp : PROTOCOL.icmp6);
}

/** Checksum of an ICMP message; over one that carries its own: 0 when it is undamaged. */
export function icmpChecksum(buffer: Uint8Array, packet: PacketHeaders): number {
  const { payloadAt, payloadLength, sourceAt } = packet;
  const body = addUp(0, buffer, payloadAt, payloadLength);
  if (packet.version === 4) return checksumOf(body);
  // Pseudo-header: both addresses lie in one piece (RFC 8200 §8.1).
  return checksumOf(addUp(body, buffer, sourceAt, 32) + payloadLength + PROTOCOL.icmp6);
}

/** Checksum of an IPv4 header without options. */
export function ipv4Checksum(buffer: Uint8Array, at: number): number {
  return checksumOf(addUp(0, buffer, at, 20));
}

function addUp(start: number, buffer: Uint8Array, at: number, length: number): number {
  let sum = start;
  const even = at + (length & ~1);
  for (let i = at; i < even; i += 2) sum += u16(buffer, i);
  return (length & 1) === 0 ? sum : sum + buffer[even]! * 256;
}

/** The ones' complement sum, complemented (RFC 1071); 65,535 octets add up to far less than 2^53. */
function checksumOf(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + Math.floor(folded / 0x10000);
  return ~folded & 0xffff;
}
