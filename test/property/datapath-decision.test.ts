import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decideDownlink } from '../../src/datapath/decision/downlink.ts';
import { packetHeaders, readPacket } from '../../src/datapath/decision/packet.ts';
import { type LeaseEntry, LeaseTables } from '../../src/datapath/decision/tables.ts';
import { decideUplink } from '../../src/datapath/decision/uplink.ts';
import { DOWNLINK_DROPS, ECHO, UPLINK_DROPS } from '../../src/datapath/decision/verdict.ts';
import { ah, echo, esp, icmp, ip, lease, quote, tcp, udp } from '../unit/datapath/packets.ts';

const SHARED = ['203.0.113.7', '2001:db8::7'] as const;
const WHOLE = ['203.0.113.8', '2001:db8::8'] as const;
const PEERS = ['198.51.100.9', '2001:db8:ffff::9'] as const;
const RUNS = { numRuns: 1500 };

interface Layout {
  readonly portBits: number;
  readonly spiBits: number;
  /** Slot of the block that each session holds; -1: none. */
  readonly ports: readonly number[];
  readonly spis: readonly number[];
}

const layouts: fc.Arbitrary<Layout> = fc.record({
  portBits: fc.integer({ min: 0, max: 10 }),
  spiBits: fc.integer({ min: 0, max: 24 }),
  ports: fc.uniqueArray(fc.integer({ min: 0, max: 40 }), { minLength: 2, maxLength: 8 }),
  spis: fc.uniqueArray(fc.integer({ min: 1, max: 127 }), { minLength: 8, maxLength: 8 }),
});

function build({ portBits, spiBits, ports, spis }: Layout): LeaseTables<number> {
  const tables = new LeaseTables<number>();
  for (const address of SHARED) {
    ports.forEach((slot, session) => {
      const held = {
        address,
        ports: { first: slot << portBits, count: 1 << portBits },
        spis: { first: (spis[session]! << spiBits) >>> 0, count: 1 << spiBits },
      };
      // Every third session has no IPsec.
      const plain = session % 3 === 2;
      tables.put(
        lease(plain ? { ...held, kind: 'rsap-ip', spis: null } : { ...held, kind: 'rsipsec' }),
        session,
        1000,
        0,
      );
    });
  }
  for (const address of WHOLE) tables.put(lease({ kind: 'rsa-ip', address }), 0, 1000, 0);
  return tables;
}

function down(tables: LeaseTables<number>, packet: Uint8Array): LeaseEntry<number> | string {
  const headers = packetHeaders();
  if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
  return decideDownlink(tables, packet, headers, 0);
}

function up(tables: LeaseTables<number>, session: number, packet: Uint8Array): string | null {
  const headers = packetHeaders();
  if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
  return decideUplink(tables, session, packet, headers, 0);
}

const anyPacket = (from: (family: number) => string, to: (family: number) => string) =>
  fc
    .record({
      family: fc.integer({ min: 0, max: 1 }),
      kind: fc.constantFrom('udp', 'tcp', 'esp', 'ah', 'echo', 'reply', 'error', 'sctp', 'ike'),
      a: fc.integer({ min: 0, max: 65535 }),
      b: fc.integer({ min: 0, max: 65535 }),
      spi: fc.integer({ min: 0, max: 0xffff_ffff }),
    })
    .map(({ family, kind, a, b, spi }) => {
      const source = from(family);
      const destination = to(family);
      const icmpProtocol = family === 0 ? 1 : 58;
      switch (kind) {
        case 'udp':
          return ip(source, destination, 17, udp(a, b));
        case 'ike':
          return ip(source, destination, 17, udp(500, 500, new Uint8Array(28).fill(a & 0xff)));
        case 'tcp':
          return ip(source, destination, 6, tcp(a, b));
        case 'esp':
          return ip(source, destination, 50, esp(spi));
        case 'ah':
          return ip(source, destination, 51, ah(spi));
        case 'echo':
          return ip(source, destination, icmpProtocol, echo(family === 0 ? 8 : 128, a));
        case 'reply':
          return ip(source, destination, icmpProtocol, echo(family === 0 ? 0 : 129, a));
        case 'error': {
          const about = ip(destination, source, 17, udp(b, a));
          return ip(source, destination, icmpProtocol, icmp(family === 0 ? 3 : 1, 1, 0, quote(about)));
        }
        default:
          return ip(source, destination, 132, new Uint8Array(12));
      }
    });

const fromPeer = anyPacket(
  (f) => PEERS[f]!,
  (f) => SHARED[f]!,
);
const fromShared = anyPacket(
  (f) => SHARED[f]!,
  (f) => PEERS[f]!,
);

it('any octets of any length get a verdict that has a name, in both directions', () => {
  const tables = build({ portBits: 4, spiBits: 4, ports: [0, 1, 2], spis: [1, 2, 3, 4, 5, 6, 7, 8] });
  // Leases that look deeper: for one port of one remote, and with IKE SPIs of their own.
  SHARED.forEach((address, family) => {
    const remote = { address: PEERS[family]!, port: 53 };
    const ikeSpis = { first: 0, count: 0x1_0000 };
    const share = { ports: { first: 1024, count: 16 }, spis: { first: 4096, count: 16 } };
    tables.put(lease({ kind: 'rsipsec', address, ...share, remote, ikeSpis }), 0, 1000, 0);
  });
  const damaged = fc
    .tuple(
      fc.oneof(fromPeer, fromShared),
      fc.array(fc.tuple(fc.nat(200), fc.nat(255)), { maxLength: 6 }),
      fc.nat(8),
    )
    .map(([packet, changes, cut]) => {
      const copy = packet.slice(0, packet.length - cut);
      for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
      return copy;
    });
  const names: string[] = [ECHO, ...Object.keys(DOWNLINK_DROPS), ...Object.keys(UPLINK_DROPS)];
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 120 }), damaged), (octets) => {
      const verdict = down(tables, octets);
      if (typeof verdict === 'string') expect(names).toContain(verdict);
      const drop = up(tables, 0, octets);
      if (drop !== null) expect(names).toContain(drop);
    }),
    RUNS,
  );
});

