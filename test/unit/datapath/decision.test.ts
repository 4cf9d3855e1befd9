import { beforeEach, describe, expect, it } from 'vitest';
import { decideDownlink } from '../../../src/datapath/decision/downlink.ts';
import { packetHeaders, readPacket } from '../../../src/datapath/decision/packet.ts';
import { LEARNING, LeaseTables } from '../../../src/datapath/decision/tables.ts';
import { decideUplink } from '../../../src/datapath/decision/uplink.ts';
import { DOWNLINK_DROPS, UPLINK_DROPS } from '../../../src/datapath/decision/verdict.ts';
import { parseAddress } from '../../../src/protocol/address.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { ah, echo, esp, extended, icmp, ip, lease, quote, tcp, udp } from './packets.ts';

const SHARED = '203.0.113.7';
const SHARED6 = '2001:db8::7';
const WHOLE = '203.0.113.8';
const WHOLE6 = '2001:db8::8';
const ENDPOINT = '203.0.113.1';
const HOST = '192.0.2.200';
const HOST6 = '2001:db8:2::200';
const PEER = '198.51.100.9';
const PEER6 = '2001:db8:ffff::9';
const END = 60_000;

type Name = 'ann' | 'bob' | 'cyd' | 'eve';
let tables: LeaseTables<Name>;

beforeEach(() => {
  tables = new LeaseTables();
  tables.addEndpoint(parseAddress(ENDPOINT));
  tables.setHost([HOST, HOST6].map((text) => parseAddress(text)));
  const share = (name: Name, address: string, port: number, spi: number | null) =>
    tables.put(
      lease({
        kind: spi === null ? 'rsap-ip' : 'rsipsec',
        address,
        ports: { first: port, count: 64 },
        spis: spi === null ? null : { first: spi, count: 16 },
      }),
      name,
      END,
      0,
    );
  for (const address of [SHARED, SHARED6]) {
    share('ann', address, 1024, 0x1000_0000);
    share('bob', address, 1088, 0xffff_fff0);
    share('cyd', address, 2048, null);
  }
  tables.put(lease({ kind: 'rsa-ip', address: WHOLE }), 'bob', END, 0);
  tables.put(lease({ kind: 'rsa-ip', address: WHOLE6 }), 'cyd', END, 0);
});

function down(packet: Uint8Array, nowMs = 0): string {
  const headers = packetHeaders();
  if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
  const verdict = decideDownlink(tables, packet, headers, nowMs);
  return typeof verdict === 'string' ? verdict : verdict.session;
}

function up(session: Name, packet: Uint8Array, nowMs = 0): string {
  const headers = packetHeaders();
  if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
  return decideUplink(tables, session, packet, headers, nowMs) ?? 'forwarded';
}

const short = (packet: Uint8Array, octets: number) => packet.subarray(0, packet.length - octets);

