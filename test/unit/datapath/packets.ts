import { parseAddress } from '../../../src/protocol/address.ts';
import type { Lease } from '../../../src/protocol/lease.ts';

/** Packets by hand, so that no test checks the parser with the parser's own idea of a packet. */

export interface IpOptions {
  readonly id?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In units of 8 octets. */
  readonly offset?: number;
  readonly ttl?: number;
}

export function ip(
  source: string,
  destination: string,
  protocol: number,
  payload: Uint8Array,
  options: IpOptions = {},
): Uint8Array {
  return source.includes(':')
    ? ip6(source, destination, protocol, payload)
    : ip4(source, destination, protocol, payload, options);
}

function ip4(source: string, destination: string, protocol: number, payload: Uint8Array, o: IpOptions) {
  const packet = new Uint8Array(20 + payload.length);
  const view = new DataView(packet.buffer);
  packet[0] = 0x45;
  view.setUint16(2, packet.length);
  view.setUint16(4, o.id ?? 0x1234);
  view.setUint16(6, (o.dontFragment ? 0x4000 : 0) | (o.moreFragments ? 0x2000 : 0) | (o.offset ?? 0));
  packet[8] = o.ttl ?? 64;
  packet[9] = protocol;
  packet.set(octetsOf(source), 12);
  packet.set(octetsOf(destination), 16);
  view.setUint16(10, internetChecksum(packet.subarray(0, 20)));
  packet.set(payload, 20);
  return packet;
}

function ip6(source: string, destination: string, protocol: number, payload: Uint8Array) {
  const packet = new Uint8Array(40 + payload.length);
  packet[0] = 0x60;
  new DataView(packet.buffer).setUint16(4, payload.length);
  packet[6] = protocol;
  packet[7] = 64;
  packet.set(octetsOf(source), 8);
  packet.set(octetsOf(destination), 24);
  packet.set(payload, 40);
  return packet;
}

/** IPv6 extension headers of 8 octets before the payload; the last names `protocol`. */
export function extended(protocol: number, payload: Uint8Array, headers: readonly number[], fragment = 0) {
  const out = new Uint8Array(headers.length * 8 + payload.length);
  headers.forEach((header, i) => {
    out[i * 8] = headers[i + 1] ?? protocol;
    if (header === 44) new DataView(out.buffer).setUint16(i * 8 + 2, fragment);
  });
  out.set(payload, headers.length * 8);
  return out;
}

export function udp(from: number, to: number, data: Uint8Array = new Uint8Array(8)): Uint8Array {
  const out = new Uint8Array(8 + data.length);
  const view = new DataView(out.buffer);
  view.setUint16(0, from);
  view.setUint16(2, to);
  view.setUint16(4, out.length);
  out.set(data, 8);
  return out;
}

export function tcp(from: number, to: number): Uint8Array {
  const out = new Uint8Array(20);
  const view = new DataView(out.buffer);
  view.setUint16(0, from);
  view.setUint16(2, to);
  out[12] = 0x50;
  return out;
}

export function esp(spi: number, sequence = 1, data: Uint8Array = new Uint8Array(32)): Uint8Array {
  const out = new Uint8Array(8 + data.length);
  const view = new DataView(out.buffer);
  view.setUint32(0, spi);
  view.setUint32(4, sequence);
  out.set(data, 8);
  return out;
}

export function ah(spi: number, sequence = 1, data: Uint8Array = new Uint8Array(20)): Uint8Array {
  const out = new Uint8Array(24 + data.length);
  const view = new DataView(out.buffer);
  out[0] = 17;
  out[1] = 4;
  view.setUint32(4, spi);
  view.setUint32(8, sequence);
  out.set(data, 24);
  return out;
}

/** `rest` is the second word of the header: id and sequence of an echo, the MTU of a too-big message. */
export function icmp(
  type: number,
  code: number,
  rest: number,
  body: Uint8Array = new Uint8Array(0),
): Uint8Array {
  const out = new Uint8Array(8 + body.length);
  const view = new DataView(out.buffer);
  out[0] = type;
  out[1] = code;
  view.setUint32(4, rest);
  out.set(body, 8);
  view.setUint16(2, internetChecksum(out));
  return out;
}

export function echo(type: number, id: number, sequence = 1): Uint8Array {
  return icmp(type, 0, id * 65536 + sequence);
}

/** What an ICMP error quotes: the header and the least that is certain. */
export function quote(packet: Uint8Array, behind = 8): Uint8Array {
  return packet.subarray(0, (packet[0]! >> 4 === 4 ? 20 : 40) + behind);
}

export function internetChecksum(octets: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < octets.length; i += 2) sum += (octets[i]! << 8) | (octets[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

const parsed = new Map<string, Uint8Array>();

/** Reading an address takes longer than all the rest of a packet. */
function octetsOf(address: string): Uint8Array {
  const octets = parsed.get(address) ?? parseAddress(address);
  parsed.set(address, octets);
  return octets;
}

let leases = 0;

export function lease(fields: Partial<Lease> & Pick<Lease, 'kind' | 'address'>): Lease {
  leases += 1;
  return {
    id: `a1.${String(leases).padStart(22, '0')}`,
    anchor: 'a1',
    pool: 'p1',
    device: { tenant: 't', id: 'd' },
    bindId: leases,
    ports: null,
    spis: null,
    session: '00'.repeat(16),
    state: 'active',
    remainingMs: 60_000,
    fence: '1-1',
    ...fields,
  };
}
