import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { programInfo } from '../../../src/linux/bpf-object.ts';
import { ControlChannel } from '../../../src/tunnel/control.ts';
import { openData, sequenceOf } from '../../../src/tunnel/data.ts';
import { deriveControlTagKey } from '../../../src/tunnel/keys.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { DATA, INNER_MTU } from '../../../src/tunnel/wire.ts';
import { ah, esp, icmp, ip, tcp, udp } from '../../unit/datapath/packets.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import {
  BED,
  createBed,
  DEVICE_PORT,
  type Family,
  frameOf,
  INDEX,
  macOctets,
  NEVER,
  NOW_NS,
  putSession,
  putShare,
  putWay,
  putWhole,
  TUNNEL_PORT,
  type XdpBed,
} from './xdp-bed.ts';
import {
  COMBINATIONS,
  DOWNLINK_KEY,
  fromDevice,
  outerOf,
  sealed,
  toTunnel,
  UPLINK_KEY,
  withTtl,
} from './xdp-traffic.ts';

const ROOT = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
const PAYLOADS = [
  ['ESP', 50, esp(0x1000)],
  ['AH', 51, ah(0x1000)],
  ['TCP', 6, tcp(80, 1024)],
  ['UDP of an odd length', 17, udp(53, 1024, new Uint8Array(101).fill(7))],
  [
    'the largest UDP',
    17,
    udp(
      53,
      1024,
      Uint8Array.from({ length: 1232 }, (_, i) => i * 7),
    ),
  ],
] as const;
const FRESH_WINDOW = new Uint8Array(520);

interface Vectors {
  readonly keySchedule: {
    readonly dataKeys: readonly {
      readonly direction: string;
      readonly keyNumber: number;
      readonly key: string;
    }[];
  };
  readonly data: readonly {
    readonly name: string;
    readonly direction: string;
    readonly index: number;
    readonly keyNumber: number;
    readonly lane: number;
    readonly datagram: string;
  }[];
  readonly dataRefused: readonly {
    readonly name: string;
    readonly reason: string;
    readonly datagram: string;
  }[];
}
const VECTORS = JSON.parse(
  readFileSync(new URL('../../vectors/tunnel.json', import.meta.url), 'utf8'),
) as Vectors;

function vectorKey(keyNumber: number): Uint8Array {
  const { dataKeys } = VECTORS.keySchedule;
  return octets(dataKeys.find((each) => each.direction === 'to-relay' && each.keyNumber === keyNumber)!.key);
}

