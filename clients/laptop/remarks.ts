import type { AccessLink } from './link-choice.ts';
import { type Nat64Prefix, prefixText } from './nat64.ts';

export interface Circumstances {
  readonly links: readonly AccessLink[];
  /** Addresses of the relay; empty: no lease yet. */
  readonly endpoints: readonly string[];
  readonly translator: { readonly prefix: Nat64Prefix | null; readonly wasNamed: boolean };
}

/** What a person should know of a network that does not carry the tunnel as it is. */
export function remarksOn({ links, endpoints, translator }: Circumstances): string[] {
  if (endpoints.length === 0) return [];
  const families = new Set(endpoints.map(familyOf));
  return links.flatMap(({ id, addresses }) => {
    if (addresses.some((address) => families.has(familyOf(address)))) return [];
    if (families.has('IPv6')) {
      return [`${id} has IPv4 only, and the relay IPv6 only: this network cannot carry the tunnel`];
    }
    const through = `${id} has IPv6 only, and the relay IPv4 only: sending through`;
    return translator.wasNamed
      ? [`${through} the network's translator ${prefixText(translator.prefix)}`]
      : [`${through} ${prefixText(translator.prefix)}, though its resolver names no translator (NAT64)`];
  });
}

function familyOf(address: string): 'IPv4' | 'IPv6' {
  return address.includes(':') ? 'IPv6' : 'IPv4';
}

/** What a network that wants its user to sign in first makes of a connection (RFC 8952 section 1). */
const PORTAL = /certificate|unable to verify|altnames|wrong version number|Unexpected server response: 30\d/i;

/** What went wrong in reaching signalling, and what that may mean. */
export function whyUnreached(message: string): string {
  return PORTAL.test(message)
    ? `${message}; another server answers in its place: does this access network want you to sign in first (captive portal)?`
    : message;
}
