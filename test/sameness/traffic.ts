import fc from 'fast-check';
import {
  ah,
  echo,
  esp,
  extended,
  icmp,
  internetChecksum,
  ip,
  quote,
  tcp,
  udp,
} from '../unit/datapath/packets.ts';
import { ANCHORS, HOST, PEERS, PORTS, SHARED, SPARE, SPIS, WHOLE } from './cast.ts';

/** Inner packets: what peers send to leased addresses, and what devices send through the tunnel. */

export type Direction = 'up' | 'down';

const SHAPES = [
  'udp',
  'esp',
  'tcp',
  'ah',
  'natt-esp',
  'natt-ike',
  'ike',
  'keepalive',
  'echo',
  'echo-reply',
  'error',
  'too-big',
  'other',
  'nested',
] as const;
export type Shape = (typeof SHAPES)[number];

/** What is wrong, or only rare, about a packet. */
export type Flaw =
  | { readonly kind: 'options'; readonly words: number }
  | { readonly kind: 'extensions'; readonly headers: readonly number[] }
  | { readonly kind: 'piece'; readonly more: boolean; readonly offset: number; readonly id: number }
  /** The payload ends after this many octets, and the header says so. */
  | { readonly kind: 'short'; readonly octets: number }
  /** The packet ends here, and the header does not say so. */
  | { readonly kind: 'cut'; readonly octets: number }
  | { readonly kind: 'longer'; readonly octets: number }
  | { readonly kind: 'poke'; readonly at: number; readonly value: number };

export interface PacketPlan {
  readonly shape: Shape;
  /** 0: IPv4, 1: IPv6. */
  readonly family: number;
  /** Places in `NEAR`, `FAR`, `PORTS` and `SPIS`. */
  readonly near: number;
  readonly far: number;
  readonly port: number;
  readonly farPort: number;
  readonly spi: number;
  /** Octets behind the transport header. */
  readonly size: number;
  readonly ttl: number;
  readonly trafficClass: number;
  readonly flaw: Flaw | null;
}

const NEAR = [SHARED, WHOLE, SPARE, PEERS, ANCHORS[0].endpoints];
const FAR = [
  PEERS,
  ['198.51.100.77', '2001:db8:ffff::77'],
  SHARED,
  WHOLE,
  ANCHORS[0].endpoints,
  HOST,
  ['224.0.0.5', 'ff02::5'],
  ['127.0.0.1', '::1'],
  ['169.254.1.1', 'fe80::1'],
  ['10.99.0.1', '2001:db8:dead::1'],
  ['0.0.0.0', '::'],
  ['240.0.0.1', '::ffff:1.2.3.4'],
];

/** Mostly the first: stories should go somewhere. */
const mostly = (places: number, weight: number): fc.Arbitrary<number> =>
  fc.nat(places - 1 + weight).map((n) => Math.max(0, n - weight));

const EXTENSIONS = [0, 43, 60, 44, 51, 135, 59];

export const flaws: fc.Arbitrary<Flaw> = fc.oneof(
  fc.record({ kind: fc.constant('options' as const), words: fc.integer({ min: 1, max: 10 }) }),
  fc.record({
    kind: fc.constant('extensions' as const),
    headers: fc.array(fc.nat(EXTENSIONS.length - 1), { minLength: 1, maxLength: 10 }),
  }),
  fc.record({
    kind: fc.constant('piece' as const),
    more: fc.boolean(),
    offset: fc.nat(6),
    id: fc.nat(2),
  }),
  fc.record({ kind: fc.constant('short' as const), octets: fc.nat(40) }),
  fc.record({ kind: fc.constant('cut' as const), octets: fc.nat(100) }),
  fc.record({ kind: fc.constant('longer' as const), octets: fc.integer({ min: 1, max: 60 }) }),
  fc.record({ kind: fc.constant('poke' as const), at: fc.nat(60), value: fc.nat(255) }),
);

/** Sizes: the usual, every small one, around the inner MTU, around what fits a link, and jumbo. */
const sizes = fc.oneof(
  { weight: 6, arbitrary: fc.constantFrom(32, 64, 100) },
  { weight: 3, arbitrary: fc.nat(40) },
  { weight: 1, arbitrary: fc.integer({ min: 1180, max: 1300 }) },
  { weight: 1, arbitrary: fc.constantFrom(700, 1400, 1472, 1536, 3000) },
);

