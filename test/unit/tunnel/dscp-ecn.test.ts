import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CONGESTION_UNHEARD,
  DEFAULT_MARKING,
  type DscpMode,
  egressInner,
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../../src/tunnel/dscp-ecn.ts';
import { internetChecksum, ip, udp } from '../datapath/packets.ts';

const EF = 46;
const AF11 = 10;
const CS1 = 8;

function marking(mode: DscpMode, ecn: TunnelMarking['ecn'] = 'compatible'): TunnelMarking {
  return { ingress: { mode, value: CS1 }, egress: { mode, value: CS1 }, ecn };
}

describe('DSCP at the two ends of a tunnel', () => {
  it.each([
    ['copy', EF, EF],
    ['keep', EF, CS1],
    ['rewrite', CS1, CS1],
  ] as const)('R45: %s at ingress gives inner %i and outer %i for inner EF', (mode, inner, outer) => {
    expect(ingressInner(marking(mode), EF << 2) >> 2).toBe(inner);
    expect(ingressOuter(marking(mode), EF << 2) >> 2).toBe(outer);
  });

  it.each([
    ['copy', AF11],
    ['keep', EF],
    ['rewrite', CS1],
  ] as const)('R45: %s at egress gives inner %i for inner EF in outer AF11', (mode, inner) => {
    expect(egressInner(marking(mode), EF << 2, AF11 << 2) >> 2).toBe(inner);
  });

  it('R45: by default the access network sees the class, and cannot change what leaves the tunnel', () => {
    expect(ingressOuter(DEFAULT_MARKING, EF << 2)).toBe(EF << 2);
    expect(ingressInner(DEFAULT_MARKING, EF << 2)).toBe(EF << 2);
    expect(egressInner(DEFAULT_MARKING, EF << 2, AF11 << 2)).toBe(EF << 2);
  });
});

describe('ECN at the two ends of a tunnel', () => {
  const NOT = 0b00;
  const ECT1 = 0b01;
  const ECT0 = 0b10;
  const CE = 0b11;

  it.each([
    [NOT, NOT, NOT],
    [NOT, ECT0, NOT],
    [NOT, ECT1, NOT],
    [NOT, CE, CONGESTION_UNHEARD],
    [ECT0, NOT, ECT0],
    [ECT0, ECT0, ECT0],
    [ECT0, ECT1, ECT1],
    [ECT0, CE, CE],
    [ECT1, NOT, ECT1],
    [ECT1, ECT0, ECT1],
    [ECT1, ECT1, ECT1],
    [ECT1, CE, CE],
    [CE, NOT, CE],
    [CE, ECT0, CE],
    [CE, ECT1, CE],
    [CE, CE, CE],
  ])('R45: inner %i arriving in outer %i leaves as %i, whatever the DSCP mode', (inner, outer, result) => {
    for (const mode of ['copy', 'keep', 'rewrite'] as const) {
      const octet = egressInner(marking(mode), (EF << 2) | inner, (AF11 << 2) | outer);
      expect(octet < 0 ? octet : octet & 3).toBe(result);
    }
  });

  it('R45: goes to the outer header in normal mode, and never in compatible mode', () => {
    for (const ecn of [NOT, ECT0, ECT1, CE]) {
      expect(ingressOuter(marking('keep', 'normal'), (EF << 2) | ecn) & 3).toBe(ecn);
      expect(ingressOuter(marking('copy', 'compatible'), (EF << 2) | ecn) & 3).toBe(NOT);
    }
  });

  it('R45: is never changed at ingress, nor DSCP by ECN or ECN by DSCP', () => {
    const octet = fc.integer({ min: 0, max: 255 });
    const modes = fc.constantFrom('copy' as const, 'keep' as const, 'rewrite' as const);
    const ecnModes = fc.constantFrom('compatible' as const, 'normal' as const);
    fc.assert(
      fc.property(octet, octet, modes, ecnModes, (inner, outer, mode, ecn) => {
        const rules = marking(mode, ecn);
        expect(ingressInner(rules, inner) & 3).toBe(inner & 3);
        // The DSCP of the result depends on DSCPs alone, its ECN on ECNs alone.
        expect(ingressOuter(rules, inner) >> 2).toBe(ingressOuter(rules, inner ^ 3) >> 2);
        const left = egressInner(rules, inner, outer);
        const other = egressInner(rules, inner ^ 0xa8, outer ^ 0x54);
        if (left >= 0) expect(left & 3).toBe(other & 3);
        else expect(other).toBe(CONGESTION_UNHEARD);
      }),
    );
  });
});

describe('the octet in a packet', () => {
  it.each([
    ['IPv4', '203.0.113.7', '198.51.100.9'],
    ['IPv6', '2001:db8::7', '2001:db8:ffff::9'],
  ])('R45: is written without touching anything else but the header checksum (%s)', (_, from, to) => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 255 }), (before, after) => {
        const packet = new Uint8Array(7 + 100).fill(0x5a);
        const inner = ip(from, to, 17, udp(1, 2));
        packet.set(inner, 7);
        setTrafficClass(packet, 7, before);
        setTrafficClass(packet, 7, after);
        expect(trafficClass(packet, 7)).toBe(after);
        if (inner[0]! >> 4 === 4) expect(internetChecksum(packet.subarray(7, 27))).toBe(0);
        setTrafficClass(packet, 7, 0);
        expect(packet.subarray(7, 7 + inner.length)).toEqual(inner);
        expect(packet.subarray(0, 7).every((octet) => octet === 0x5a)).toBe(true);
        expect(packet.subarray(7 + inner.length).every((octet) => octet === 0x5a)).toBe(true);
      }),
    );
  });

  it('leaves a damaged header checksum damaged', () => {
    const packet = ip('203.0.113.7', '198.51.100.9', 17, udp(1, 2));
    packet[10]! ^= 0x01;
    setTrafficClass(packet, 0, 0xb8);
    expect(internetChecksum(packet.subarray(0, 20))).not.toBe(0);
  });
});