function octets(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

describeAsRoot('the XDP program', () => {
  let bed: XdpBed;
  beforeAll(() => {
    bed = createBed();
  });
  afterAll(() => bed.close());
  beforeEach(() => {
    prepare(4);
    bed.setNow(NOW_NS);
    bed.counted();
    bed.told();
  });

  it.each(COMBINATIONS)('carries IPv%d over IPv%d to the device, every protocol', (inner, outer) => {
    prepare(outer);
    let last = 0;
    for (const [name, protocol, payload] of PAYLOADS) {
      const packet = ip(
        BED[inner].peer,
        BED[inner].whole,
        protocol,
        payload.slice(0, 1280 - (inner === 6 ? 40 : 20)),
      );
      const run = bed.run('public', frameOf('public', packet));
      expect(run.verdict, name).toBe('redirect');
      expect(run.frame.subarray(0, 6)).toEqual(macOctets('02:00:00:00:02:77'));
      const { datagram, ...header } = outerOf(run.frame, outer);
      expect(header).toEqual({
        source: BED[outer].endpoint,
        destination: BED[outer].device,
        sourcePort: TUNNEL_PORT,
        destinationPort: DEVICE_PORT,
        checksum: header.expectedChecksum,
        expectedChecksum: header.expectedChecksum,
        trafficClass: 0,
      });
      const at = openData(sipKey(DOWNLINK_KEY), datagram, 0, datagram.length);
      expect(at, `the device accepts ${name}`).toBe(DATA.inner);
      expect(datagram[0]! & DATA.laneBit, 'lane 1').toBe(DATA.laneBit);
      expect(sequenceOf(datagram, 0)).toBeGreaterThan(last);
      last = sequenceOf(datagram, 0);
      expect(datagram.subarray(at)).toEqual(withTtl(packet, 63));
    }
    expect(bed.counted()).toEqual({ 'downlink/forwarded': PAYLOADS.length });
  });

  it.each(COMBINATIONS)('carries IPv%d over IPv%d from the device, every protocol', (inner, outer) => {
    prepare(outer);
    for (const [at, [name, protocol, payload]] of PAYLOADS.entries()) {
      const packet = ip(BED[inner].whole, BED[inner].peer, protocol, payload);
      const run = bed.run('access', fromDevice(packet, { outer, sequence: at + 1 }));
      expect(bed.counted(), name).toEqual({ 'uplink/forwarded': 1 });
      expect(run.verdict).toBe('redirect');
      expect(run.frame.subarray(0, 6)).toEqual(macOctets('02:00:00:00:01:09'));
      expect(run.frame.subarray(14)).toEqual(withTtl(packet, 63));
    }
    expect(bed.told()).toEqual([]);
  });

  it('takes no padding for a part of the packet', () => {
    const packet = ip(BED[4].peer, BED[4].whole, 6, tcp(80, 1024));
    const { datagram } = outerOf(bed.run('public', frameOf('public', packet, 60)).frame, 4);
    expect(datagram.length).toBe(DATA.inner + 40);
  });

  it('admits exactly the CONTROL datagrams that are tagged for the session, and leaves them to the slow path', () => {
    const channel = new ControlChannel({ root: ROOT, sends: 'to-relay', index: INDEX, boot: 7n });
    const datagram = channel.seal({ kind: 'keepalive', epoch: 1n, echoBoot: 9n, generation: 1 });
    expect(bed.run('access', toTunnel(datagram)).verdict).toBe('pass');
    expect(bed.counted()).toEqual({ 'passed/control': 1 });
    for (let at = 0; at < datagram.length; at += 1) {
      if (at >= 1 && at <= 3) continue; // another index is another session's
      const forged = datagram.slice();
      forged[at]! ^= 0x01;
      expect(bed.run('access', toTunnel(forged)).verdict, `octet ${at}`).toBe('drop');
    }
    expect(bed.run('access', toTunnel(datagram.slice(0, 115))).verdict).toBe('drop');
    const counted = bed.counted();
    expect(counted['control/bad-tag']).toBeGreaterThan(100);
    expect(counted['control/bad-length']).toBe(1);
  });

  it('makes the tags of the golden vectors, and refuses what they refuse', () => {
    const { index, keyNumber } = VECTORS.data[0]!;
    putSession(bed, {
      outer: 4,
      index,
      keyNumber,
      uplinkKey: vectorKey(keyNumber),
      downlinkKey: DOWNLINK_KEY,
    });
    const refusalOf = (datagram: string) => {
      bed.object.maps.windows!.updateAt(0, FRESH_WINDOW, { locked: true });
      bed.counted();
      bed.run('access', toTunnel(octets(datagram)));
      return Object.keys(bed.counted());
    };
    let admitted = 0;
    for (const { name, direction, lane, datagram } of VECTORS.data) {
      if (direction !== 'to-relay' || lane !== 0) continue;
      expect(refusalOf(datagram), name).toEqual([expect.stringMatching(/^passed\/(source|form)$/)]);
      const forged = octets(datagram);
      forged[8]! ^= 1;
      expect(refusalOf(Buffer.from(forged).toString('hex')), name).toEqual(['uplink/bad-tag']);
      admitted += 1;
    }
    expect(admitted).toBeGreaterThan(3);
    for (const { name, reason, datagram } of VECTORS.dataRefused) {
      const type = Number.parseInt(datagram[0] ?? '0', 16);
      // Not DATA of this session at all: told apart before any tag.
      if (datagram.length < 8 || (type !== 1 && type !== 2) || name.startsWith('another ')) continue;
      const said = reason === 'unknown-phase' ? 'passed/unknown-key' : `uplink/${reason}`;
      expect(refusalOf(datagram), name).toEqual([said]);
    }
  });

  it('refuses what was changed on the way, in every octet that a tag covers', () => {
    const packet = ip(BED[4].whole, BED[4].peer, 17, udp(1024, 53));
    const datagram = sealed(packet);
    for (let at = 0; at < datagram.length; at += 1) {
      if (at >= 1 && at <= 3) continue;
      const forged = datagram.slice();
      forged[at]! ^= 0x01;
      const { verdict } = bed.run('access', toTunnel(forged));
      expect(['drop', 'pass'], `octet ${at}`).toContain(verdict);
    }
    expect(bed.counted()['uplink/forwarded']).toBeUndefined();
    expect(bed.run('access', toTunnel(datagram)).verdict, 'and nothing was taken for received').toBe(
      'redirect',
    );
  });

  it('decides nothing without its magic, under another layout, on another interface or for another MAC', () => {
    const frame = frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1)));
    const magic = bed.get('config', 0, 'magic');
    const version = bed.get('config', 0, 'layout_version');
    const expectUntouched = (why: string) => {
      const run = bed.run('public', frame);
      expect(run.verdict, why).toBe('pass');
      expect(run.frame, why).toEqual(frame);
    };
    bed.put('config', 0, { magic: 0n });
    expectUntouched('no magic');
    bed.put('config', 0, { magic, layout_version: version + 1n });
    expectUntouched('another layout');
    bed.put('config', 0, { layout_version: version, 'ports[0].ifindex': 9_999 });
    expectUntouched('another interface');
    bed.put('config', 0, { 'ports[0].ifindex': bed.links.public });
    const others = frame.slice();
    others[5]! ^= 1;
    expect(bed.run('public', others).verdict).toBe('pass');
    expect(bed.counted()).toEqual({});
    expect(bed.run('public', frame).verdict).toBe('redirect');
  });

  it('forwards nothing past the deadline of lease, anchor or key', () => {
    const down = () =>
      bed.run('public', frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1)))).verdict;
    let sequence = 0;
    const up = () => {
      sequence += 1;
      return bed.run('access', fromDevice(ip(BED[4].whole, BED[4].peer, 50, esp(1)), { sequence })).verdict;
    };
    bed.put('sessions', 0, { 'leases[0].until_ns': NOW_NS + 1n });
    expect([down(), up()]).toEqual(['redirect', 'redirect']);
    bed.setNow(NOW_NS + 1n);
    expect([down(), up()]).toEqual(['drop', 'pass']);
    bed.put('sessions', 0, { 'leases[0].until_ns': NEVER });
    bed.put('anchors', 0, { deadline_ns: NOW_NS + 1n });
    expect([down(), up()]).toEqual(['drop', 'drop']);
    expect(bed.counted()).toMatchObject({
      'downlink/expired': 1,
      'passed/source': 1,
      'downlink/anchor-deadline': 1,
      'uplink/anchor-deadline': 1,
    });
    bed.put('anchors', 0, { deadline_ns: NEVER });
    bed.put('sessions', 0, { 'receive[0].until_ns': NOW_NS + 1n });
    expect(up()).toBe('pass');
    expect(bed.counted()).toEqual({ 'passed/unknown-key': 1 });
  });

  it('leaves downlink to the slow path while a session holds, until the hold is over', () => {
    const down = () =>
      bed.run('public', frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1)))).verdict;
    const states = bed.object.btf.enumeration('way_state');
    bed.put('ways', 0, { hold_until_ns: NOW_NS + 5n, state: states.get('WAY_HOLD')! });
    expect(down()).toBe('pass');
    bed.setNow(NOW_NS + 5n);
    expect(down()).toBe('redirect');
    bed.put('ways', 0, { state: states.get('WAY_NONE')! });
    expect(down()).toBe('pass');
  });

  it('keeps devices from being refused while no process reads the tunnel port', () => {
    const unknown = () =>
      bed.run('access', fromDevice(ip(BED[4].whole, BED[4].peer, 50, esp(1)), { index: 5 })).verdict;
    expect(unknown()).toBe('pass');
    bed.put('config', 0, { alive_until_ns: NOW_NS });
    expect(unknown()).toBe('drop');
    expect(bed.counted()).toEqual({ 'passed/endpoint': 1, 'control/process-away': 1 });
    const forwarded = bed.run('access', fromDevice(ip(BED[4].whole, BED[4].peer, 50, esp(1))));
    expect(forwarded.verdict, 'while what it decides itself goes on').toBe('redirect');
    bed.put('config', 0, { alive_until_ns: NEVER });
  });

  it('tells blocks of a shared address apart, and drops what nobody leases', () => {
    putShare(bed, BED[4].shared, { ports: { first: 1024, shift: 6 }, spis: { first: 0x4000, shift: 8 } });
    const down = (protocol: number, payload: Uint8Array) =>
      bed.run('public', frameOf('public', ip(BED[4].peer, BED[4].shared, protocol, payload))).verdict;
    expect(down(17, udp(9, 1024))).toBe('redirect');
    expect(down(6, tcp(9, 1087))).toBe('redirect');
    expect(down(17, udp(9, 1088))).toBe('drop');
    expect(down(50, esp(0x40ff))).toBe('redirect');
    expect(down(51, ah(0x4000))).toBe('redirect');
    expect(down(50, esp(0x4100))).toBe('drop');
    expect(down(17, udp(4500, 4500, esp(0x4001)))).toBe('redirect');
    expect(down(17, udp(4500, 4500, esp(0x5001)))).toBe('drop');
    expect(down(17, udp(4500, 4500, new Uint8Array(40))), 'IKE behind the marker').toBe('pass');
    expect(down(17, udp(500, 500, new Uint8Array(40)))).toBe('pass');
    expect(down(1, icmp(8, 0, 1))).toBe('pass');
    expect(bed.counted()).toMatchObject({ 'downlink/unleased-port': 1, 'downlink/unleased-spi': 2 });
    putShare(bed, BED[4].shared, { ports: { first: 1024, shift: 6 }, complete: false });
    expect(down(17, udp(9, 1088)), 'not known whether it is leased').toBe('pass');
  });

  it('lets out of a shared address what its lease allows, and reports whom ESP went to once a minute', () => {
    putShare(bed, BED[4].shared, { ports: { first: 1024, shift: 6 }, spis: { first: 0x4000, shift: 8 } });
    let sequence = 0;
    const up = (protocol: number, payload: Uint8Array) => {
      sequence += 1;
      return bed.run('access', fromDevice(ip(BED[4].shared, BED[4].peer, protocol, payload), { sequence }))
        .verdict;
    };
    expect(up(17, udp(1030, 53))).toBe('redirect');
    expect(up(17, udp(1088, 53))).toBe('pass');
    expect(up(50, esp(0xbeef))).toBe('redirect');
    expect(up(50, esp(0xbeef))).toBe('redirect');
    expect(up(17, udp(4500, 4500, esp(0xcafe)))).toBe('redirect');
    expect(up(17, udp(4500, 4500, new Uint8Array(40)))).toBe('pass');
    const learned = bed.told().map(({ kind, spi, protocol, lease }) => ({ kind, spi, protocol, lease }));
    const kind = BigInt(bed.object.btf.enumeration('event_kind').get('EVENT_LEARNED')!);
    expect(learned).toEqual([
      { kind, spi: 0xbeefn, protocol: 50n, lease: 0n },
      { kind, spi: 0xcafen, protocol: 17n, lease: 0n },
    ]);
    bed.setNow(NOW_NS + 61_000_000_000n);
    up(50, esp(0xbeef));
    expect(bed.told()).toHaveLength(1);
  });

  it('tells the process of strays, refusals, notices and worn keys, seldom', () => {
    const kinds = bed.object.btf.enumeration('event_kind');
    const up = (options: Parameters<typeof fromDevice>[1], to: string = BED[4].peer) =>
      bed.run('access', fromDevice(ip(BED[4].whole, to, 50, esp(1)), options)).verdict;
    const told = () =>
      bed.told().map(({ kind, port, octets }) => [Number(kind), Number(port), Number(octets)]);
    bed.setNow(2n * NOW_NS);
    for (let sequence = 1; sequence <= 5; sequence += 1) up({ sequence, from: BED[4].moved, port: 777 });
    expect(told()).toEqual([[kinds.get('EVENT_STRAY'), 777, DATA.inner + 60]]);
    for (let i = 0; i < 5; i += 1) up({ sequence: 3 });
    expect(told().map(([kind]) => kind)).toEqual([kinds.get('EVENT_REFUSED')]);
    up({ sequence: 10 }, BED[4].endpoint);
    up({ sequence: 11 }, '127.0.0.1');
    expect(
      told().map(([kind]) => kind),
      'two a second',
    ).toEqual([kinds.get('EVENT_NOTICE')]);
    bed.setNow(3n * NOW_NS);
    bed.put('config', 0, { rekey_after: 100 });
    up({ sequence: 100 });
    bed.put('config', 0, { rekey_after: 0xffff_0000 });
    expect(told().map(([kind]) => kind)).toEqual([kinds.get('EVENT_REKEY')]);
    expect(up({ sequence: 50, from: BED[4].moved }), 'an older one says nothing of where the device is').toBe(
      'redirect',
    );
    expect(told()).toEqual([]);
  });

  it('holds a session to its rate', () => {
    const down = () =>
      bed.run('public', frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1)))).verdict;
    // 60 octets at 1 µs an octet: 60 µs a packet, three of them at once
    bed.put('meters', 0, { 'downlink.ns_per_octet_q16': 1000n << 16n, 'downlink.burst_ns': 180_000n });
    expect([down(), down(), down(), down()]).toEqual(['redirect', 'redirect', 'redirect', 'drop']);
    bed.setNow(NOW_NS + 60_000n);
    expect([down(), down()]).toEqual(['redirect', 'drop']);
    expect(bed.counted()).toEqual({ 'downlink/forwarded': 4, 'downlink/policed': 2 });
    bed.put('meters', 0, { 'downlink.ns_per_octet_q16': 0n });
  });

  it('meters inner octets and numbers every packet once', () => {
    bed.put('meters', 0, {
      downlink_packets: 0n,
      downlink_octets: 0n,
      uplink_packets: 0n,
      uplink_octets: 0n,
    });
    bed.put('ways', 0, { 'last_sequence[1]': 41 });
    const { datagram } = outerOf(
      bed.run('public', frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1)))).frame,
      4,
    );
    expect(sequenceOf(datagram, 0)).toBe(42);
    bed.run('access', fromDevice(ip(BED[4].whole, BED[4].peer, 50, esp(1))));
    const meter = (name: string) => bed.get('meters', 0, name);
    expect([meter('downlink_packets'), meter('downlink_octets')]).toEqual([1n, 60n]);
    expect([meter('uplink_packets'), meter('uplink_octets')]).toEqual([1n, 60n]);
    bed.put('ways', 0, { 'last_sequence[1]': 0x8000_0000 });
    const worn = bed.run('public', frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1))));
    expect(worn.verdict).toBe('drop');
    expect(bed.counted()).toMatchObject({ 'downlink/key-exhausted': 1 });
  });

  it('leaves to the slow path what it does not understand, untouched', () => {
    const other = (packet: Uint8Array) => {
      const frame = frameOf('public', packet);
      const run = bed.run('public', frame);
      expect(run.frame).toEqual(frame);
      return run.verdict;
    };
    const { peer, whole } = BED[4];
    expect(other(ip(peer, whole, 50, esp(1), { ttl: 1 }))).toBe('pass');
    expect(other(ip(peer, whole, 17, udp(1, 2), { moreFragments: true }))).toBe('pass');
    expect(other(ip(peer, whole, 17, udp(1, 2), { offset: 3 }))).toBe('pass');
    expect(other(ip(peer, whole, 17, udp(1, 2, new Uint8Array(INNER_MTU - 27))))).toBe('pass');
    expect(other(ip(BED[6].peer, BED[6].whole, 0, new Uint8Array(16)))).toBe('pass');
    expect(other(ip(peer, '203.0.113.200', 50, esp(1))), 'leased by nobody').toBe('pass');
    putWay(bed, { slot: 0, keyNumber: 1, key: DOWNLINK_KEY, address: '192.0.2.99' });
    expect(other(ip(peer, whole, 50, esp(1))), 'no neighbour of that address').toBe('pass');
  });

  it('reads frames of every length without a fault', () => {
    for (const frame of [
      frameOf('public', ip(BED[4].peer, BED[4].whole, 50, esp(1))),
      frameOf('public', ip(BED[6].peer, BED[6].whole, 17, udp(1, 2))),
    ]) {
      for (let length = 14; length < frame.length; length += 1) {
        expect(bed.run('public', frame.slice(0, length)).verdict, `${length} octets`).toBe('pass');
      }
    }
    const datagram = fromDevice(ip(BED[4].whole, BED[4].peer, 17, udp(1, 2)));
    for (let length = 14; length < datagram.length; length += 1) {
      expect(bed.run('access', datagram.slice(0, length)).verdict, `${length} octets`).toBe('pass');
    }
  });

  it('takes an address for nobody else only as long as the index does not change', () => {
    const address = bed.object.btf.enumeration('index_kind').get('INDEX_ADDRESS')!;
    let sequence = 0;
    const up = () => {
      sequence += 1;
      return bed.run('access', fromDevice(ip(BED[4].whole, BED[4].peer, 50, esp(1)), { sequence })).verdict;
    };
    bed.put('config', 0, { index_generation: 1 });
    expect([up(), up()]).toEqual(['redirect', 'redirect']);
    putWhole(bed, BED[4].peer, { place: 1 });
    bed.put('config', 0, { index_generation: 2 });
    expect([up(), up()], 'leased here now').toEqual(['pass', 'pass']);
    bed.unindex(BED[4].peer, address, 0);
    bed.put('config', 0, { index_generation: 3 });
    expect([up(), up()]).toEqual(['redirect', 'redirect']);
    bed.put('config', 0, { index_generation: 0 });
  });

  it('stays within what the verifier and the stack allow, by far', () => {
    const { instructions, verifiedInstructions, jitedBytes } = programInfo(bed.object.program('relay'));
    const [, stack = ''] = /stack depth ([\d+]+)/.exec(bed.object.verifierLog) ?? [];
    const [, micros = ''] = /verification time (\d+) usec/.exec(bed.object.verifierLog) ?? [];
    expect(instructions, 'instructions').toBeLessThan(12_000);
    expect(verifiedInstructions, 'walked by the verifier, of a million').toBeLessThan(400_000);
    expect(jitedBytes).toBeLessThan(60_000);
    const [main = 0, ...others] = stack.split('+').map(Number);
    expect(main + Math.max(...others), 'octets of stack, of 512').toBeLessThanOrEqual(480);
    expect(Number(micros), 'microseconds of verification').toBeLessThan(20_000_000);
  });

  function prepare(outer: Family): void {
    putSession(bed, {
      outer,
      uplinkKey: UPLINK_KEY,
      downlinkKey: DOWNLINK_KEY,
      controlKey: deriveControlTagKey(ROOT, 'to-relay'),
    });
    bed.put('sessions', 0, { event_at: new Uint8Array(16) });
    putWhole(bed, BED[4].whole, { place: 0 });
    putWhole(bed, BED[6].whole, { place: 1 });
    for (const family of [4, 6] as const) {
      const { enumeration } = bed.object.btf;
      const address = enumeration('index_kind').get('INDEX_ADDRESS')!;
      bed.index(BED[family].endpoint, address, 0, {
        flags: enumeration('index_flag').get('INDEX_ENDPOINT')!,
      });
      bed.index(BED[family].host, address, 0, { flags: enumeration('index_flag').get('INDEX_HOST')! });
    }
    bed.object.maps.windows!.updateAt(0, FRESH_WINDOW, { locked: true });
  }
});