export const packetPlans: fc.Arbitrary<PacketPlan> = fc.record({
  shape: fc.oneof(
    { weight: 3, arbitrary: fc.constantFrom<Shape>('udp', 'esp', 'tcp', 'ah', 'natt-esp') },
    { weight: 2, arbitrary: fc.constantFrom<Shape>(...SHAPES) },
  ),
  family: fc.nat(1),
  near: mostly(NEAR.length, 8),
  far: mostly(FAR.length, 12),
  port: fc.nat(PORTS.length - 1),
  farPort: mostly(PORTS.length, 10).map((n) => (n + PORTS.indexOf(53)) % PORTS.length),
  spi: fc.nat(SPIS.length - 1),
  size: sizes,
  ttl: fc.oneof(
    { weight: 12, arbitrary: fc.constant(64) },
    { weight: 1, arbitrary: fc.constantFrom(0, 1, 2, 255) },
  ),
  trafficClass: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, { weight: 2, arbitrary: fc.nat(255) }),
  flaw: fc.oneof({ weight: 5, arbitrary: fc.constant(null) }, { weight: 2, arbitrary: flaws }),
});

/** Plans that a leased share or address admits, for stories that should flow. */
export const fitting: fc.Arbitrary<PacketPlan> = fc.record({
  shape: fc.constantFrom<Shape>('esp', 'udp', 'natt-esp', 'ah', 'tcp', 'echo'),
  family: fc.nat(1),
  near: fc.nat(1),
  far: fc.constant(0),
  port: fc.constantFrom(0, 2, 6),
  farPort: fc.constant(12),
  spi: fc.constantFrom(0, 3),
  size: fc.constantFrom(32, 100, 700),
  ttl: fc.constant(64),
  trafficClass: fc.constantFrom(0, 0xb8, 2),
  flaw: fc.constant(null),
});

export function build(plan: PacketPlan, direction: Direction): Uint8Array {
  const near = NEAR[plan.near]![plan.family] ?? NEAR[0]![plan.family]!;
  const far = FAR[plan.far]![plan.family] ?? FAR[0]![plan.family]!;
  const [source, destination] = direction === 'up' ? [near, far] : [far, near];
  const { protocol, payload } = transport(plan, direction, source, destination);
  let packet = assembled(plan, source, destination, protocol, payload);
  const { flaw } = plan;
  if (flaw?.kind === 'cut') packet = packet.slice(0, Math.max(0, packet.length - flaw.octets));
  else if (flaw?.kind === 'longer') packet = joined(packet, filler(flaw.octets));
  else if (flaw?.kind === 'poke' && flaw.at < packet.length) packet[flaw.at] = flaw.value;
  return packet;
}

function assembled(
  plan: PacketPlan,
  source: string,
  destination: string,
  protocol: number,
  payload: Uint8Array,
) {
  const { flaw, ttl, trafficClass, family } = plan;
  let kind = protocol;
  let body = payload;
  if (flaw?.kind === 'short') body = payload.slice(0, flaw.octets);
  if (flaw?.kind === 'piece' && family === 1) {
    const field = flaw.offset * 8 + (flaw.more ? 1 : 0);
    const cut = flaw.more ? body.slice(0, body.length & ~7) : body;
    const header = new Uint8Array(8);
    new DataView(header.buffer).setUint16(2, field);
    header[0] = kind;
    header[7] = flaw.id;
    body = joined(header, cut);
    kind = 44;
  }
  if (flaw?.kind === 'extensions' && family === 1) {
    const headers = flaw.headers.map((n) => EXTENSIONS[n]!);
    body = extended(kind, body, headers);
    kind = headers[0]!;
  }
  const piece = flaw?.kind === 'piece' && family === 0 ? flaw : null;
  if (piece?.more) body = body.slice(0, body.length & ~7);
  const packet = ip(source, destination, kind, body, {
    ttl,
    ...(piece === null ? {} : { id: piece.id, moreFragments: piece.more, offset: piece.offset }),
  });
  if (family === 1) {
    packet[7] = ttl;
    packet[0] = 0x60 | (trafficClass >> 4);
    packet[1] = (trafficClass << 4) & 0xf0;
    return packet;
  }
  packet[1] = trafficClass;
  return withChecksum(flaw?.kind === 'options' ? withOptions(packet, flaw.words) : packet);
}