const DOWNLINK: readonly (readonly [string, () => Uint8Array, string])[] = [
  ['UDP to the first port of a block', () => ip(PEER, SHARED, 17, udp(53, 1024)), 'ann'],
  ['UDP to the last port of a block', () => ip(PEER, SHARED, 17, udp(53, 1087)), 'ann'],
  ['UDP to the first port of the next block', () => ip(PEER, SHARED, 17, udp(53, 1088)), 'bob'],
  ['TCP to a port', () => ip(PEER, SHARED, 6, tcp(443, 2111)), 'cyd'],
  ['UDP behind the last block', () => ip(PEER, SHARED, 17, udp(53, 2112)), 'unleased-port'],
  ['UDP to port 0', () => ip(PEER, SHARED, 17, udp(53, 0)), 'unleased-port'],
  ['UDP over IPv6', () => ip(PEER6, SHARED6, 17, udp(53, 1100)), 'bob'],
  ['ESP to the first SPI of a block', () => ip(PEER, SHARED, 50, esp(0x1000_0000)), 'ann'],
  ['ESP to the highest SPI there is', () => ip(PEER, SHARED, 50, esp(0xffff_ffff)), 'bob'],
  ['ESP to an SPI of nobody', () => ip(PEER, SHARED, 50, esp(0x1000_0010)), 'unleased-spi'],
  ['ESP to a reserved SPI', () => ip(PEER, SHARED, 50, esp(255)), 'unleased-spi'],
  ['AH to an SPI', () => ip(PEER, SHARED, 51, ah(0x1000_000f)), 'ann'],
  ['AH over IPv6', () => ip(PEER6, SHARED6, 51, ah(0xffff_fff1)), 'bob'],
  [
    'ESP behind destination options',
    () => ip(PEER6, SHARED6, 60, extended(50, esp(0xffff_fff1), [60])),
    'bob',
  ],
  ['any protocol to a whole address', () => ip(PEER, WHOLE, 132, new Uint8Array(3)), 'bob'],
  ['an echo request to a whole address', () => ip(PEER, WHOLE, 1, echo(8, 1)), 'bob'],
  ['a later fragment to a whole address', () => ip(PEER, WHOLE, 17, new Uint8Array(8), { offset: 9 }), 'bob'],
  ['UDP over IPv6 to a whole address', () => ip(PEER6, WHOLE6, 17, udp(1, 2)), 'cyd'],
  [
    'anything to an address that nobody leases',
    () => ip(PEER, '203.0.113.9', 17, udp(1, 1024)),
    'unleased-address',
  ],
  ['anything to a tunnel endpoint', () => ip(PEER, ENDPOINT, 17, udp(1, 1024)), 'unleased-address'],
  ['a first fragment', () => ip(PEER, SHARED, 17, udp(53, 1024), { moreFragments: true }), 'ann'],
  ['a later fragment', () => ip(PEER, SHARED, 17, udp(53, 1024), { offset: 3 }), 'fragment'],
  ['a later IPv6 fragment', () => ip(PEER6, SHARED6, 44, extended(17, udp(53, 1024), [44], 8)), 'fragment'],
  ['a first IPv6 fragment', () => ip(PEER6, SHARED6, 44, extended(17, udp(53, 1024), [44], 1)), 'ann'],
  ['an echo request', () => ip(PEER, SHARED, 1, echo(8, 7)), 'echo'],
  ['an echo request from everybody', () => ip('255.255.255.255', SHARED, 1, echo(8, 7)), 'icmp-request'],
  ['IKE that nobody began', () => ip(PEER, SHARED, 17, udp(500, 500, new Uint8Array(28))), 'ike-unmatched'],
  ['a NAT keepalive', () => ip(PEER, SHARED, 17, udp(4500, 4500, Uint8Array.of(0xff))), 'nat-keepalive'],
  ['an echo reply that nobody asked for', () => ip(PEER, SHARED, 1, echo(0, 7)), 'icmp-unasked'],
  [
    'a redirect',
    () => ip(PEER, SHARED, 1, icmp(5, 1, 0, quote(ip(SHARED, PEER, 17, udp(1024, 53))))),
    'icmp-other',
  ],
  ['a protocol without ports', () => ip(PEER, SHARED, 132, new Uint8Array(12)), 'other-protocol'],
  ["the other IP version's ICMP", () => ip(PEER, SHARED, 58, echo(129, 7)), 'other-protocol'],
  ['ports cut short', () => ip(PEER, SHARED, 17, new Uint8Array(7)), 'malformed'],
  ['an IPv4 length beyond the packet', () => short(ip(PEER, SHARED, 17, udp(53, 1024)), 1), 'malformed'],
  [
    'octets behind the IPv4 length',
    () => Uint8Array.of(...ip(PEER, SHARED, 17, udp(53, 1024)), 0),
    'malformed',
  ],
  ['an IPv6 length beyond the packet', () => short(ip(PEER6, SHARED6, 17, udp(53, 1024)), 1), 'malformed'],
  [
    'an extension header beyond the packet',
    () => ip(PEER6, SHARED6, 60, Uint8Array.of(17, 9, 0, 0, 0, 0, 0, 0)),
    'malformed',
  ],
  [
    'nine extension headers',
    () => ip(PEER6, SHARED6, 60, extended(17, udp(1, 1024), Array(9).fill(60))),
    'malformed',
  ],
  ['neither IPv4 nor IPv6', () => new Uint8Array(40).fill(0x75), 'malformed'],
  ['nothing', () => new Uint8Array(0), 'malformed'],
];

it('R31: a first contact from outside reaches the holder of the port at once, and nobody before there is one', () => {
  const knock = ip(PEER, SHARED, 6, tcp(40_000, 1030));
  expect(down(knock)).toBe('ann');
  tables = new LeaseTables();
  expect(down(knock)).not.toBe('ann');
});

