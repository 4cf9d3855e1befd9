import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { admit, costNs, nanoseconds, policing, TOO_SOON } from '../../../src/datapath/decision/policing.ts';

/** The same arithmetic on 64-bit integers, as the fast path does it. */
function inIntegers(q16: bigint, burstNs: bigint, tat: bigint, octets: bigint, now: bigint): bigint {
  const next = (tat > now ? tat : now) + ((octets * q16) >> 16n);
  return next - now > burstNs ? -1n : next;
}

describe('policing', () => {
  it('lets a session be as fast as its rate, for as long as it likes', () => {
    const rate = policing(8_000_000, 1280);
    let tat = 0;
    for (let nowMs = 0; nowMs < 60_000 && tat !== TOO_SOON; nowMs += 1) {
      tat = admit(rate, tat, 1000, nanoseconds(nowMs));
    }
    expect(tat).not.toBe(TOO_SOON);
  });

  it('lets a burst through, then the rate, and a burst again after a rest', () => {
    const rate = policing(8_000_000, 1280, 10);
    let tat = 0;
    const passed = (count: number, nowMs: number) => {
      let through = 0;
      for (let i = 0; i < count; i += 1) {
        const next = admit(rate, tat, 1000, nanoseconds(nowMs));
        if (next === TOO_SOON) continue;
        tat = next;
        through += 1;
      }
      return through;
    };
    expect(passed(100, 1000)).toBe(10);
    expect(passed(100, 1001)).toBe(1);
    expect(passed(100, 1004)).toBe(3);
    expect(passed(100, 2000)).toBe(10);
  });

  it('lets the largest packet through at the lowest rate', () => {
    const rate = policing(128_000, 1280, 0);
    expect(admit(rate, 0, 1280, 5)).toBe(5 + costNs(rate, 1280));
    expect(admit(rate, 0, 1281, 5)).toBe(TOO_SOON);
  });

  it('is exact: the same as 64-bit integers, over any sequence', () => {
    const steps = fc.array(
      fc.record({
        octets: fc.integer({ min: 0, max: 65_535 }),
        afterNs: fc.integer({ min: 0, max: 2 ** 31 }),
      }),
      { maxLength: 300 },
    );
    fc.assert(
      fc.property(
        fc.integer({ min: 128_000, max: 400_000_000_000 }),
        fc.integer({ min: 0, max: 1000 }),
        fc.integer({ min: 0, max: 2 ** 52 }),
        steps,
        (bitsPerSecond, burstMs, startNs, packets) => {
          const rate = policing(bitsPerSecond, 1280, burstMs);
          const [q16, burst] = [BigInt(rate.nsPerOctetQ16), BigInt(rate.burstNs)];
          let now = startNs;
          let tat = 0;
          let exact = 0n;
          for (const { octets, afterNs } of packets) {
            now += afterNs;
            const next = admit(rate, tat, octets, now);
            const expected = inIntegers(q16, burst, exact, BigInt(octets), BigInt(now));
            expect(BigInt(next)).toBe(expected);
            if (next === TOO_SOON) continue;
            tat = next;
            exact = expected;
          }
        },
      ),
    );
  });

  it('never lets more through than burst and rate allow', () => {
    const steps = fc.array(
      fc.record({ octets: fc.integer({ min: 20, max: 1500 }), afterUs: fc.integer({ min: 0, max: 5000 }) }),
      { maxLength: 300 },
    );
    fc.assert(
      fc.property(fc.integer({ min: 128_000, max: 1_000_000_000 }), steps, (bitsPerSecond, packets) => {
        const rate = policing(bitsPerSecond, 1500, 50);
        let [nowNs, tat, octetsPassed] = [0, 0, 0];
        for (const { octets, afterUs } of packets) {
          nowNs += afterUs * 1000;
          const next = admit(rate, tat, octets, nowNs);
          if (next === TOO_SOON) continue;
          tat = next;
          octetsPassed += octets;
        }
        // Each packet's cost is rounded down by less than a nanosecond.
        const paidNs = (octetsPassed * rate.nsPerOctetQ16) / 65_536 - packets.length;
        expect(paidNs).toBeLessThanOrEqual(nowNs + rate.burstNs);
      }),
    );
  });

  it('has numbers of 32 bits at every rate', () => {
    const lowest = policing(128_000, 65_535, 4_000);
    expect(lowest.nsPerOctetQ16).toBeLessThan(2 ** 32);
    expect(lowest.burstNs).toBeLessThan(2 ** 32);
    expect(policing(400_000_000_000, 1280).nsPerOctetQ16).toBeGreaterThan(1000);
  });

  it.each([0, 127_999, Number.NaN, 1e12])('refuses %d bits per second', (rate) => {
    expect(() => policing(rate, 1280)).toThrow(/bitsPerSecond/);
  });
});
