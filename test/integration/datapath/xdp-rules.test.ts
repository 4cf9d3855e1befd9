import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { admit, policing, TOO_SOON } from '../../../src/datapath/decision/policing.ts';
import { DataSender } from '../../../src/tunnel/data.ts';
import {
  DSCP_MODE,
  ECN_MODE,
  egressInner,
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../../src/tunnel/dscp-ecn.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { ah, echo, esp, icmp, ip, quote, tcp, udp } from '../../unit/datapath/packets.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import {
  BED,
  createBed,
  DEVICE_PORT,
  type Family,
  frameOf,
  INDEX,
  mapped,
  NOW_NS,
  putSession,
  putShare,
  putWhole,
  TUNNEL_PORT,
  type XdpBed,
} from './xdp-bed.ts';
import { COMBINATIONS, DOWNLINK_KEY, UPLINK_KEY } from './xdp-traffic.ts';

const SHARER = INDEX + 1;
const FAMILIES = [4, 6] as const;
const PORTS = { first: 1024, shift: 6 };
const SPIS = { first: 0x1000_0000, shift: 8 };

describeAsRoot('the rules of the decision in the XDP program', () => {
  let bed: XdpBed;
  let sequence = 0;
  beforeAll(() => {
    bed = createBed();
    // One session with a whole address of each family, another with a share of each.
    for (const [slot, index] of [
      [0, INDEX],
      [1, SHARER],
    ] as const) {
      putSession(bed, { outer: 4, slot, index, uplinkKey: UPLINK_KEY, downlinkKey: DOWNLINK_KEY });
    }
    for (const [place, family] of FAMILIES.entries()) {
      putWhole(bed, BED[family].whole, { place });
      putShare(bed, BED[family].shared, { ports: PORTS, spis: SPIS }, { slot: 1, place });
    }
  });
  afterAll(() => bed.close());
  beforeEach(() => {
    bed.counted();
  });

  const down = (packet: Uint8Array) => bed.run('public', frameOf('public', packet));

  /** A packet out of the tunnel; `octet` is the outer DSCP and ECN. */
  function up(packet: Uint8Array, { outer = 4 as Family, index = INDEX, octet = 0 } = {}) {
    const sender = new DataSender({ key: sipKey(UPLINK_KEY), index, keyNumber: 1 });
    sequence += 1;
    sender.nextSequence = sequence;
    const buffer = new Uint8Array(DATA.inner + packet.length);
    buffer.set(packet, DATA.inner);
    sender.seal(buffer, DATA.inner, packet.length);
    const { device, endpoint } = BED[outer];
    const datagram = ip(device, endpoint, 17, udp(DEVICE_PORT, TUNNEL_PORT, buffer));
    setTrafficClass(datagram, 0, octet);
    return bed.run('access', frameOf('access', datagram));
  }

  const marked = (packet: Uint8Array, octet: number) => {
    const copy = packet.slice();
    setTrafficClass(copy, 0, octet);
    return copy;
  };

  function setMarking({ ingress, egress, ecn }: TunnelMarking): void {
    const modes = bed.object.btf.enumeration('dscp_mode');
    const mode = (name: keyof typeof DSCP_MODE) => modes.get(`DSCP_${name.toUpperCase()}`)!;
    bed.put('config', 0, {
      ingress_dscp_mode: mode(ingress.mode),
      ingress_dscp: ingress.value,
      egress_dscp_mode: mode(egress.mode),
      egress_dscp: egress.value,
      ingress_ecn_mode: bed.object.btf.enumeration('ecn_mode').get(`ECN_${ecn.toUpperCase()}`)!,
    });
  }

  it.each(COMBINATIONS)(
    'R45: marks IPv%d in IPv%d as the rules say, whatever the octets [xdp]',
    (inner, outer) => {
      const { peer, whole } = BED[inner];
      const way = Number(bed.get('ways', 0, 'gen')) & 1;
      const address = BED[outer].device;
      bed.put('ways', 0, {
        [`paths[${way}].address`]: mapped(address),
        [`paths[${way}].family`]: outer,
      });
      for (const mode of Object.keys(DSCP_MODE) as (keyof typeof DSCP_MODE)[]) {
        for (const ecn of Object.keys(ECN_MODE) as (keyof typeof ECN_MODE)[]) {
          const rules: TunnelMarking = { ingress: { mode, value: 10 }, egress: { mode, value: 33 }, ecn };
          setMarking(rules);
          // Every ECN field against every other, and DSCPs with all bits in both states.
          for (const first of [0x00, 0x01, 0x02, 0x03, 0xb8, 0xfe]) {
            const sent = down(marked(ip(peer, whole, 50, esp(7)), first));
            expect(trafficClass(sent.frame, 14)).toBe(ingressOuter(rules, first));
            const innerAt = 14 + (outer === 4 ? 20 : 40) + 8 + DATA.inner;
            expect(trafficClass(sent.frame, innerAt)).toBe(ingressInner(rules, first));
            for (const second of [0x28, 0x29, 0x2a, 0x2b, 0xff]) {
              const left = egressInner(rules, first, second);
              const run = up(marked(ip(whole, peer, 50, esp(7)), first), { outer, octet: second });
              // Congestion that nobody would hear of is the slow path's to drop and to count.
              expect(run.verdict).toBe(left < 0 ? 'pass' : 'redirect');
              if (left >= 0) expect(trafficClass(run.frame, 14)).toBe(left);
            }
          }
        }
      }
    },
  );

  it('polices both directions with the very integers of the decision [xdp]', () => {
    const rate = policing(2_000_000, 1280, 20);
    const arrivals = { up: 0, down: 0 };
    for (const direction of ['uplink', 'downlink'] as const) {
      bed.put('meters', 0, {
        [`${direction}.arrival_ns`]: 0,
        [`${direction}.ns_per_octet_q16`]: rate.nsPerOctetQ16,
        [`${direction}.burst_ns`]: rate.burstNs,
      });
    }
    const { peer, whole } = BED[4];
    let nowNs = Number(NOW_NS);
    let seed = 12_345;
    const draw = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return seed % below;
    };
    let dropped = 0;
    for (let n = 0; n < 2_000; n += 1) {
      nowNs += draw(2_000_000);
      bed.setNow(BigInt(nowNs));
      const octets = 60 + draw(1_200);
      const data = udp(1024, 53, new Uint8Array(octets - 28));
      const direction = draw(2) === 0 ? 'up' : 'down';
      const run = direction === 'up' ? up(ip(whole, peer, 17, data)) : down(ip(peer, whole, 17, data));
      const next = admit(rate, arrivals[direction], octets, nowNs);
      if (next === TOO_SOON) dropped += 1;
      else arrivals[direction] = next;
      expect(run.verdict).toBe(next === TOO_SOON ? 'drop' : 'redirect');
    }
    expect(dropped).toBeGreaterThan(100);
    expect(bed.get('meters', 0, 'uplink.arrival_ns')).toBe(BigInt(arrivals.up));
    expect(bed.get('meters', 0, 'downlink.arrival_ns')).toBe(BigInt(arrivals.down));
    for (const direction of ['uplink', 'downlink']) {
      bed.put('meters', 0, { [`${direction}.ns_per_octet_q16`]: 0 });
    }
    bed.setNow(NOW_NS);
  });

  it.each(FAMILIES)(
    'R31, R38, R48, R51: delivers by address, port and SPI, or not at all, whoever comes first (IPv%d) [xdp]',
    (family) => {
      const { peer, shared, whole } = BED[family];
      const icmpProtocol = family === 4 ? 1 : 58;
      const about = ip(shared, peer, 17, udp(1024, 53));
      const table: readonly (readonly [Uint8Array, string])[] = [
        [ip(peer, whole, 17, udp(1, 2)), 'redirect'],
        [ip(peer, shared, 17, udp(53, 1024)), 'redirect'],
        [ip(peer, shared, 6, tcp(443, 1087)), 'redirect'],
        [ip(peer, shared, 17, udp(53, 1088)), 'drop'],
        [ip(peer, shared, 6, tcp(443, 1023)), 'drop'],
        [ip(peer, shared, 50, esp(0x1000_0000)), 'redirect'],
        [ip(peer, shared, 50, esp(0x1000_00ff)), 'redirect'],
        [ip(peer, shared, 51, ah(0x1000_0080)), 'redirect'],
        [ip(peer, shared, 50, esp(0x1000_0100)), 'drop'],
        [ip(peer, shared, 51, ah(0x0fff_ffff)), 'drop'],
        [ip(peer, shared, icmpProtocol, echo(family === 4 ? 8 : 128, 1)), 'pass'],
        [ip(peer, shared, icmpProtocol, icmp(family === 4 ? 3 : 1, 1, 0, quote(about))), 'pass'],
        [ip(peer, shared, 17, udp(500, 500, new Uint8Array(28))), 'pass'],
        [ip(peer, shared, 132, new Uint8Array(12)), 'pass'],
      ];
      for (const [packet, verdict] of table)
        expect([down(packet).verdict, packet]).toEqual([verdict, packet]);
      expect(bed.counted()).toMatchObject({ 'downlink/unleased-port': 2, 'downlink/unleased-spi': 2 });
    },
  );

  it.each(FAMILIES)('R53: tells ESP in UDP from IKE and keepalives on port 4500 (IPv%d) [xdp]', (family) => {
    const { peer, shared } = BED[family];
    const into = (data: Uint8Array) => ip(peer, shared, 17, udp(4500, 4500, data));
    expect(down(into(Uint8Array.of(0x10, 0, 0, 9, ...new Uint8Array(28)))).verdict).toBe('redirect');
    expect(down(into(Uint8Array.of(0x20, 0, 0, 9, ...new Uint8Array(28)))).verdict).toBe('drop');
    // IKE behind the marker, and what keeps a mapping alive, are the slow path's.
    expect(down(into(new Uint8Array(32))).verdict).not.toBe('redirect');
    expect(down(into(Uint8Array.of(0xff))).verdict).not.toBe('redirect');
  });

  it.each(FAMILIES)(
    'R35, R47: lets nothing out from what is not leased, nor to the relay itself (IPv%d) [xdp]',
    (family) => {
      const { peer, shared, whole, endpoint } = BED[family];
      const table: readonly (readonly [number, Uint8Array, string])[] = [
        [INDEX, ip(whole, peer, 17, udp(1, 2)), 'redirect'],
        [SHARER, ip(shared, peer, 17, udp(1024, 2)), 'redirect'],
        [SHARER, ip(shared, peer, 50, esp(7)), 'redirect'],
        [SHARER, ip(shared, peer, 17, udp(1088, 2)), 'pass'],
        [SHARER, ip(whole, peer, 17, udp(1024, 2)), 'pass'],
        [INDEX, ip(shared, peer, 50, esp(7)), 'pass'],
        [INDEX, ip(whole, shared, 17, udp(1, 1024)), 'pass'],
      ];
      for (const [index, packet, verdict] of table) {
        expect([up(packet, { index }).verdict, packet]).toEqual([verdict, packet]);
      }
      const endpointKind = bed.object.btf.enumeration('index_kind').get('INDEX_ADDRESS')!;
      const flags = bed.object.btf.enumeration('index_flag');
      bed.index(endpoint, endpointKind, 0, { flags: flags.get('INDEX_ENDPOINT')! });
      expect(up(ip(whole, endpoint, 17, udp(1, TUNNEL_PORT))).verdict).toBe('drop');
      expect(bed.counted()).toMatchObject({ 'uplink/own-endpoint': 1 });
      bed.unindex(endpoint, endpointKind, 0);
    },
  );

  it.each(FAMILIES)(
    'R41: leaves what is too big for the tunnel to the kernel, which says so (IPv%d) [xdp]',
    (family) => {
      const { peer, whole } = BED[family];
      const header = family === 4 ? 20 : 40;
      expect(down(ip(peer, whole, 17, udp(1, 2, new Uint8Array(1280 - header - 8)))).verdict).toBe(
        'redirect',
      );
      expect(down(ip(peer, whole, 17, udp(1, 2, new Uint8Array(1281 - header - 8)))).verdict).toBe('pass');
    },
  );

  it('R19: ends with lease and anchor, to the nanosecond, both ways [xdp]', () => {
    const { peer, whole } = BED[4];
    const both = () => [
      down(ip(peer, whole, 17, udp(53, 1))).verdict,
      up(ip(whole, peer, 17, udp(1, 53))).verdict,
    ];
    const never = bed.get('anchors', 0, 'deadline_ns');
    for (const [map, member, uplink] of [
      // From no lease that runs: the slow path says why.
      ['sessions', 'leases[0].until_ns', 'pass'],
      ['anchors', 'deadline_ns', 'drop'],
    ] as const) {
      bed.put(map, 0, { [member]: NOW_NS + 1n });
      expect(both()).toEqual(['redirect', 'redirect']);
      bed.setNow(NOW_NS + 1n);
      expect(both()).toEqual(['drop', uplink]);
      bed.setNow(NOW_NS);
      bed.put(map, 0, { [member]: never });
    }
  });
});
