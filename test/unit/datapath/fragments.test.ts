import { beforeEach, describe, expect, it } from 'vitest';
import { FRAGMENTS, FragmentStore } from '../../../src/datapath/decision/fragments.ts';
import { packetHeaders, readPacket } from '../../../src/datapath/decision/packet.ts';
import { PEER, PEER6, SHARED, SHARED6, WHOLE } from './decision-world.ts';
import { anchor, at, EngineRig, install } from './engine-rig.ts';
import { fragment, piece } from './fragment.ts';
import type { HandDevice } from './hand-device.ts';
import { ah, esp, extended, ip, lease, udp } from './packets.ts';

const WIFI = at('192.0.2.10', 40_000);
const OTHER = at('192.0.2.20', 40_000);
let rig: EngineRig;
let ann: HandDevice;
let bob: HandDevice;

beforeEach(() => {
  rig = new EngineRig(0xaaaan);
  anchor(rig);
  const share = (address: string, port: number, spi: number) =>
    lease({
      kind: 'rsipsec',
      address,
      ports: { first: port, count: 64 },
      spis: { first: spi, count: 16 },
    });
  ann = install(rig, 1, [share(SHARED, 1024, 0x1000_0000), share(SHARED6, 1024, 0x1000_0000)]);
  bob = install(rig, 2, [
    share(SHARED, 1088, 0x2000_0000),
    share(SHARED6, 1088, 0x2000_0000),
    lease({ kind: 'rsa-ip', address: WHOLE }),
  ]);
  rig.connect(ann, WIFI);
  rig.connect(bob, OTHER);
  rig.takeSent();
});

/** Packets that the device got in DATA since the last look. */
function received(device: HandDevice, path = WIFI): Uint8Array[] {
  device.received.length = 0;
  for (const { to, octets } of rig.takeSent()) if (to.key === path.key) device.take(octets, rig.nowMs);
  return [...device.received];
}

const big = (octets: number) => Uint8Array.from({ length: octets }, (_, i) => i * 7);
const CUTS = [496, 992, 1488];
const ORDERS: readonly (readonly number[])[] = [
  [0, 1, 2, 3],
  [3, 2, 1, 0],
  [1, 0, 3, 2],
  [2, 3, 0, 1],
];