describe('a packet from the public side', () => {
  it.each(DOWNLINK)('R38: %s → %s', (_name, packet, verdict) => {
    expect(down(packet())).toBe(verdict);
  });

  it('R19: is refused at the very end of the lease and delivered a moment before', () => {
    for (const packet of [ip(PEER, SHARED, 17, udp(53, 1024)), ip(PEER, WHOLE, 17, udp(53, 1024))]) {
      expect(down(packet, END - 0.001)).not.toBe('expired');
      expect(down(packet, END)).toBe('expired');
    }
  });

  const errorAbout = (packet: Uint8Array, type = 3, code = 1, rest = 0) =>
    ip('192.0.2.1', SHARED, 1, icmp(type, code, rest, quote(packet)));

  it('R42: as an ICMP error goes to who sent the quoted packet, by 8 octets of it', () => {
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(1090, 53))))).toBe('bob');
    expect(down(errorAbout(ip(SHARED, PEER, 6, tcp(2048, 443)), 11, 0))).toBe('cyd');
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(1024, 53)), 3, 4, 1280))).toBe('ann');
    const tooBig = icmp(2, 0, 1280, quote(ip(SHARED6, PEER6, 17, udp(1090, 53))));
    expect(down(ip(PEER6, SHARED6, 58, tooBig))).toBe('bob');
  });

  it('R42: as an ICMP error is dropped when it quotes what nobody can have sent', () => {
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(9999, 1024))))).toBe('icmp-unmatched');
    expect(down(errorAbout(ip(PEER, SHARED, 17, udp(1024, 1024))))).toBe('icmp-unmatched');
    expect(down(errorAbout(ip(WHOLE, PEER, 17, udp(1024, 53))))).toBe('icmp-unmatched');
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(1024, 53), { offset: 1 })))).toBe('icmp-unmatched');
    const cut = icmp(3, 1, 0, quote(ip(SHARED, PEER, 17, udp(1024, 53)), 7));
    expect(down(ip(PEER, SHARED, 1, cut))).toBe('icmp-unmatched');
  });

  it('R42: as a too-big message that claims less than any link may have is dropped', () => {
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(1024, 53)), 3, 4, 67))).toBe('icmp-other');
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(1024, 53)), 3, 4, 68))).toBe('ann');
    expect(down(errorAbout(ip(SHARED, PEER, 17, udp(1024, 53)), 3, 4, 0))).toBe('ann');
    const tooBig = icmp(2, 0, 1279, quote(ip(SHARED6, PEER6, 17, udp(1090, 53))));
    expect(down(ip(PEER6, SHARED6, 58, tooBig))).toBe('icmp-other');
  });

  it('R42: as an ICMP error about IPsec goes to who used that SPI towards that peer', () => {
    const sent = ip(SHARED, PEER, 50, esp(0xcafe));
    expect(down(errorAbout(sent))).toBe('icmp-unmatched');
    expect(up('bob', sent)).toBe('forwarded');
    expect(down(errorAbout(sent))).toBe('bob');
    expect(down(errorAbout(ip(SHARED, PEER, 51, ah(0xcafe))))).toBe('icmp-unmatched');
    expect(down(errorAbout(ip(SHARED, '198.51.100.10', 50, esp(0xcafe))))).toBe('icmp-unmatched');
  });

  it('R43: as an echo reply goes to who asked that host with that id, for a while', () => {
    expect(up('cyd', ip(SHARED, PEER, 1, echo(8, 77)))).toBe('forwarded');
    expect(down(ip(PEER, SHARED, 1, echo(0, 77)))).toBe('cyd');
    expect(down(ip('198.51.100.10', SHARED, 1, echo(0, 77)))).toBe('icmp-unasked');
    expect(down(errorAbout(ip(SHARED, PEER, 1, echo(8, 77)), 11, 0))).toBe('cyd');
    expect(down(ip(PEER, SHARED, 1, echo(0, 77)), LEARNING.queries.keepMs)).toBe('icmp-unasked');
  });
});

