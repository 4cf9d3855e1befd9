import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  attribute,
  attributeNested,
  attributeText,
  attributeU32,
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  readText,
  readU8,
  readU32,
} from '../../../src/linux/netlink-message.ts';

const octets = (maxLength: number) => fc.uint8Array({ maxLength });

describe('a netlink message', () => {
  it('is laid out as the kernel reads it', () => {
    const message = encodeMessage(24, 0x605, 7, Uint8Array.of(2, 24), [
      attributeU32(15, 254),
      attributeText(3, 'va'),
    ]);
    expect(Buffer.from(message).toString('hex')).toBe(
      // length 36+…, type, flags, sequence, port id
      '240000001800050607000000000000000218000008000f00fe0000000700030076610000',
    );
  });

  it('comes back as it was written, with any body and attributes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffff }),
        octets(40),
        fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 0x3fff }), octets(50)), {
          selector: ([type]) => type,
          maxLength: 10,
        }),
        (type, fixed, attributes) => {
          const encoded = encodeMessage(
            type,
            1,
            9,
            fixed,
            attributes.map(([kind, value]) => attribute(kind, value)),
          );
          const [message, ...more] = decodeMessages(encoded);
          expect(more).toEqual([]);
          expect(message).toMatchObject({ type, flags: 1, sequence: 9 });
          const decoded = decodeAttributes(message!.body, fixed.length);
          expect([...decoded]).toEqual(attributes.map(([kind, value]) => [kind, value]));
        },
      ),
    );
  });

  it('reads attributes within attributes, whatever the flags in their type', () => {
    const nested = attributeNested(0x8000 | 18, [attributeText(1, 'veth'), attributeU32(2, 5)]);
    const outer = decodeAttributes(nested, 0);
    const inner = decodeAttributes(outer.get(18)!, 0);
    expect(readText(inner, 1)).toBe('veth');
    expect(readU32(inner, 2)).toBe(5);
  });
});

describe('decoding what is not netlink', () => {
  const wellFormed = encodeMessage(24, 0, 1, new Uint8Array(12), [
    attributeU32(15, 254),
    attributeText(3, 'va'),
  ]);

  it('ends for any octets, and reads nothing outside them', () => {
    fc.assert(
      fc.property(octets(300), fc.integer({ min: 0, max: 40 }), (noise, from) => {
        for (const message of decodeMessages(noise)) {
          expect(message.body.length).toBeLessThanOrEqual(noise.length - 16);
        }
        for (const value of decodeAttributes(noise, from).values()) {
          expect(value.length).toBeLessThanOrEqual(noise.length - 4);
        }
      }),
      { numRuns: 2000 },
    );
  });

  it('ends for every length field set to anything, also to zero', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: wellFormed.length - 2 }),
        fc.integer({ min: 0, max: 0xffff }),
        (at, value) => {
          const bent = wellFormed.slice();
          new DataView(bent.buffer).setUint16(at, value, true);
          for (const message of decodeMessages(bent)) decodeAttributes(message.body, 12);
        },
      ),
      { numRuns: 2000 },
    );
    for (const length of [0, 1, 3]) {
      expect(decodeAttributes(Uint8Array.of(length, 0, 1, 0, 0, 0, 0, 0), 0).size).toBe(0);
    }
    expect(decodeMessages(new Uint8Array(64))).toEqual([]);
  });

  it('reports short attributes as absent', () => {
    const attributes = decodeAttributes(attribute(1, Uint8Array.of(7)), 0);
    expect(readU32(attributes, 1)).toBeUndefined();
    expect(readU8(attributes, 1)).toBe(7);
    expect(readU8(decodeAttributes(attribute(1, new Uint8Array(0)), 0), 1)).toBeUndefined();
    expect(readText(attributes, 2)).toBeUndefined();
    expect(readText(decodeAttributes(attribute(1, Buffer.from('no end')), 0), 1)).toBe('no end');
  });
});