it('a packet is read only inside its own range', () => {
  fc.assert(
    fc.property(fromPeer, fc.uint8Array({ minLength: 1, maxLength: 64 }), fc.nat(64), (packet, noise, at) => {
      const tables = build({ portBits: 4, spiBits: 4, ports: [0, 1, 2], spis: [1, 2, 3, 4, 5, 6, 7, 8] });
      const buffer = new Uint8Array(at + packet.length + noise.length);
      buffer.fill(noise[0]!, 0, at);
      buffer.set(packet, at);
      buffer.set(noise, at + packet.length);
      const headers = packetHeaders();
      expect(readPacket(buffer, at, packet.length, headers)).toBe(true);
      const there = decideDownlink(tables, buffer, headers, 0);
      const alone = down(tables, packet);
      const name = (verdict: typeof alone) => (typeof verdict === 'string' ? verdict : verdict.session);
      expect(name(there)).toBe(name(alone));
    }),
    { numRuns: 500 },
  );
});

it('R25, R35, R38: nobody but the holder of a port or an SPI receives on it or sends from it', () => {
  fc.assert(
    fc.property(
      layouts,
      fc.array(fromPeer, { maxLength: 20 }),
      fc.array(fromShared, { maxLength: 20 }),
      (layout, ins, outs) => {
        const tables = build(layout);
        for (const packet of ins) {
          const verdict = down(tables, packet);
          if (typeof verdict === 'string') continue;
          const at = packet[0]! >> 4 === 4 ? 20 : 40;
          const protocol = packet[at === 20 ? 9 : 6]!;
          const view = new DataView(packet.buffer, packet.byteOffset + at);
          if (protocol === 6 || protocol === 17) {
            expect(view.getUint16(2) >> layout.portBits).toBe(layout.ports[verdict.session]);
          } else if (protocol === 50 || protocol === 51) {
            expect(view.getUint32(protocol === 50 ? 0 : 4) >>> layout.spiBits).toBe(
              layout.spis[verdict.session],
            );
          }
        }
        for (const packet of outs) {
          const senders = layout.ports.flatMap((_, session) =>
            up(tables, session, packet) === null ? [session] : [],
          );
          const protocol = packet[packet[0]! >> 4 === 4 ? 9 : 6]!;
          // The far side's SPI says nothing of the sender; for everything else only one device may be it.
          if (protocol !== 50 && protocol !== 51) expect(senders.length).toBeLessThanOrEqual(1);
        }
      },
    ),
    { numRuns: 500 },
  );
});

it('the reply to whatever a device may send is delivered to that very device', () => {
  fc.assert(
    fc.property(
      layouts,
      fc.record({
        family: fc.integer({ min: 0, max: 1 }),
        session: fc.nat(7),
        within: fc.nat(0xff_ffff),
        far: fc.nat(65535),
        peerSpi: fc.integer({ min: 256, max: 0xffff_ffff }),
        kind: fc.constantFrom('udp', 'tcp', 'esp', 'ah', 'echo'),
      }),
      (layout, { family, session: any, within, far, peerSpi, kind }) => {
        const tables = build(layout);
        const session = any % layout.ports.length;
        const [here, there] = [SHARED[family]!, PEERS[family]!];
        const port = (layout.ports[session]! << layout.portBits) + (within % (1 << layout.portBits));
        const spi = ((layout.spis[session]! << layout.spiBits) >>> 0) + (within % (1 << layout.spiBits));
        const icmpProtocol = family === 0 ? 1 : 58;
        const pairs = {
          udp: [ip(here, there, 17, udp(port, far)), ip(there, here, 17, udp(far, port))],
          tcp: [ip(here, there, 6, tcp(port, far)), ip(there, here, 6, tcp(far, port))],
          esp: [ip(here, there, 50, esp(peerSpi)), ip(there, here, 50, esp(spi))],
          ah: [ip(here, there, 51, ah(peerSpi)), ip(there, here, 51, ah(spi))],
          echo: [
            ip(here, there, icmpProtocol, echo(family === 0 ? 8 : 128, far)),
            ip(there, here, icmpProtocol, echo(family === 0 ? 0 : 129, far)),
          ],
        } as const;
        const [sent, reply] = pairs[kind];
        const allowed = up(tables, session, sent);
        const plain = session % 3 === 2;
        expect(allowed).toBe(plain && (kind === 'esp' || kind === 'ah') ? 'ipsec-unallowed' : null);
        if (allowed !== null) return;
        const verdict = down(tables, reply);
        expect(typeof verdict === 'string' ? verdict : verdict.session).toBe(session);
        // So does an error about it, from anywhere on the way.
        const error = icmp(family === 0 ? 11 : 3, 0, 0, quote(sent));
        const blamed = down(tables, ip(['192.0.2.1', '2001:db8:2::1'][family]!, here, icmpProtocol, error));
        expect(typeof blamed === 'string' ? blamed : blamed.session).toBe(session);
      },
    ),
    RUNS,
  );
});
