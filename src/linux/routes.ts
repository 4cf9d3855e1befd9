import { formatAddress, parseAddress, parsePrefix } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import { AF_INET, AF_INET6 } from './addresses.ts';
import { ERRNO } from './errno.ts';
import { interfaceIndex } from './libc.ts';
import { type Netlink, withNetlink } from './netlink.ts';
import {
  attribute,
  attributeNested,
  attributeU32,
  decodeAttributes,
  type NetlinkMessage,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  readU32,
  viewOf,
} from './netlink-message.ts';

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

/**
 * `struct rtmsg` (12): family 0 · destination length 1 · source length 2 · tos 3 · table 4 · protocol 5 ·
 * scope 6 · type 7 · flags 8
 */
const RTMSG_BYTES = 12;
const RTM_F_CLONED = 0x200;
const RTPROT_STATIC = 4;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_NOWHERE = 255;
const RTNH_F_ONLINK = 4;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTAX_MTU = 2;

export const MAIN_TABLE = 254;
export const LOCAL_TABLE = 255;

const KINDS = {
  unicast: 1,
  local: 2,
  broadcast: 3,
  anycast: 4,
  multicast: 5,
  blackhole: 6,
  unreachable: 7,
  prohibit: 8,
} as const;
export type RouteKind = keyof typeof KINDS;
const KIND_OF = new Map<number, RouteKind>(
  Object.entries(KINDS).map(([kind, number]) => [number, kind as RouteKind]),
);

export interface RouteSpec {
  /** `192.0.2.0/24`, a bare address for a host route, `0.0.0.0/0` or `::/0` for a default route. */
  readonly destination: string;
  /** Default `unicast`. A blackhole drops in silence, `unreachable` and `prohibit` with ICMP. */
  readonly kind?: 'unicast' | 'blackhole' | 'unreachable' | 'prohibit';
  readonly device?: string;
  /** The gateway; without it the destination is on the link. */
  readonly via?: string;
  /** The gateway is on the link although no prefix of the device says so. */
  readonly onlink?: boolean;
  /** Default: the main table. */
  readonly table?: number;
  /** Lower wins. IPv4's default is 0, IPv6's 1024. */
  readonly metric?: number;
  /** Source address of packets that this machine starts. */
  readonly source?: string;
  /** Path MTU of the destination, octets. */
  readonly mtu?: number;
}

export interface Route {
  readonly family: 4 | 6;
  /** Always with prefix length. */
  readonly destination: string;
  readonly kind: RouteKind;
  readonly table: number;
  readonly metric: number;
  readonly source: string | null;
  /** One per way out; empty for a blackhole. */
  readonly hops: readonly { readonly ifindex: number; readonly via: string | null }[];
}

/** Creates the route, or replaces the one to the same destination with the same table and metric. Idempotent. */
export function ensureRoute(route: RouteSpec, netlink?: Netlink): void {
  change(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, route, [], netlink);
}

/** Removes the route that matches what is given; one that does not exist, or whose device is gone, is fine. */
export function removeRoute(route: RouteSpec, netlink?: Netlink): void {
  try {
    change(RTM_DELROUTE, 0, route, [ERRNO.ESRCH, ERRNO.ENOENT, ERRNO.ENODEV], netlink);
  } catch (error) {
    if (route.device !== undefined && missing(route.device)) return;
    throw error;
  }
}

export interface RouteFilter {
  readonly family?: 4 | 6;
  readonly table?: number;
}

/** Routes of all tables but the kernel's local one, or of the table asked for. */
export function listRoutes(filter: RouteFilter = {}, netlink?: Netlink): Route[] {
  if (netlink === undefined) return withNetlink((own) => listRoutes(filter, own));
  const families = filter.family === undefined ? ([4, 6] as const) : [filter.family];
  return families
    .flatMap((family) =>
      netlink.dump(
        { type: RTM_GETROUTE, fixed: routeHeader(family === 4 ? AF_INET : AF_INET6, 0, {}) },
        'routes',
      ),
    )
    .filter((message) => message.type === RTM_NEWROUTE && message.body.length >= RTMSG_BYTES)
    .map(routeOf)
    .filter((route) => route !== undefined)
    .filter((route) =>
      filter.table === undefined ? route.table !== LOCAL_TABLE : route.table === filter.table,
    );
}

/** The route as text for messages and logs. */
export function describeRoute(route: RouteSpec): string {
  const parts = [`${route.kind ?? 'unicast'} route ${route.destination}`];
  if (route.via !== undefined) parts.push(`via ${route.via}`);
  if (route.device !== undefined) parts.push(`on ${route.device}`);
  if (route.table !== undefined) parts.push(`in table ${route.table}`);
  if (route.metric !== undefined) parts.push(`metric ${route.metric}`);
  return parts.join(' ');
}

