import { instantiateSipHash, MEMORY } from './siphash-module.ts';

/**
 * SipHash-2-4 with a 64-bit result (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012): the
 * tag of every tunnel datagram.
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
 * octets in the order of the reference implementation. The caller has checked that the ranges exist; they are
 * parts of one datagram, so no longer than 65,535 octets.
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
  for (let at = 0; at < TAG_LENGTH; at += 1) out[outAt + at] = octetsOfMemory[MEMORY.result + at]!;
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
  const lowDiffers = word(tag, tagAt) ^ wordsOfMemory[MEMORY.result >> 2]!;
  return (lowDiffers | (word(tag, tagAt + 4) ^ wordsOfMemory[(MEMORY.result >> 2) + 1]!)) === 0;
}

const { memory, hash } = instantiateSipHash();
const octetsOfMemory = new Uint8Array(memory);
const wordsOfMemory = new Int32Array(memory);

/** Up to here a loop copies faster than a view of the body can be made. */
const SHORT_BODY = 64;

function digest(
  key: SipKey,
  head: Uint8Array,
  headAt: number,
  body: Uint8Array,
  bodyAt: number,
  bodyLength: number,
): void {
  wordsOfMemory[0] = key.k0lo;
  wordsOfMemory[1] = key.k0hi;
  wordsOfMemory[2] = key.k1lo;
  wordsOfMemory[3] = key.k1hi;
  for (let at = 0; at < HEAD_LENGTH; at += 1) octetsOfMemory[MEMORY.message + at] = head[headAt + at]!;
  const messageAt = MEMORY.message + HEAD_LENGTH;
  if (bodyLength <= SHORT_BODY) {
    for (let at = 0; at < bodyLength; at += 1) octetsOfMemory[messageAt + at] = body[bodyAt + at]!;
  } else {
    octetsOfMemory.set(body.subarray(bodyAt, bodyAt + bodyLength), messageAt);
  }
  hash(HEAD_LENGTH + bodyLength);
}

function word(octets: Uint8Array, at: number): number {
  return octets[at]! | (octets[at + 1]! << 8) | (octets[at + 2]! << 16) | (octets[at + 3]! << 24);
}
