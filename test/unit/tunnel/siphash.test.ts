import { describe, expect, test } from 'vitest';
import { sipKey, tagMatches, writeTag } from '../../../src/tunnel/siphash.ts';
import { sipHash24 } from '../../contract/siphash-by-the-paper.ts';

/**
 * `vectors_sip64` of the reference implementation: key 00 01 … 0f, message 00 01 … of `length` octets, here
 * from length 8 on because a tag always covers 8 octets of header.
 */
const REFERENCE = `
  6224939a79f5f593 b0e4a90bdf82009e f3b9dd94c5bb5d7a a7ad6b22462fb3f4 fbe50e86bc8f1e75 903d84c02756ea14
  eef27a8e90ca23f7 e545be4961ca29a1 db9bc2577fcc2a3f 9447be2cf5e99a69 9cd38d96f0b3c14b bd6179a71dc96dbb
  98eea21af25cd6be c7673b2eb0cbf2d0 883ea3e395675393 c8ce5ccd8c030ca8 94af49f6c650adb8 eab8858ade92e1bc
  f315bb5bb835d817 adcf6b0763612e2f a5c91da7acaa4dde 716595876650a2a6 28ef495c53a387ad 42c341d8fa92d832
  ce7cf2722f512771 e37859f94623f3a7 381205bb1ab0e012 ae97a10fd434e015 b4a31508beff4d31 81396229f0907902
  4d0cf49ee5d4dcca 5c73336a76d8bf9a d0a704536ba93e0e 925958fcd6420cad a915c29bc8067318 952b79f3bc0aa6d4
  f21df2e41d4535f9 87577519048f53a9 10a56cf5dfcd9adb eb75095ccd986cd0 51a9cb9ecba312e6 96afadfc2ce666c7
  72fe52975a4364ee 5a1645b276d592a1 b274cb8ebf87870a 6f9bb4203de7b381 eaecb2a30b22a87f 9924a43cc1315724
  bd838d3aafbf8db7 0b1a2a3265d51aea 135079a3231ce660 932b2846e4d70666 e1915f5cb1eca46c f325965ca16d629f
  575ff28e60381be5 724506eb4c328a95`
  .trim()
  .split(/\s+/);

const KEY = sipKey(Uint8Array.from({ length: 16 }, (_, at) => at));
const MESSAGE = Uint8Array.from({ length: 64 }, (_, at) => at);

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');

describe('SipHash-2-4', () => {
  test.each(REFERENCE.map((tag, at) => [at + 8, tag] as const))(
    'gives the reference tag of %i octets',
    (length, tag) => {
      const out = new Uint8Array(10);
      writeTag(KEY, MESSAGE, 0, MESSAGE, 8, length - 8, out, 1);
      expect(hex(out)).toBe(`00${tag}00`);
    },
  );

  test.each([0, 56, 57, 64, 65, 1392, 65_499, 65_527])(
    'agrees with the paper over 8 + %i octets',
    (length) => {
      const message = Uint8Array.from({ length: length + 8 }, (_, at) => (at * 31) & 0xff);
      const out = new Uint8Array(8);
      writeTag(KEY, message, 0, message, 8, length, out, 0);
      expect(hex(out)).toBe(hex(sipHash24(MESSAGE.subarray(0, 16), message)));
    },
  );

  test('does not care in which buffers and at which offsets the ranges lie', () => {
    const head = Uint8Array.from([0xaa, 0xbb, 0xcc, ...MESSAGE.subarray(0, 8)]);
    const body = Uint8Array.from([0xdd, ...MESSAGE.subarray(8)]);
    const out = new Uint8Array(8);
    writeTag(KEY, head, 3, body, 1, 55, out, 0);
    expect(hex(out)).toBe(REFERENCE.at(-1));
  });

  test('refuses a tag in which any single bit differs', () => {
    const tag = Buffer.from(REFERENCE[36]!, 'hex');
    expect(tagMatches(KEY, MESSAGE, 0, MESSAGE, 8, 36, tag, 0)).toBe(true);
    for (let bit = 0; bit < 64; bit += 1) {
      const other = Uint8Array.from(tag);
      other[bit >> 3]! ^= 1 << (bit & 7);
      expect(tagMatches(KEY, MESSAGE, 0, MESSAGE, 8, 36, other, 0)).toBe(false);
    }
  });

  test('refuses a key that has not 16 octets', () => {
    expect(() => sipKey(new Uint8Array(15))).toThrow(/16 octets, not 15/);
  });
});
