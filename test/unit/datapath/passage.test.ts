import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { admit, nanoseconds, policing, TOO_SOON } from '../../../src/datapath/decision/policing.ts';
import {
  DEFAULT_MARKING,
  egressInner,
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../../src/tunnel/dscp-ecn.ts';
import { anchor, at, ENDPOINT, ENDPOINT6, EngineRig, install } from './engine-rig.ts';
import type { HandDevice } from './hand-device.ts';
import { esp, ip, lease, udp } from './packets.ts';

const [WHOLE, WHOLE6] = ['203.0.113.8', '2001:db8::8'];
const [PEER, PEER6] = ['198.51.100.9', '2001:db8:ffff::9'];
const PATH = at('192.0.2.10', 40_000);
const PATH6 = at('2001:db8:5::10', 40_000);
const EF = 46;

interface Scene {
  readonly rig: EngineRig;
  readonly device: HandDevice;
}

/** One device with a whole address of each family, on a path of one family. */
function scene(path: typeof PATH, rules: ConstructorParameters<typeof EngineRig>[4]): Scene {
  const rig = new EngineRig(0xaaaan, 1, undefined, null, rules);
  anchor(rig);
  const device = install(rig, 1, [
    lease({ kind: 'rsa-ip', address: WHOLE }),
    lease({ kind: 'rsa-ip', address: WHOLE6 }),
  ]);
  rig.connect(device, path, path === PATH ? ENDPOINT : ENDPOINT6);
  rig.takeSent();
  return { rig, device };
}

function marked(packet: Uint8Array, octet: number): Uint8Array {
  const copy = packet.slice();
  setTrafficClass(copy, 0, octet);
  return copy;
}

const COMBINATIONS = [
  ['IPv4 in IPv4', PATH, ENDPOINT, WHOLE, PEER],
  ['IPv6 in IPv4', PATH, ENDPOINT, WHOLE6, PEER6],
  ['IPv4 in IPv6', PATH6, ENDPOINT6, WHOLE, PEER],
  ['IPv6 in IPv6', PATH6, ENDPOINT6, WHOLE6, PEER6],
] as const;

describe.each(COMBINATIONS)('DSCP and ECN of %s', (_name, path, endpoint, own, peer) => {
  const rules: TunnelMarking = {
    ingress: { mode: 'rewrite', value: 10 },
    egress: { mode: 'copy', value: 0 },
    ecn: 'normal',
  };

  it('R45: are set on the way into the tunnel, before the tag, which covers the inner octet', () => {
    const { rig, device } = scene(path, { marking: rules });
    for (const data of [udp(53, 9), esp(7)]) {
      const packet = ip(peer, own, data.length === 16 ? 17 : 50, data);
      rig.packet(marked(packet, (EF << 2) | 2));
      const [sent] = rig.takeSent();
      expect(sent).toMatchObject({ endpoint, to: path, octet: (10 << 2) | 2 });
      device.take(sent!.octets, rig.nowMs);
      expect(device.received.pop()).toEqual(marked(packet, (10 << 2) | 2));
    }
    expect(device.refused).toEqual([]);
  });

  it('R45: are settled on the way out of the tunnel, and nothing else changes', () => {
    const { rig, device } = scene(path, { marking: rules });
    const packet = ip(own, peer, 17, udp(9, 53));
    rig.datagram(path, device.data(marked(packet, 2)), endpoint, (EF << 2) | 3);
    expect(rig.takeToNetwork()).toEqual([marked(packet, (EF << 2) | 3)]);
    rig.datagram(path, device.data(packet), endpoint, (EF << 2) | 3);
    expect(rig.takeToNetwork()).toEqual([]);
    expect(rig.counters().uplink).toMatchObject({ forwarded: 1, 'congestion-unheard': 1 });
  });

  it('R45: by default nothing on the access network changes a packet, but a mark of congestion', () => {
    const { rig, device } = scene(path, {});
    const packet = marked(ip(own, peer, 17, udp(9, 53)), 2);
    rig.datagram(path, device.data(packet), endpoint, EF << 2);
    rig.datagram(path, device.data(packet), endpoint, 3);
    expect(rig.takeToNetwork()).toEqual([packet, marked(packet, 3)]);
    rig.packet(ip(peer, own, 17, udp(53, 9)));
    rig.packet(marked(ip(peer, own, 17, udp(53, 9)), (EF << 2) | 2));
    expect(rig.takeSent().map(({ octet }) => octet)).toEqual([0, EF << 2]);
  });
});

it('R45: control datagrams carry no mark', () => {
  const rig = new EngineRig(0xaaaan, 1, undefined, null, {
    marking: { ...DEFAULT_MARKING, ingress: { mode: 'keep', value: EF } },
  });
  anchor(rig);
  const device = install(rig, 1, [lease({ kind: 'rsa-ip', address: WHOLE })]);
  rig.datagram(PATH, device.bind());
  expect(rig.takeSent().map(({ octet }) => octet)).toEqual([0]);
});

it('R45: the engine does what the pure functions say, whatever the octets and the rules', () => {
  const rule = fc.record({
    mode: fc.constantFrom('copy' as const, 'keep' as const, 'rewrite' as const),
    value: fc.integer({ min: 0, max: 63 }),
  });
  const rules = fc.record({
    ingress: rule,
    egress: rule,
    ecn: fc.constantFrom('normal' as const, 'compatible' as const),
  });
  const octet = fc.integer({ min: 0, max: 255 });
  fc.assert(
    fc.property(rules, octet, octet, (marking, inner, outer) => {
      const { rig, device } = scene(PATH, { marking });
      rig.packet(marked(ip(PEER, WHOLE, 17, udp(53, 9)), inner));
      const [sent] = rig.takeSent();
      expect(sent!.octet).toBe(ingressOuter(marking, inner));
      expect(trafficClass(sent!.octets, 16)).toBe(ingressInner(marking, inner));
      rig.datagram(PATH, device.data(marked(ip(WHOLE, PEER, 17, udp(9, 53)), inner)), ENDPOINT, outer);
      const left = egressInner(marking, inner, outer);
      const expected = left < 0 ? [] : [left];
      expect(rig.takeToNetwork().map((packet) => trafficClass(packet, 0))).toEqual(expected);
    }),
    { numRuns: 60 },
  );
});

describe('a session that is policed', () => {
  const rate = policing(1_000_000, 1280, 20);
  const up = (octets: number) => ip(WHOLE, PEER, 17, udp(9, 53, new Uint8Array(octets - 28)));
  const down = (octets: number) => ip(PEER, WHOLE, 17, udp(53, 9, new Uint8Array(octets - 28)));

  it('gets and sends what its rate allows in each direction on its own, counted by reason', () => {
    const { rig, device } = scene(PATH, { policing: { uplink: rate, downlink: rate } });
    for (let n = 0; n < 10; n += 1) rig.packet(down(1000));
    expect(rig.takeSent()).toHaveLength(2);
    for (let n = 0; n < 10; n += 1) rig.datagram(PATH, device.data(up(1000)));
    expect(rig.takeToNetwork()).toHaveLength(2);
    rig.pass(8);
    for (let n = 0; n < 10; n += 1) rig.packet(down(1000));
    expect(rig.takeSent()).toHaveLength(1);
    const { uplink, downlink } = rig.counters();
    expect([uplink.policed, downlink.policed]).toEqual([8, 17]);
  });

  it('is not charged for what is dropped for another reason', () => {
    const { rig, device } = scene(PATH, { policing: { uplink: rate, downlink: null } });
    for (let n = 0; n < 50; n += 1) rig.datagram(PATH, device.data(up(1000)), ENDPOINT, 3);
    for (let n = 0; n < 50; n += 1) rig.datagram(PATH, device.data(ip('203.0.113.9', PEER, 17, udp(9, 53))));
    rig.datagram(PATH, device.data(up(1000)));
    expect(rig.takeToNetwork()).toHaveLength(1);
  });

  it('does not slow another one down', () => {
    const { rig } = scene(PATH, { policing: { uplink: rate, downlink: rate } });
    const other = install(rig, 2, [lease({ kind: 'rsa-ip', address: '203.0.113.10' })]);
    const there = at('192.0.2.20', 40_000);
    rig.connect(other, there);
    rig.takeSent();
    for (let n = 0; n < 50; n += 1) rig.packet(down(1000));
    rig.packet(ip(PEER, '203.0.113.10', 17, udp(53, 9)));
    expect(rig.takeSent().filter(({ to }) => to.key === there.key)).toHaveLength(1);
  });

  it('behaves as the pure arithmetic does, over any sequence', () => {
    const steps = fc.array(
      fc.record({
        afterMs: fc.integer({ min: 0, max: 30 }),
        octets: fc.integer({ min: 28, max: 1280 }),
        isUp: fc.boolean(),
      }),
      { maxLength: 80 },
    );
    fc.assert(
      fc.property(steps, (packets) => {
        const { rig, device } = scene(PATH, { policing: { uplink: rate, downlink: rate } });
        const arrivals = { up: 0, down: 0 };
        for (const { afterMs, octets, isUp } of packets) {
          rig.pass(afterMs);
          const direction = isUp ? 'up' : 'down';
          if (isUp) rig.datagram(PATH, device.data(up(octets)));
          else rig.packet(down(octets));
          const next = admit(rate, arrivals[direction], octets, nanoseconds(rig.nowMs));
          if (next !== TOO_SOON) arrivals[direction] = next;
          const passed = isUp ? rig.takeToNetwork() : rig.takeSent();
          expect(passed).toHaveLength(next === TOO_SOON ? 0 : 1);
        }
      }),
      { numRuns: 40 },
    );
  });
});