describe.each([
  ['IPv4', PEER, SHARED],
  ['IPv6', PEER6, SHARED6],
] as const)('fragments of %s', (_name, peer, shared) => {
  const parts = (port = 1090) => fragment(peer, shared, 17, udp(53, port, big(1900)), CUTS);

  it.each(ORDERS)(
    'R39: reach the holder of the port unchanged, whatever comes first (%i %i %i %i)',
    (...order) => {
      const pieces = parts();
      for (const i of order.slice(0, 3)) rig.packet(pieces[i]!);
      expect(rig.takeSent()).toEqual([]);
      rig.packet(pieces[order[3]!]!);
      expect(received(bob, OTHER)).toEqual(pieces);
    },
  );

  it('R39: of IPsec reach the holder of the SPI', () => {
    const pieces = fragment(peer, shared, 50, esp(0x1000_0003, 1, big(1900)), CUTS);
    for (const one of pieces.toReversed()) rig.packet(one);
    expect(received(ann)).toEqual(pieces);
  });

  it('R39: that overlap spoil their datagram, also what comes of it later', () => {
    const pieces = parts();
    const over = (start: number, octets: number, more = true) =>
      piece(peer, shared, 17, new Uint8Array(octets), { start, more });
    for (const bad of [over(488, 16), over(0, 504), over(496, 496), over(1480, 16, false)]) {
      rig.packet(pieces[0]!);
      rig.packet(pieces[1]!);
      rig.packet(pieces[3]!);
      rig.packet(bad);
      rig.packet(pieces[2]!);
      for (const one of pieces) rig.packet(one);
      expect(rig.takeSent()).toEqual([]);
      rig.pass(FRAGMENTS.keepMs);
    }
  });

  it('R39: that come twice are used once', () => {
    const pieces = parts();
    for (const one of [pieces[0]!, pieces[1]!, pieces[1]!, pieces[3]!, pieces[0]!, pieces[2]!])
      rig.packet(one);
    expect(received(bob, OTHER)).toEqual(pieces);
    expect(rig.counters().downlink['fragment-repeated']).toBe(2);
  });

  it('R39: are forgotten after a minute, when one is missing', () => {
    const pieces = parts();
    for (const one of pieces.slice(1)) rig.packet(one);
    rig.pass(FRAGMENTS.keepMs);
    expect(rig.counters().downlink['fragment-timeout']).toBe(1);
    rig.packet(pieces[0]!);
    expect(rig.takeSent()).toEqual([]);
  });

  it('R39: of one datagram are never put together with those of another', () => {
    const one = fragment(peer, shared, 17, udp(53, 1024, big(900)), [496], 1);
    const other = fragment(peer, shared, 17, udp(53, 1090, big(900)), [496], 2);
    rig.packet(one[0]!);
    rig.packet(other[1]!);
    expect(rig.takeSent()).toEqual([]);
    rig.packet(one[1]!);
    expect(received(ann)).toEqual(one);
    rig.packet(other[0]!);
    expect(received(bob, OTHER)).toEqual(other);
  });

  it('R39: from a device leave when the first one proves its port, unchanged', () => {
    const pieces = fragment(shared, peer, 17, udp(1030, 53, big(1900)), CUTS);
    for (const one of pieces.toReversed().slice(0, 3)) rig.datagram(WIFI, ann.data(one));
    expect(rig.takeToNetwork()).toEqual([]);
    rig.datagram(WIFI, ann.data(pieces[0]!));
    expect(rig.takeToNetwork()).toEqual(pieces);
  });

  it('R35: from a device with a port of another leave never, whatever the order', () => {
    const pieces = fragment(shared, peer, 17, udp(1090, 53, big(1900)), CUTS);
    for (const order of ORDERS) for (const i of order) rig.datagram(WIFI, ann.data(pieces[i]!));
    expect(rig.takeToNetwork()).toEqual([]);
    expect(rig.counters().uplink['unleased-port']).toBeGreaterThan(0);
  });

  it('R39: of two devices with the same identification are not mixed', () => {
    const mine = fragment(shared, peer, 17, udp(1030, 53, big(900)), [496]);
    const others = fragment(shared, peer, 17, udp(1090, 53, big(900)), [496]);
    rig.datagram(WIFI, ann.data(mine[0]!));
    rig.datagram(OTHER, bob.data(others[1]!));
    expect(rig.takeToNetwork()).toEqual([]);
    rig.datagram(WIFI, ann.data(mine[1]!));
    expect(rig.takeToNetwork()).toEqual(mine);
  });

  it('R40: of two devices with one identification never reach the same peer while it may mix them', () => {
    const from = (port: number, to: string = peer) =>
      fragment(shared, to, 17, udp(port, 53, big(900)), [496]);
    const send = (path: typeof WIFI, device: HandDevice, pieces: readonly Uint8Array[]) => {
      for (const one of pieces) rig.datagram(path, device.data(one));
      return rig.takeToNetwork();
    };
    expect(send(WIFI, ann, from(1030))).toHaveLength(2);
    expect(send(OTHER, bob, from(1090))).toEqual([]);
    expect(rig.counters().uplink['ip-id-taken']).toBe(1);
    // The same device may send it again; to another peer it is another one; and the next identification is free.
    expect(send(WIFI, ann, from(1030))).toHaveLength(2);
    const elsewhere = shared === SHARED ? '198.51.100.99' : '2001:db8:ffff::99';
    expect(send(OTHER, bob, from(1090, elsewhere))).toHaveLength(2);
    expect(send(OTHER, bob, fragment(shared, peer, 17, udp(1090, 53, big(900)), [496], 0x4243))).toHaveLength(
      2,
    );
    rig.pass(FRAGMENTS.keepMs);
    expect(send(OTHER, bob, from(1090))).toHaveLength(2);
  });

  it('R40: keep identification and DF as the device set them', () => {
    const sent = [
      ip(shared, peer, 17, udp(1030, 53, big(900)), { id: 7, dontFragment: true }),
      ip(shared, peer, 51, ah(9), { id: 7 }),
    ];
    for (const one of sent) rig.datagram(WIFI, ann.data(one));
    expect(rig.takeToNetwork()).toEqual(sent);
  });
});