const UPLINK: readonly (readonly [string, Name, () => Uint8Array, string])[] = [
  ['UDP from an own port', 'ann', () => ip(SHARED, PEER, 17, udp(1050, 53)), 'forwarded'],
  ['TCP from an own port', 'cyd', () => ip(SHARED, PEER, 6, tcp(2048, 443)), 'forwarded'],
  ['UDP over IPv6 from an own port', 'bob', () => ip(SHARED6, PEER6, 17, udp(1088, 53)), 'forwarded'],
  ["UDP from another device's port", 'ann', () => ip(SHARED, PEER, 17, udp(1088, 53)), 'unleased-port'],
  ['UDP from a port of nobody', 'ann', () => ip(SHARED, PEER, 17, udp(501, 500)), 'unleased-port'],
  ['no IKE from port 500', 'ann', () => ip(SHARED, PEER, 17, udp(500, 500)), 'ike-malformed'],
  [
    "UDP from another device's whole address",
    'ann',
    () => ip(WHOLE, PEER, 17, udp(1024, 53)),
    'unleased-address',
  ],
  ['UDP from an address of nobody', 'ann', () => ip('10.0.0.1', PEER, 17, udp(1024, 53)), 'unleased-address'],
  ['UDP from a share without a lease', 'eve', () => ip(SHARED, PEER, 17, udp(1024, 53)), 'unleased-address'],
  ['ESP with RSIPSEC', 'ann', () => ip(SHARED, PEER, 50, esp(9)), 'forwarded'],
  ['AH with RSIPSEC', 'bob', () => ip(SHARED, PEER, 51, ah(9)), 'forwarded'],
  ['ESP without RSIPSEC', 'cyd', () => ip(SHARED, PEER, 50, esp(9)), 'ipsec-unallowed'],
  ['AH without RSIPSEC', 'cyd', () => ip(SHARED, PEER, 51, ah(9)), 'ipsec-unallowed'],
  ['ESP without a lease', 'eve', () => ip(SHARED, PEER, 50, esp(9)), 'unleased-address'],
  ['AH from an own whole address', 'bob', () => ip(WHOLE, PEER, 51, ah(9)), 'forwarded'],
  ['ESP from an own whole IPv6 address', 'cyd', () => ip(WHOLE6, PEER6, 50, esp(9)), 'forwarded'],
  [
    'any protocol from an own whole address',
    'bob',
    () => ip(WHOLE, PEER, 132, new Uint8Array(3)),
    'forwarded',
  ],
  [
    'a later fragment from an own whole address',
    'bob',
    () => ip(WHOLE, PEER, 17, udp(1, 2), { offset: 5 }),
    'forwarded',
  ],
  [
    'a later fragment from a share',
    'ann',
    () => ip(SHARED, PEER, 17, udp(1024, 2), { offset: 5 }),
    'fragment',
  ],
  [
    'a first fragment from a share',
    'ann',
    () => ip(SHARED, PEER, 17, udp(1024, 2), { moreFragments: true }),
    'forwarded',
  ],
  [
    'a protocol without ports from a share',
    'ann',
    () => ip(SHARED, PEER, 132, new Uint8Array(12)),
    'other-protocol',
  ],
  [
    'a protocol without ports, without a lease',
    'eve',
    () => ip(SHARED, PEER, 132, new Uint8Array(12)),
    'unleased-address',
  ],
  ['an echo reply from a share', 'ann', () => ip(SHARED, PEER, 1, echo(0, 4)), 'icmp-unallowed'],
  [
    'an error about a packet to an own port',
    'ann',
    () => ip(SHARED, PEER, 1, icmp(3, 3, 0, quote(ip(PEER, SHARED, 17, udp(53, 1024))))),
    'forwarded',
  ],
  [
    'an error about ESP to an own SPI',
    'ann',
    () => ip(SHARED, PEER, 1, icmp(3, 2, 0, quote(ip(PEER, SHARED, 50, esp(0x1000_0001))))),
    'forwarded',
  ],
  [
    "an error about a packet to another's port",
    'bob',
    () => ip(SHARED, PEER, 1, icmp(3, 3, 0, quote(ip(PEER, SHARED, 17, udp(53, 1024))))),
    'icmp-unmatched',
  ],
  [
    "an error about ESP to another's SPI",
    'bob',
    () => ip(SHARED, PEER, 1, icmp(3, 2, 0, quote(ip(PEER, SHARED, 50, esp(0x1000_0001))))),
    'icmp-unmatched',
  ],
  [
    'R47: a packet to another address of the relay host',
    'bob',
    () => ip(WHOLE, HOST, 6, tcp(1, 22)),
    'relay-host',
  ],
  [
    'R47: a packet from a share to an IPv6 address of the relay host',
    'ann',
    () => ip(SHARED6, HOST6, 17, udp(1024, 53)),
    'relay-host',
  ],
  [
    'R47: a packet to a tunnel endpoint',
    'bob',
    () => ip(WHOLE, ENDPOINT, 17, udp(4556, 4556)),
    'own-endpoint',
  ],
  [
    'a packet to the loopback of the relay',
    'bob',
    () => ip(WHOLE, '127.0.0.1', 6, tcp(1, 6379)),
    'unroutable-destination',
  ],
  [
    'a packet to link-local',
    'bob',
    () => ip(WHOLE, '169.254.169.254', 6, tcp(1, 80)),
    'unroutable-destination',
  ],
  ['a packet to multicast', 'bob', () => ip(WHOLE, '224.0.0.1', 17, udp(1, 80)), 'unroutable-destination'],
  ['a packet to ::1', 'cyd', () => ip(WHOLE6, '::1', 17, udp(1, 80)), 'unroutable-destination'],
  ['a packet to fe80::', 'cyd', () => ip(WHOLE6, 'fe80::1', 17, udp(1, 80)), 'unroutable-destination'],
  ['a packet to ff02::', 'cyd', () => ip(WHOLE6, 'ff02::1', 17, udp(1, 80)), 'unroutable-destination'],
  ['ports cut short', 'ann', () => ip(SHARED, PEER, 17, new Uint8Array(7)), 'malformed'],
];

