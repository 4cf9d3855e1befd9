import { lookup } from 'node:dns';
import { formatAddress, parseAddress } from '../../src/protocol/address.ts';

/** A prefix behind which a network translates to IPv4 (RFC 6052 §2.2). */
export interface Nat64Prefix {
  /** 16 octets; those behind the prefix are zero. */
  readonly octets: Uint8Array;
  readonly bits: Nat64Bits;
}

/** Of these lengths only. */
const LENGTHS = [96, 64, 56, 48, 40, 32] as const;
type Nat64Bits = (typeof LENGTHS)[number];

/** 64:ff9b::/96, what a network that has no better one uses (RFC 6052 §2.1). */
export const WELL_KNOWN: Nat64Prefix = { octets: parseAddress('64:ff9b::'), bits: 96 };

/** `64:ff9b::/96`; empty for none. */
export function prefixText(prefix: Nat64Prefix | null): string {
  return prefix === null ? '' : `${formatAddress(prefix.octets)}/${prefix.bits}`;
}

/** A name with these IPv4 addresses and no IPv6 address, but what a resolver makes up of the prefix (RFC 7050 §8.2). */
const PROBE_NAME = 'ipv4only.arpa';
const PROBE_ADDRESSES = ['192.0.0.170', '192.0.0.171'].map((address) => parseAddress(address));

/** Where the four octets of an IPv4 address stand: octet 8 stays zero (RFC 6052 §2.2). */
function places(bits: Nat64Bits): number[] {
  const first = bits / 8;
  return Array.from({ length: 5 }, (_, i) => first + i)
    .filter((at) => at !== 8)
    .slice(0, 4);
}

/** The IPv6 address that leads to an IPv4 address through the translator. */
export function synthesised({ octets, bits }: Nat64Prefix, ipv4: string): string {
  const whole = octets.slice();
  const embedded = parseAddress(ipv4);
  for (const [i, at] of places(bits).entries()) whole[at] = embedded[i]!;
  return formatAddress(whole);
}

/** The prefixes in what a resolver said of `ipv4only.arpa` (RFC 7050 §3), each once. */
export function prefixesIn(answers: readonly string[]): Nat64Prefix[] {
  const found = new Map<string, Nat64Prefix>();
  for (const answer of answers) {
    const octets = parseAddress(answer);
    if (octets.length !== 16) continue;
    for (const bits of LENGTHS) {
      const embedded = places(bits).map((at) => octets[at]);
      const isProbe = PROBE_ADDRESSES.some((address) => address.every((octet, i) => octet === embedded[i]));
      if (!isProbe) continue;
      const prefix = { octets: octets.map((octet, at) => (at < bits / 8 ? octet : 0)), bits };
      found.set(prefixText(prefix), prefix);
      break;
    }
  }
  return [...found.values()];
}

/** Asks this machine's resolver for the prefix of the network that it is in; none is no fault. */
export function discoverNat64(): Promise<Nat64Prefix[]> {
  return new Promise((resolve) => {
    lookup(PROBE_NAME, { family: 6, all: true }, (error, found) =>
      resolve(error === null ? prefixesIn(found.map(({ address }) => address)) : []),
    );
  });
}
