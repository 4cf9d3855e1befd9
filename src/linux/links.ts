import { interfaceIndex } from './libc.ts';
import { type Netlink, withNetlink } from './netlink.ts';
import {
  type Attributes,
  attributeU32,
  decodeAttributes,
  type NetlinkMessage,
  readText,
  readU8,
  readU32,
  viewOf,
} from './netlink-message.ts';

const RTM_NEWLINK = 16;
const RTM_GETLINK = 18;

/** `struct ifinfomsg` (16): family 0 · type 2 · index 4 · flags 8 · change 12 */
const IFINFOMSG_BYTES = 16;
const IFF_UP = 1;
const IFF_LOOPBACK = 8;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_OPERSTATE = 16;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
const IFLA_CARRIER = 33;

const OPERSTATES = [
  'unknown',
  'not-present',
  'down',
  'lower-layer-down',
  'testing',
  'dormant',
  'up',
] as const;

/** RFC 2863 operational state. */
export type OperState = (typeof OPERSTATES)[number];

export interface Link {
  readonly name: string;
  readonly ifindex: number;
  /** Administratively up. */
  readonly up: boolean;
  /** There is a signal: a cable, an association, a peer. */
  readonly carrier: boolean;
  readonly operstate: OperState;
  readonly mtu: number;
  readonly loopback: boolean;
  /** `veth`, `tun`, `bridge`, …; empty for hardware. */
  readonly kind: string;
  /** The six octets of an Ethernet address; empty where the link has none. */
  readonly mac: Uint8Array;
}

/** All network devices of the namespace. */
export function listLinks(netlink?: Netlink): Link[] {
  if (netlink === undefined) return withNetlink(listLinks);
  const fixed = linkHeader(0, 0, 0);
  return netlink
    .dump({ type: RTM_GETLINK, fixed }, 'links')
    .filter((message) => message.type === RTM_NEWLINK && message.body.length >= IFINFOMSG_BYTES)
    .map(linkOf);
}

/** The device of that name, or undefined. */
export function findLink(name: string): Link | undefined {
  return listLinks().find((link) => link.name === name);
}

/** Sets what is given and leaves the rest; ERR_MOORING_SYSCALL (ENODEV) when there is no such device. */
export function setLink(device: string, change: { readonly up?: boolean; readonly mtu?: number }): void {
  const fixed = linkHeader(
    interfaceIndex(device),
    change.up ? IFF_UP : 0,
    change.up === undefined ? 0 : IFF_UP,
  );
  const attributes = change.mtu === undefined ? [] : [attributeU32(IFLA_MTU, change.mtu)];
  withNetlink((netlink) => netlink.change({ type: RTM_NEWLINK, fixed, attributes }, `link ${device}`));
}

function linkHeader(ifindex: number, flags: number, change: number): Uint8Array {
  const fixed = new Uint8Array(IFINFOMSG_BYTES);
  const view = viewOf(fixed);
  view.setInt32(4, ifindex, true);
  view.setUint32(8, flags, true);
  view.setUint32(12, change, true);
  return fixed;
}

function linkOf(message: NetlinkMessage): Link {
  const view = viewOf(message.body);
  const flags = view.getUint32(8, true);
  const attributes = decodeAttributes(message.body, IFINFOMSG_BYTES);
  return {
    name: readText(attributes, IFLA_IFNAME) ?? '',
    ifindex: view.getInt32(4, true),
    up: (flags & IFF_UP) !== 0,
    carrier: readU8(attributes, IFLA_CARRIER) === 1,
    operstate: OPERSTATES[readU8(attributes, IFLA_OPERSTATE) ?? 0] ?? 'unknown',
    mtu: readU32(attributes, IFLA_MTU) ?? 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    kind: kindOf(attributes),
    mac: macOf(attributes.get(IFLA_ADDRESS)),
  };
}

function kindOf(attributes: Attributes): string {
  const info = attributes.get(IFLA_LINKINFO);
  return info === undefined ? '' : (readText(decodeAttributes(info, 0), IFLA_INFO_KIND) ?? '');
}

function macOf(octets: Uint8Array | undefined): Uint8Array {
  return octets?.length === 6 ? octets.slice() : new Uint8Array(0);
}