describe('a packet from a device', () => {
  it.each(UPLINK)('R35: %s (%s) → %s', (_name, session, packet, verdict) => {
    expect(up(session, packet())).toBe(verdict);
  });

  it('R19: is refused at the very end of the lease', () => {
    const packets = [udp(1024, 53), esp(9), echo(8, 1)].map((p, i) => ip(SHARED, PEER, [17, 50, 1][i]!, p));
    for (const packet of packets) {
      expect(up('ann', packet, END - 0.001)).toBe('forwarded');
      expect(up('ann', packet, END)).toBe('expired');
    }
    expect(up('bob', ip(WHOLE, PEER, 17, udp(1, 2)), END)).toBe('expired');
  });

  it('R43: with the query id that another device uses towards the same host is refused', () => {
    expect(up('ann', ip(SHARED, PEER, 1, echo(8, 5)))).toBe('forwarded');
    expect(up('bob', ip(SHARED, PEER, 1, echo(8, 5)))).toBe('icmp-id-taken');
    expect(up('bob', ip(SHARED, '198.51.100.10', 1, echo(8, 5)))).toBe('forwarded');
    expect(up('bob', ip(SHARED, PEER, 1, echo(8, 5)), LEARNING.queries.keepMs)).toBe('forwarded');
  });

  it('R34: with more query ids than a lease may have is refused until old ones have run out', () => {
    for (let id = 0; id < LEARNING.queries.perLease; id += 1) {
      expect(up('ann', ip(SHARED, PEER, 1, echo(8, id)))).toBe('forwarded');
    }
    expect(up('ann', ip(SHARED, PEER, 1, echo(8, 999)))).toBe('icmp-quota');
    expect(up('bob', ip(SHARED, PEER, 1, echo(8, 999)))).toBe('forwarded');
    expect(up('ann', ip(SHARED, PEER, 1, echo(8, 1000)), LEARNING.queries.keepMs)).toBe('forwarded');
  });
});

it('R47: only what the host answers to now is refused', () => {
  tables.setHost([parseAddress('192.0.2.201')]);
  expect(up('bob', ip(WHOLE, HOST, 6, tcp(1, 22)))).toBe('forwarded');
  expect(up('bob', ip(WHOLE, '192.0.2.201', 6, tcp(1, 22)))).toBe('relay-host');
});