it('R29: fragments from one port of a remote wait for the one that shows it', () => {
  const remote = { address: PEER, port: 53 };
  const cyd = install(rig, 3, [lease({ kind: 'rsa-ip', address: '203.0.113.9', remote })]);
  rig.connect(cyd, at('192.0.2.30', 40_000));
  rig.takeSent();
  const pieces = (port: number, id: number) =>
    fragment(PEER, '203.0.113.9', 17, udp(port, 9, big(900)), [496], id);
  for (const one of [...pieces(53, 1), ...pieces(54, 2)].toReversed()) rig.packet(one);
  expect(received(cyd, at('192.0.2.30', 40_000))).toEqual(pieces(53, 1));
  expect(rig.counters().downlink['undeclared-remote']).toBe(2);
});

it('R39: fragments of a whole address need no waiting', () => {
  const [first, second] = fragment(PEER, WHOLE, 17, udp(53, 9, big(900)), [496]);
  rig.packet(second!);
  rig.packet(first!);
  expect(received(bob, OTHER)).toEqual([second, first]);
});

it('R39: a fragment within a fragment is malformed', () => {
  rig.packet(ip(PEER6, SHARED6, 44, extended(17, udp(53, 1024), [44, 44], 1)));
  expect(rig.counters().downlink).toEqual({ malformed: 1 });
});

describe('the store of fragments', () => {
  const store = new FragmentStore<string>(16);
  const headers = packetHeaders();
  const add = (owner: string, packet: Uint8Array, nowMs: number) => {
    if (!readPacket(packet, 0, packet.length, headers)) throw new Error('the test made no packet');
    return store.add(owner, packet, headers, nowMs);
  };
  const part = (id: number, start: number, octets: number, more = true) =>
    piece(PEER, SHARED, 17, new Uint8Array(octets), { start, more, id });

  it('R39: stays within its bounds in a flood, and a flood at one address leaves the others alone', () => {
    expect(add('quiet', part(7, 0, 400), 0)).toBe('fragment-waits');
    for (let id = 0; id < 4096; id += 1) add('flooded', part(id, 8, 1200), 1);
    expect(store.load.datagrams).toBeLessThanOrEqual(FRAGMENTS.datagramsPerOwner + 1);
    expect(store.load.octets).toBeLessThanOrEqual(FRAGMENTS.octetsPerOwner + 1000);
    expect(add('quiet', part(7, 400, 8, false), 2)).toHaveLength(2);
    const incomplete = Array.from({ length: 52 }, (_, i) => part(1, 8 + i * 1200, 1200));
    for (let owner = 0; owner < 400; owner += 1) {
      for (const one of incomplete) add(`owner ${owner}`, one, 3);
      if (store.load.octets > FRAGMENTS.octets) throw new Error(`${store.load.octets} octets held`);
    }
    expect(store.takeEvicted()).toBeGreaterThan(4000);
    store.expire(FRAGMENTS.keepMs + 3);
    expect(store.load).toEqual({ datagrams: 0, octets: 0 });
  });

  it('R39: takes no datagram in more pieces than any link makes', () => {
    let outcome = add('a', part(1, 0, 8), 0);
    for (let i = 1; i <= FRAGMENTS.perDatagram; i += 1) outcome = add('a', part(1, i * 8, 8), 0);
    expect(outcome).toBe('fragment-overlap');
    store.expire(FRAGMENTS.keepMs);
  });

  it('R39: takes no fragment that no honest sender makes', () => {
    for (const bad of [part(2, 0, 9), part(2, 65_528, 16), part(2, 65_528, 8), part(2, 8, 0, false)]) {
      expect(add('a', bad, 0)).toBe('fragment-malformed');
    }
    expect(store.load).toEqual({ datagrams: 0, octets: 0 });
  });
});
