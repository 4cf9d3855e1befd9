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
