/**
 * SipHash-2-4 with a 64-bit result (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): the
 * tag of every tunnel datagram. Written on 32-bit halves, without allocation, because it runs twice a packet.
 */

/** A 128-bit key as four little-endian 32-bit words. */
export interface SipKey {
  readonly k0lo: number;
  readonly k0hi: number;
  readonly k1lo: number;
  readonly k1hi: number;
}

/** Octets of the first range: the part of a datagram's header that a tag covers. */
export const HEAD_LENGTH = 8;

/** Octets of a tag. */
export const TAG_LENGTH = 8;

/** Reads a key of 16 octets; throws RangeError for another length, which only a programming error can cause. */
export function sipKey(octets: Uint8Array): SipKey {
  if (octets.length !== 16) throw new RangeError(`a SipHash key has 16 octets, not ${octets.length}`);
  return {
    k0lo: word(octets, 0),
    k0hi: word(octets, 4),
    k1lo: word(octets, 8),
    k1hi: word(octets, 12),
  };
}

/**
 * Writes the tag over the 8 octets at `headAt` followed by `bodyLength` octets at `bodyAt` to `out`: the 8
 * octets in the order of the reference implementation. The caller has checked that the ranges exist.
 */
export function writeTag(
  key: SipKey,
  head: Uint8Array,
  headAt: number,
  body: Uint8Array,
  bodyAt: number,
  bodyLength: number,
  out: Uint8Array,
  outAt: number,
): void {
  digest(key, head, headAt, body, bodyAt, bodyLength);
  out[outAt] = resultLo;
  out[outAt + 1] = resultLo >>> 8;
  out[outAt + 2] = resultLo >>> 16;
  out[outAt + 3] = resultLo >>> 24;
  out[outAt + 4] = resultHi;
  out[outAt + 5] = resultHi >>> 8;
  out[outAt + 6] = resultHi >>> 16;
  out[outAt + 7] = resultHi >>> 24;
}

/** True when `tag` holds the tag of the two ranges; takes the same time wherever they differ. */
export function tagMatches(
  key: SipKey,
  head: Uint8Array,
  headAt: number,
  body: Uint8Array,
  bodyAt: number,
  bodyLength: number,
  tag: Uint8Array,
  tagAt: number,
): boolean {
  digest(key, head, headAt, body, bodyAt, bodyLength);
  return ((word(tag, tagAt) ^ resultLo) | (word(tag, tagAt + 4) ^ resultHi)) === 0;
}

let resultLo = 0;
let resultHi = 0;

function word(octets: Uint8Array, at: number): number {
  return octets[at]! | (octets[at + 1]! << 8) | (octets[at + 2]! << 16) | (octets[at + 3]! << 24);
}

function digest(
  key: SipKey,
  head: Uint8Array,
  headAt: number,
  body: Uint8Array,
  bodyAt: number,
  bodyLength: number,
): void {
  let v0lo = key.k0lo ^ 0x70736575;
  let v0hi = key.k0hi ^ 0x736f6d65;
  let v1lo = key.k1lo ^ 0x6e646f6d;
  let v1hi = key.k1hi ^ 0x646f7261;
  let v2lo = key.k0lo ^ 0x6e657261;
  let v2hi = key.k0hi ^ 0x6c796765;
  let v3lo = key.k1lo ^ 0x79746573;
  let v3hi = key.k1hi ^ 0x74656462;

  // Blocks: the head, the whole words of the body, the last word with the length. The four closing rounds are
  // two more blocks of zero, so that the round stands here once.
  const wholeWords = bodyLength >>> 3;
  const blocks = wholeWords + 4;
  let at = bodyAt;
  for (let block = 0; block < blocks; block += 1) {
    let mlo = 0;
    let mhi = 0;
    if (block === 0) {
      mlo = word(head, headAt);
      mhi = word(head, headAt + 4);
    } else if (block <= wholeWords) {
      mlo = word(body, at);
      mhi = word(body, at + 4);
      at += 8;
    } else if (block === wholeWords + 1) {
      const end = bodyAt + bodyLength;
      for (let shift = 0; at < end; at += 1, shift += 8) {
        if (shift < 32) mlo |= body[at]! << shift;
        else mhi |= body[at]! << (shift - 32);
      }
      mhi |= (HEAD_LENGTH + bodyLength) << 24;
    } else if (block === wholeWords + 2) {
      v2lo ^= 0xff;
    }

    v3lo ^= mlo;
    v3hi ^= mhi;
    for (let round = 0; round < 2; round += 1) {
      let sum = (v0lo + v1lo) | 0;
      v0hi = (v0hi + v1hi + (sum >>> 0 < v1lo >>> 0 ? 1 : 0)) | 0;
      v0lo = sum;
      sum = (v2lo + v3lo) | 0;
      v2hi = (v2hi + v3hi + (sum >>> 0 < v3lo >>> 0 ? 1 : 0)) | 0;
      v2lo = sum;

      let rotated = ((v1lo << 13) | (v1hi >>> 19)) ^ v0lo;
      v1hi = ((v1hi << 13) | (v1lo >>> 19)) ^ v0hi;
      v1lo = rotated;
      rotated = ((v3lo << 16) | (v3hi >>> 16)) ^ v2lo;
      v3hi = ((v3hi << 16) | (v3lo >>> 16)) ^ v2hi;
      v3lo = rotated;

      // v0's rotation by 32 costs nothing: its halves are read in each other's place here.
      sum = (v2lo + v1lo) | 0;
      v2hi = (v2hi + v1hi + (sum >>> 0 < v1lo >>> 0 ? 1 : 0)) | 0;
      v2lo = sum;
      sum = (v0hi + v3lo) | 0;
      const v0high = (v0lo + v3hi + (sum >>> 0 < v3lo >>> 0 ? 1 : 0)) | 0;
      v0lo = sum;
      v0hi = v0high;

      rotated = ((v1lo << 17) | (v1hi >>> 15)) ^ v2lo;
      v1hi = ((v1hi << 17) | (v1lo >>> 15)) ^ v2hi;
      v1lo = rotated;
      rotated = ((v3lo << 21) | (v3hi >>> 11)) ^ v0lo;
      v3hi = ((v3hi << 21) | (v3lo >>> 11)) ^ v0hi;
      v3lo = rotated;

      rotated = v2lo;
      v2lo = v2hi;
      v2hi = rotated;
    }
    v0lo ^= mlo;
    v0hi ^= mhi;
  }
  resultLo = v0lo ^ v1lo ^ v2lo ^ v3lo;
  resultHi = v0hi ^ v1hi ^ v2hi ^ v3hi;
}