function change(
  type: number,
  flags: number,
  route: RouteSpec,
  harmless: readonly number[],
  netlink: Netlink | undefined,
): void {
  if (netlink === undefined) {
    withNetlink((own) => change(type, flags, route, harmless, own));
    return;
  }
  const kind = route.kind ?? 'unicast';
  if (kind === 'unicast' && route.device === undefined && route.via === undefined && type === RTM_NEWROUTE) {
    throw badInput('route', route.destination, 'give a unicast route a device, a gateway or both');
  }
  const { bytes, bits } = parsePrefix(route.destination, 'destination');
  const attributes = [attributeU32(RTA_TABLE, route.table ?? MAIN_TABLE)];
  if (bits > 0) attributes.push(attribute(RTA_DST, bytes));
  if (route.device !== undefined) attributes.push(attributeU32(RTA_OIF, interfaceIndex(route.device)));
  if (route.via !== undefined) attributes.push(gateway(route.via, bytes.length));
  if (route.metric !== undefined) attributes.push(attributeU32(RTA_PRIORITY, route.metric));
  if (route.source !== undefined)
    attributes.push(attribute(RTA_PREFSRC, parseAddress(route.source, 'source')));
  if (route.mtu !== undefined) {
    attributes.push(attributeNested(RTA_METRICS, [attributeU32(RTAX_MTU, route.mtu)]));
  }
  const onLink = kind === 'unicast' && route.via === undefined && bytes.length === 4;
  const fixed = routeHeader(bytes.length === 4 ? AF_INET : AF_INET6, bits, {
    // A deletion that says "nowhere" or "universe 0" matches by the rest.
    scope: type === RTM_DELROUTE ? (bytes.length === 4 ? RT_SCOPE_NOWHERE : 0) : onLink ? RT_SCOPE_LINK : 0,
    kind: type === RTM_DELROUTE && route.kind === undefined ? 0 : KINDS[kind],
    flags: route.onlink ? RTNH_F_ONLINK : 0,
    protocol: type === RTM_DELROUTE ? 0 : RTPROT_STATIC,
  });
  netlink.change({ type, flags, fixed, attributes }, describeRoute(route), harmless);
}

/** RTA_VIA is for an IPv4 destination behind an IPv6 gateway (RFC 5549): family (2), address. */
function gateway(via: string, width: number): Uint8Array {
  const octets = parseAddress(via, 'via');
  if (octets.length === width) return attribute(RTA_GATEWAY, octets);
  const value = new Uint8Array(2 + octets.length);
  viewOf(value).setUint16(0, octets.length === 4 ? AF_INET : AF_INET6, true);
  value.set(octets, 2);
  return attribute(RTA_VIA, value);
}

function routeHeader(
  family: number,
  bits: number,
  more: {
    readonly scope?: number;
    readonly kind?: number;
    readonly flags?: number;
    readonly protocol?: number;
  },
): Uint8Array {
  const fixed = new Uint8Array(RTMSG_BYTES);
  fixed[0] = family;
  fixed[1] = bits;
  // The table is in RTA_TABLE, which holds more than 8 bits.
  fixed[4] = 0;
  fixed[5] = more.protocol ?? 0;
  fixed[6] = more.scope ?? RT_SCOPE_UNIVERSE;
  fixed[7] = more.kind ?? 0;
  viewOf(fixed).setUint32(8, more.flags ?? 0, true);
  return fixed;
}

function routeOf(message: NetlinkMessage): Route | undefined {
  const { body } = message;
  const view = viewOf(body);
  const family = view.getUint8(0);
  if ((family !== AF_INET && family !== AF_INET6) || (view.getUint32(8, true) & RTM_F_CLONED) !== 0) {
    return undefined;
  }
  const attributes = decodeAttributes(body, RTMSG_BYTES);
  const any = family === AF_INET ? '0.0.0.0' : '::';
  const source = attributes.get(RTA_PREFSRC);
  const multipath = attributes.get(RTA_MULTIPATH);
  const oif = readU32(attributes, RTA_OIF);
  const kind = KIND_OF.get(view.getUint8(7)) ?? 'unicast';
  // IPv6 says "dev lo" of a blackhole.
  const nowhere = kind === 'blackhole' || kind === 'unreachable' || kind === 'prohibit';
  const single = nowhere || oif === undefined ? [] : [{ ifindex: oif, via: viaOf(attributes) }];
  return {
    family: family === AF_INET ? 4 : 6,
    destination: `${textOf(attributes.get(RTA_DST)) ?? any}/${view.getUint8(1)}`,
    kind,
    table: readU32(attributes, RTA_TABLE) ?? view.getUint8(4),
    metric: readU32(attributes, RTA_PRIORITY) ?? 0,
    source: textOf(source) ?? null,
    hops: multipath === undefined ? single : hopsOf(multipath),
  };
}

/** `struct rtnexthop` (8): length 0 · flags 2 · weight 3 · ifindex 4, then attributes. */
function hopsOf(multipath: Uint8Array): { readonly ifindex: number; readonly via: string | null }[] {
  const view = viewOf(multipath);
  const hops: { readonly ifindex: number; readonly via: string | null }[] = [];
  let at = 0;
  while (at + 8 <= multipath.length) {
    const length = view.getUint16(at, true);
    if (length < 8 || at + length > multipath.length) break;
    const attributes = decodeAttributes(multipath.subarray(at, at + length), 8);
    hops.push({ ifindex: view.getInt32(at + 4, true), via: viaOf(attributes) });
    at += (length + 3) & ~3;
  }
  return hops;
}

function viaOf(attributes: ReadonlyMap<number, Uint8Array>): string | null {
  return textOf(attributes.get(RTA_GATEWAY)) ?? textOf(attributes.get(RTA_VIA)?.subarray(2)) ?? null;
}

function textOf(octets: Uint8Array | undefined): string | undefined {
  return octets?.length === 4 || octets?.length === 16 ? formatAddress(octets) : undefined;
}

function missing(device: string): boolean {
  try {
    return interfaceIndex(device) === 0;
  } catch {
    return true;
  }
}
