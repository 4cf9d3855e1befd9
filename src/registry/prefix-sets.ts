import { contains, formatAddress, type Prefix, parsePrefix } from '../protocol/address.ts';

/** Canonical text of a prefix. */
export function prefixText({ bytes, bits }: Prefix): string {
  return `${formatAddress(bytes)}/${bits}`;
}

/** Whether all of `inner` lies in `outer`. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  return outer.bits <= inner.bits && contains(outer, inner.bytes);
}

/** Whether two prefixes have an address in common: then one covers the other. */
export function overlap(a: Prefix, b: Prefix): boolean {
  return contains(a, b.bytes) || contains(b, a.bytes);
}

/** The parts of `prefix` that lie in none of `others`. */
export function without(prefix: Prefix, others: readonly Prefix[]): Prefix[] {
  const clashing = others.filter((other) => overlap(prefix, other));
  if (clashing.length === 0) return [prefix];
  if (clashing.some((other) => covers(other, prefix))) return [];
  return halves(prefix).flatMap((half) => without(half, clashing));
}

/** The same addresses with no address named twice. */
export function disjoint(texts: readonly string[]): string[] {
  const sorted = texts.map((text) => parsePrefix(text)).sort((a, b) => a.bits - b.bits);
  const kept: Prefix[] = [];
  for (const prefix of sorted) if (!kept.some((one) => covers(one, prefix))) kept.push(prefix);
  return kept.map(prefixText);
}

/** The first of `count` numbers, in `prefix` counted from its first address, as a list of prefixes that covers them. */
export function partsOf(prefix: Prefix, from: number, count: number): Prefix[] {
  const parts: Prefix[] = [];
  const width = prefix.bytes.length * 8;
  let at = from;
  const end = from + count;
  while (at < end) {
    let size = 1;
    while (at % (size * 2) === 0 && at + size * 2 <= end) size *= 2;
    parts.push({ bytes: plus(prefix.bytes, at), bits: width - Math.log2(size) });
    at += size;
  }
  return parts;
}

/** Where `inner` begins in `outer`, which covers it; at most 2^53 addresses. */
export function offsetIn(outer: Prefix, inner: Prefix): number {
  return inner.bytes.reduce((sum, octet, at) => sum * 256 + (octet - (outer.bytes[at] ?? 0)), 0);
}

function halves({ bytes, bits }: Prefix): Prefix[] {
  const upper = Uint8Array.from(bytes);
  upper[bits >> 3]! |= 0x80 >> (bits & 7);
  return [
    { bytes, bits: bits + 1 },
    { bytes: upper, bits: bits + 1 },
  ];
}

function plus(bytes: Uint8Array, offset: number): Uint8Array {
  const sum = Uint8Array.from(bytes);
  let carry = offset;
  for (let at = sum.length - 1; at >= 0 && carry > 0; at -= 1) {
    carry += sum[at]!;
    sum[at] = carry % 256;
    carry = Math.floor(carry / 256);
  }
  return sum;
}
