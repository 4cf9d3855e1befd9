/** Inner packets of an exact length, as the load sends them. */
import { parseAddress } from '../../../src/protocol/address.ts';

export type Traffic = 'esp' | 'udp';

export const PROTOCOL = { esp: 50, udp: 17 } as const;
export const IPV4_HEADER = 20;
export const UDP_HEADER = 8;

export interface Flow {
  readonly traffic: Traffic;
  readonly source: string;
  readonly destination: string;
  /** ESP: the SPI; UDP: the ports. */
  readonly spi: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
}

/** An IPv4 packet of `octets` octets in all, filled with a pattern; the UDP checksum is 0, which RFC 768 allows. */
export function innerPacket(flow: Flow, octets: number): Uint8Array {
  const packet = new Uint8Array(octets);
  for (let at = IPV4_HEADER; at < octets; at += 1) packet[at] = at * 31;
  const view = new DataView(packet.buffer);
  packet[0] = 0x45;
  view.setUint16(2, octets);
  view.setUint16(6, 0x4000);
  packet[8] = 64;
  packet[9] = PROTOCOL[flow.traffic];
  packet.set(parseAddress(flow.source), 12);
  packet.set(parseAddress(flow.destination), 16);
  let sum = 0;
  for (let at = 0; at < IPV4_HEADER; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  view.setUint16(10, ~sum & 0xffff);
  if (flow.traffic === 'udp') {
    view.setUint16(IPV4_HEADER, flow.sourcePort);
    view.setUint16(IPV4_HEADER + 2, flow.destinationPort);
    view.setUint16(IPV4_HEADER + 4, octets - IPV4_HEADER);
    view.setUint16(IPV4_HEADER + 6, 0);
  } else {
    view.setUint32(IPV4_HEADER, flow.spi);
  }
  return packet;
}
