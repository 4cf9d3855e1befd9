import { formatAddress, parseAddress } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import { ERRNO } from './errno.ts';
import { interfaceIndex } from './libc.ts';
import { type Netlink, withNetlink } from './netlink.ts';
import {
  attribute,
  attributeU32,
  decodeAttributes,
  type NetlinkMessage,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  readU32,
  viewOf,
} from './netlink-message.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

/** `struct ifaddrmsg` (8): family 0 · prefix length 1 · flags 2 · scope 3 · index 4 */
const IFADDRMSG_BYTES = 8;
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;

const IFA_F_NODAD = 0x02;
const IFA_F_DADFAILED = 0x08;
const IFA_F_DEPRECATED = 0x20;
const IFA_F_TENTATIVE = 0x40;
const IFA_F_PERMANENT = 0x80;

export const AF_INET = 2;
export const AF_INET6 = 10;

export type AddressScope = 'global' | 'site' | 'link' | 'host' | 'nowhere';
const SCOPES: ReadonlyMap<number, AddressScope> = new Map([
  [0, 'global'],
  [200, 'site'],
  [253, 'link'],
  [254, 'host'],
  [255, 'nowhere'],
]);

export interface InterfaceAddress {
  readonly ifindex: number;
  /** Canonical text. */
  readonly address: string;
  /** Prefix length. */
  readonly bits: number;
  readonly scope: AddressScope;
  /** Usable as a source: duplicate detection is over and passed, and it is not deprecated. */
  readonly usable: boolean;
  /** Configured by hand, not by router advertisement with a lifetime. */
  readonly permanent: boolean;
}

/** Addresses of all devices, or of one. */
export function listAddresses(device?: string, netlink?: Netlink): InterfaceAddress[] {
  if (netlink === undefined) return withNetlink((own) => listAddresses(device, own));
  const ifindex = device === undefined ? 0 : interfaceIndex(device);
  return netlink
    .dump({ type: RTM_GETADDR, fixed: addressHeader(0, 0, 0) }, 'addresses')
    .filter((message) => message.type === RTM_NEWADDR && message.body.length >= IFADDRMSG_BYTES)
    .map(addressOf)
    .filter((found) => found !== undefined)
    .filter((found) => ifindex === 0 || found.ifindex === ifindex);
}

/** Gives a device an address (`192.0.2.1/24`), usable at once: without duplicate detection. Idempotent. */
export function ensureAddress(device: string, address: string): void {
  const flags = IFA_F_NODAD | IFA_F_PERMANENT;
  const { fixed, attributes } = addressRequest(device, address);
  withNetlink((netlink) =>
    netlink.change(
      {
        type: RTM_NEWADDR,
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        fixed,
        attributes: [...attributes, attributeU32(IFA_FLAGS, flags)],
      },
      `address ${address} on ${device}`,
      [ERRNO.EEXIST],
    ),
  );
}

/** Takes an address (with its prefix length) from a device; an absent address is fine. */
export function removeAddress(device: string, address: string): void {
  withNetlink((netlink) =>
    netlink.change(
      { type: RTM_DELADDR, ...addressRequest(device, address) },
      `address ${address} on ${device}`,
      [ERRNO.EADDRNOTAVAIL],
    ),
  );
}

function addressRequest(device: string, text: string) {
  const [address = '', length] = text.split('/');
  const octets = parseAddress(address);
  const width = octets.length * 8;
  const bits = length === undefined ? width : Number(length);
  // The kernel takes an impossible length for an address that it has already.
  if (!/^\d{1,3}$/.test(length ?? '0') || bits > width) {
    throw badInput('address', text, `use a prefix length from 0 to ${width}`);
  }
  return {
    fixed: addressHeader(octets.length === 4 ? AF_INET : AF_INET6, bits, interfaceIndex(device)),
    attributes: [attribute(IFA_LOCAL, octets), attribute(IFA_ADDRESS, octets)],
  };
}

function addressHeader(family: number, bits: number, ifindex: number): Uint8Array {
  const fixed = Uint8Array.of(family, bits, 0, 0, 0, 0, 0, 0);
  viewOf(fixed).setUint32(4, ifindex, true);
  return fixed;
}

function addressOf(message: NetlinkMessage): InterfaceAddress | undefined {
  const view = viewOf(message.body);
  const attributes = decodeAttributes(message.body, IFADDRMSG_BYTES);
  // On point-to-point links IFA_ADDRESS is the other end.
  const octets = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
  if (octets?.length !== 4 && octets?.length !== 16) return undefined;
  const flags = readU32(attributes, IFA_FLAGS) ?? view.getUint8(2);
  return {
    ifindex: view.getUint32(4, true),
    address: formatAddress(octets),
    bits: view.getUint8(1),
    scope: SCOPES.get(view.getUint8(3)) ?? 'global',
    usable: (flags & (IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED)) === 0,
    permanent: (flags & IFA_F_PERMANENT) !== 0,
  };
}