describe('the tables', () => {
  const block = (first: number, count: number) => ({ first, count });

  it('R25: refuse a lease on what another live lease holds, and change nothing', () => {
    const conflicts = [
      lease({ kind: 'rsa-ip', address: SHARED }),
      lease({ kind: 'rsap-ip', address: WHOLE, ports: block(1024, 64) }),
      lease({ kind: 'rsap-ip', address: SHARED, ports: block(1024, 64) }),
      lease({ kind: 'rsipsec', address: SHARED, ports: block(4096, 64), spis: block(0x1000_0000, 16) }),
      lease({ kind: 'rsa-ip', address: ENDPOINT }),
    ];
    for (const rival of conflicts) {
      expect(() => tables.put(rival, 'eve', END, 0)).toThrow(
        expect.objectContaining({ code: 'ERR_MOORING_LEASE_CONFLICT' }),
      );
    }
    expect(down(ip(PEER, SHARED, 17, udp(53, 1024)))).toBe('ann');
    expect(down(ip(PEER, SHARED, 17, udp(53, 4096)))).toBe('unleased-port');
    expect(down(ip(PEER, WHOLE, 17, udp(53, 1024)))).toBe('bob');
  });

  it('R51: deliver on every SPI of a block from the lease on, before the device has sent anything', () => {
    for (const [to, from] of [
      [SHARED, PEER],
      [SHARED6, PEER6],
    ] as const) {
      for (let n = 0; n < 16; n += 1) {
        expect(down(ip(from, to, 50, esp(0x1000_0000 + n)))).toBe('ann');
        expect(down(ip(from, to, 51, ah(0x1000_0000 + n)))).toBe('ann');
      }
    }
  });

  it('R48: deliver the same SPI on two addresses to two devices', () => {
    const spis = block(0x1000_0000, 16);
    const ports = block(1024, 64);
    tables.put(lease({ kind: 'rsipsec', address: '203.0.113.17', ports, spis }), 'eve', END, 0);
    for (const packet of [
      (to: string) => ip(PEER, to, 50, esp(0x1000_0000)),
      (to: string) => ip(PEER, to, 51, ah(0x1000_0000)),
    ]) {
      expect(down(packet(SHARED))).toBe('ann');
      expect(down(packet('203.0.113.17'))).toBe('eve');
    }
    expect(down(ip(PEER, SHARED, 50, esp(255)))).toBe('unleased-spi');
  });

  it('give what ran out to the next one', () => {
    tables.put(lease({ kind: 'rsap-ip', address: SHARED, ports: block(1024, 64) }), 'eve', 2 * END, END);
    expect(down(ip(PEER, SHARED, 17, udp(53, 1024)), END)).toBe('eve');
    expect(down(ip(PEER, SHARED, 50, esp(0x1000_0000)), END)).toBe('unleased-spi');
  });

  it('refuse SPI blocks of another size, and what is no block', () => {
    const bad: [Partial<Lease>, RegExp][] = [
      [{ ports: block(4097, 64) }, /lease.ports/],
      [{ ports: block(4096, 48) }, /lease.ports/],
      [{ ports: block(4096, 64), spis: block(0x3000_0000, 32) }, /lease.spis/],
    ];
    for (const [fields, field] of bad) {
      const wrong = lease({ kind: 'rsipsec', address: SHARED, ...fields });
      expect(() => tables.put(wrong, 'eve', END, 0)).toThrow(field);
    }
    expect(down(ip(PEER, SHARED, 17, udp(53, 4096)))).toBe('unleased-port');
  });

  describe('with port blocks of several sizes on one address', () => {
    const share = lease({ kind: 'rsap-ip', address: SHARED, ports: block(4096, 64) });
    const whoseAre = (...ports: number[]) =>
      ports.map((port) => down(ip(PEER, SHARED, 17, udp(53, port)))).join(' ');

    it('double a block in place, downwards too, and keep what its lease had', () => {
      tables.put(share, 'eve', END, 0);
      up('eve', ip(SHARED, PEER, 1, echo(8, 5)));
      tables.put({ ...share, ports: block(4096, 128) }, 'eve', END, 0);
      expect(whoseAre(4095, 4096, 4159, 4160, 4223, 4224)).toBe(
        'unleased-port eve eve eve eve unleased-port',
      );
      const upper = lease({ kind: 'rsap-ip', address: SHARED, ports: block(8256, 64) });
      tables.put(upper, 'eve', END, 0);
      tables.put({ ...upper, ports: block(8192, 128) }, 'eve', END, 0);
      expect(whoseAre(8191, 8192, 8256, 8319, 8320)).toBe('unleased-port eve eve eve unleased-port');
      expect(up('eve', ip(SHARED, PEER, 17, udp(8192, 53)))).toBe('forwarded');
      expect(whoseAre(1024, 1088, 2048)).toBe('ann bob cyd');
      expect(down(ip(PEER, SHARED, 1, echo(0, 5)))).toBe('eve');
      tables.remove(share.id);
      expect(whoseAre(4096, 4160, 8192)).toBe('unleased-port unleased-port eve');
    });

    it('find all of them when the smallest comes last', () => {
      const address = '203.0.113.30';
      const put = (name: Name, first: number, count: number) =>
        tables.put(lease({ kind: 'rsap-ip', address, ports: block(first, count) }), name, END, 0);
      put('ann', 2048, 256);
      put('bob', 4096, 128);
      put('cyd', 4224, 64);
      const whose = (port: number) => down(ip(PEER, address, 17, udp(53, port)));
      expect([2047, 2048, 2303, 2304, 4096, 4223, 4224, 4287, 4288].map(whose)).toEqual([
        ...['unleased-port', 'ann', 'ann', 'unleased-port', 'bob', 'bob', 'cyd', 'cyd', 'unleased-port'],
      ]);
    });

    it('refuse what another still has of the other half, and change nothing', () => {
      tables.put(share, 'eve', END, 0);
      tables.put(lease({ kind: 'rsap-ip', address: SHARED, ports: block(4160, 64) }), 'ann', 1_000, 0);
      const doubled = { ...share, ports: block(4096, 128) };
      expect(() => tables.put(doubled, 'eve', END, 999)).toThrow(
        expect.objectContaining({ code: 'ERR_MOORING_LEASE_CONFLICT' }),
      );
      expect(whoseAre(4096, 4160)).toBe('eve ann');
      tables.put(doubled, 'eve', END, 1_000);
      expect(whoseAre(4096, 4160)).toBe('eve eve');
      expect(() =>
        tables.put(lease({ kind: 'rsap-ip', address: SHARED, ports: block(4160, 64) }), 'ann', END, 1_000),
      ).toThrow(/holds it/);
    });
  });

  it('forget a lease, and what was learned for it', () => {
    const held = [...tables.leases()].find((entry) => entry.session === 'ann')!;
    up('ann', ip(SHARED, PEER, 1, echo(8, 5)));
    tables.remove(held.id);
    tables.remove(held.id);
    expect(down(ip(PEER, SHARED, 1, echo(0, 5)))).toBe('icmp-unasked');
    expect(down(ip(PEER, SHARED, 17, udp(53, 1024)))).toBe('unleased-port');
    expect(down(ip(PEER, SHARED, 50, esp(0x1000_0000)))).toBe('unleased-spi');
    expect(up('ann', ip(SHARED, PEER, 17, udp(1024, 53)))).toBe('unleased-address');
  });

  it('move a lease to the session that replaces its own', () => {
    const moved = lease({ kind: 'rsap-ip', address: SHARED, ports: block(4096, 64) });
    tables.put(moved, 'ann', END, 0);
    tables.put(moved, 'eve', END, 0);
    expect(down(ip(PEER, SHARED, 17, udp(53, 4096)))).toBe('eve');
    expect(up('ann', ip(SHARED, PEER, 17, udp(4096, 53)))).toBe('unleased-port');
    expect(up('eve', ip(SHARED, PEER, 17, udp(4096, 53)))).toBe('forwarded');
  });

  it('tell thousands of IPv6 addresses apart', () => {
    for (let i = 1; i <= 1024; i += 1) {
      tables.put(
        lease({ kind: 'rsa-ip', address: `2001:db8:1::${i.toString(16)}` }),
        i % 2 ? 'ann' : 'bob',
        END,
        0,
      );
    }
    for (let i = 1; i <= 1024; i += 1) {
      expect(down(ip(PEER6, `2001:db8:1::${i.toString(16)}`, 17, udp(1, 2)))).toBe(i % 2 ? 'ann' : 'bob');
    }
    for (const held of [...tables.leases()]) tables.remove(held.id);
    expect(down(ip(PEER6, '2001:db8:1::1', 17, udp(1, 2)))).toBe('unleased-address');
  });
});

it('every verdict has a golden packet', () => {
  const source = [...DOWNLINK.map((row) => row[2]), ...UPLINK.map((row) => row[3])];
  const byHand = ['expired', 'ike-cookie-taken', 'icmp-unmatched', 'icmp-id-taken', 'icmp-quota'];
  // remote.test.ts and fragments.test.ts
  byHand.push('undeclared-remote', 'remote-address', 'remote-port', 'ip-id-taken');
  for (const reason of [...Object.keys(DOWNLINK_DROPS), ...Object.keys(UPLINK_DROPS)]) {
    expect([...source, ...byHand]).toContain(reason);
  }
});
