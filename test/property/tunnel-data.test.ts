import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { classify, FULL } from '../../src/tunnel/classify.ts';
import { DataReceiver, DataSender } from '../../src/tunnel/data.ts';
import { sipKey } from '../../src/tunnel/siphash.ts';
import { ipv4, ipv6 } from '../unit/tunnel/packets.ts';

const KEY = sipKey(new Uint8Array(16).fill(5));

const octets = (maxLength: number) => fc.uint8Array({ maxLength });
const packets = fc.oneof(
  fc
    .record({ protocol: fc.constantFrom(1, 6, 17, 50, 51), length: fc.integer({ min: 20, max: 1500 }) })
    .map(({ protocol, length }) => ipv4(protocol, length)),
  fc
    .record({ protocol: fc.constantFrom(6, 17, 44, 50, 51, 58), length: fc.integer({ min: 40, max: 1500 }) })
    .map(({ protocol, length }) => ipv6(protocol, length)),
);

function seal(packet: Uint8Array, options: { index: number; keyNumber: number; nextSequence: number }) {
  const buffer = new Uint8Array(16 + packet.length);
  buffer.set(packet, 16);
  new DataSender({ key: KEY, ...options }).seal(buffer, 16, packet.length);
  return buffer;
}

function receiver(keyNumber: number): DataReceiver {
  const fresh = new DataReceiver();
  fresh.install(KEY, keyNumber);
  return fresh;
}

const headers = fc.record({
  index: fc.integer({ min: 1, max: 0xffffff }),
  keyNumber: fc.integer({ min: 0, max: 0xffffffff }),
  nextSequence: fc.integer({ min: 1, max: 2 ** 31 }),
});

describe('any packet', () => {
  test('crosses unchanged under any header', () => {
    fc.assert(
      fc.property(packets, headers, (packet, header) => {
        const datagram = seal(packet, header);
        const receiving = receiver(header.keyNumber);
        expect(receiving.open(datagram, 0, datagram.length, 0)).toBe(16);
        expect(Buffer.compare(datagram.subarray(16), packet)).toBe(0);
        expect(receiving.sequence).toBe(header.nextSequence);
        expect(receiving.open(datagram, 0, datagram.length, 0)).toBeLessThan(0);
      }),
      { numRuns: 2_000 },
    );
  });

  test('is refused when any bit of its header or of what its tag covers is flipped', () => {
    fc.assert(
      fc.property(packets, headers, fc.nat(), (packet, header, at) => {
        const datagram = seal(packet, header);
        const covered = classify(packet, 0, packet.length);
        const bit = at % ((16 + (covered === FULL ? packet.length : covered)) * 8);
        datagram[bit >> 3]! ^= 1 << (bit & 7);
        const receiving = receiver(header.keyNumber);
        expect(receiving.open(datagram, 0, datagram.length, 0)).toBeLessThan(0);
        expect(receiving.windows(header.keyNumber)).toEqual(
          receiver(header.keyNumber).windows(header.keyNumber),
        );
      }),
      { numRuns: 10_000 },
    );
  });

  test('of class DATA may change only behind what its tag covers', () => {
    fc.assert(
      fc.property(fc.integer({ min: 57, max: 1500 }), headers, fc.nat(), (length, header, at) => {
        const packet = ipv6(50, length);
        const datagram = seal(packet, header);
        datagram[16 + 56 + (at % (length - 56))]! ^= 0xff;
        expect(receiver(header.keyNumber).open(datagram, 0, datagram.length, 0)).toBe(16);
      }),
    );
  });
});

describe('any octets of any length', () => {
  test('have a class, read within their bounds', () => {
    const limits = fc.oneof(octets(100), packets);
    fc.assert(
      fc.property(limits, fc.nat(8), fc.nat(8), (packet, before, behind) => {
        const buffer = new Uint8Array(before + packet.length + behind).fill(0xff);
        buffer.set(packet, before);
        const covered = classify(buffer, before, packet.length);
        expect([FULL, 36, 56]).toContain(covered);
        expect(covered).toBeLessThanOrEqual(packet.length);
        buffer.fill(0, 0, before);
        buffer.fill(0, before + packet.length);
        expect(classify(buffer, before, packet.length)).toBe(covered);
      }),
      { numRuns: 20_000 },
    );
    for (let length = 0; length < 3_000; length += 1) {
      for (const first of [0x00, 0x45, 0x60, 0xff]) {
        expect(classify(new Uint8Array(length).fill(first, 0, 1), 0, length)).toBe(FULL);
      }
    }
  });

  test('open to nothing', () => {
    const receiving = receiver(0);
    fc.assert(
      fc.property(
        octets(200),
        fc.constantFrom(0x10, 0x20),
        packets,
        fc.boolean(),
        (random, first, packet, shaped) => {
          const datagram = shaped ? Uint8Array.from([...new Uint8Array(16).fill(first), ...packet]) : random;
          expect(receiving.open(datagram, 0, datagram.length, 0)).toBeLessThan(0);
        },
      ),
      { numRuns: 10_000 },
    );
    expect(receiving.windows(0)).toEqual(receiver(0).windows(0));
  });
});