function withOptions(packet: Uint8Array, words: number): Uint8Array {
  const options = new Uint8Array(words * 4).fill(1);
  const longer = joined(packet.subarray(0, 20), options, packet.subarray(20));
  longer[0] = 0x45 + words;
  new DataView(longer.buffer).setUint16(2, longer.length);
  return longer;
}

function withChecksum(packet: Uint8Array): Uint8Array {
  const view = new DataView(packet.buffer, packet.byteOffset);
  view.setUint16(10, 0);
  view.setUint16(10, internetChecksum(packet.subarray(0, (packet[0]! & 0x0f) * 4)));
  return packet;
}

interface Transport {
  readonly protocol: number;
  readonly payload: Uint8Array;
}

function transport(plan: PacketPlan, direction: Direction, source: string, destination: string): Transport {
  const { shape, family, size } = plan;
  const port = PORTS[plan.port]!;
  const farPort = PORTS[plan.farPort]!;
  const [from, to] = direction === 'up' ? [port, farPort] : [farPort, port];
  // On the way out the SPI is the peer's choice.
  const spi = SPIS[plan.spi]!;
  const icmpProtocol = family === 0 ? 1 : 58;
  const data = filler(size);
  switch (shape) {
    case 'udp':
      return { protocol: 17, payload: udp(from, to, data) };
    case 'tcp':
      return { protocol: 6, payload: joined(tcp(from, to), data) };
    case 'esp':
      return { protocol: 50, payload: esp(spi, size + 1, data) };
    case 'ah':
      return { protocol: 51, payload: ah(spi, size + 1, data) };
    case 'natt-esp':
      return { protocol: 17, payload: udp(4500, 4500, esp(spi, 7, data)) };
    case 'natt-ike':
      return { protocol: 17, payload: udp(4500, 4500, joined(new Uint8Array(4), ike(plan, direction))) };
    case 'ike':
      return { protocol: 17, payload: udp(500, 500, ike(plan, direction)) };
    case 'keepalive':
      return { protocol: 17, payload: udp(4500, 4500, Uint8Array.of(0xff)) };
    case 'echo':
      return { protocol: icmpProtocol, payload: echo(family === 0 ? 8 : 128, plan.port, size) };
    case 'echo-reply':
      return { protocol: icmpProtocol, payload: echo(family === 0 ? 0 : 129, plan.port, size) };
    case 'error':
    case 'too-big': {
      const shapes: readonly Shape[] = ['udp', 'esp', 'ah', 'natt-esp', 'natt-ike', 'ike', 'echo', 'tcp'];
      const about: PacketPlan = {
        ...plan,
        shape: shapes[plan.farPort % shapes.length]!,
        flaw: null,
        size: 40,
      };
      const inner = transport(about, direction === 'up' ? 'down' : 'up', destination, source);
      const quoted = quote(ip(destination, source, inner.protocol, inner.payload), 8 + (size % 40));
      const tooBig = shape === 'too-big';
      const type = family === 0 ? 3 : tooBig ? 2 : 1;
      const mtu = [1280, 1500, 600, 60, 0][size % 5]!;
      return {
        protocol: icmpProtocol,
        payload: icmp(type, tooBig && family === 0 ? 4 : 0, tooBig ? mtu : 0, quoted),
      };
    }
    case 'nested': {
      const inner = ip(source, destination, 17, udp(from, to, data));
      return { protocol: family === 0 ? 4 : 41, payload: inner };
    }
    case 'other':
      return { protocol: [132, 47, 2, 103, 255][size % 5]!, payload: data };
  }
}

/** An IKE header, version by size; the SPIs name a few devices and peers. */
function ike(plan: PacketPlan, direction: Direction): Uint8Array {
  const message = new Uint8Array(28 + (plan.size % 64));
  const view = new DataView(message.buffer);
  const began = plan.spi % 2 === 0;
  const [device, peer] = [0xaaaa_0000 + (plan.port % 3), plan.spi === 7 ? 0 : 0xbbbb_0000 + (plan.spi % 3)];
  view.setUint32(0, began ? device : peer);
  view.setUint32(8, began ? peer : device);
  message[17] = plan.port % 5 === 4 ? 0x10 : 0x20;
  message[19] = began === (direction === 'up') ? 0x08 : 0;
  return message;
}

const FILLER = Uint8Array.from({ length: 4096 }, (_, i) => (i * 7 + 3) & 0xff);

function filler(octets: number): Uint8Array {
  return FILLER.slice(0, octets);
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
