import { formatAddress, parseAddress } from '../protocol/address.ts';
import { AF_INET, AF_INET6 } from './addresses.ts';
import { ERRNO } from './errno.ts';
import { interfaceIndex } from './libc.ts';
import { type Netlink, withNetlink } from './netlink.ts';
import { attribute, decodeAttributes, NLM_F_CREATE, NLM_F_REPLACE, viewOf } from './netlink-message.ts';

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

/** `struct ndmsg` (12): family 0 · ifindex 4 · state 8 · flags 10 · type 11 */
const NDMSG_BYTES = 12;
const NTF_PROXY = 0x08;
const NUD_PERMANENT = 0x80;
const NUD_NOARP = 0x40;

const NDA_DST = 1;
const NDA_LLADDR = 2;

/** An address that a device answers ARP or neighbour solicitations for, although it is not its own. */
export interface NeighbourProxy {
  readonly ifindex: number;
  readonly address: string;
}

export interface Neighbour {
  readonly ifindex: number;
  readonly address: string;
  /** Empty while it is not known. */
  readonly mac: Uint8Array;
  readonly permanent: boolean;
}

/**
 * Answers for `address` on `device`. IPv4 answers where a route leads to the address through another device; IPv6
 * additionally needs `net/ipv6/conf/<device>/proxy_ndp` = 1. Idempotent.
 */
export function ensureNeighbourProxy(device: string, address: string, netlink?: Netlink): void {
  if (netlink === undefined) {
    withNetlink((own) => ensureNeighbourProxy(device, address, own));
    return;
  }
  netlink.change(
    { type: RTM_NEWNEIGH, flags: NLM_F_CREATE | NLM_F_REPLACE, ...request(device, address, NTF_PROXY) },
    `neighbour proxy ${address} on ${device}`,
    [ERRNO.EEXIST],
  );
}

/** Stops answering; a proxy that is not there is fine. */
export function removeNeighbourProxy(device: string, address: string, netlink?: Netlink): void {
  if (netlink === undefined) {
    withNetlink((own) => removeNeighbourProxy(device, address, own));
    return;
  }
  netlink.change(
    { type: RTM_DELNEIGH, ...request(device, address, NTF_PROXY) },
    `neighbour proxy ${address} on ${device}`,
    [ERRNO.ENOENT, ERRNO.ESRCH],
  );
}

/** The proxies of all devices. */
export function listNeighbourProxies(): NeighbourProxy[] {
  return list(NTF_PROXY).map(({ ifindex, address }) => ({ ifindex, address }));
}

/** Forgets a neighbour; one that is not there is fine. */
export function removeNeighbour(device: string, address: string, netlink?: Netlink): void {
  if (netlink === undefined) {
    withNetlink((own) => removeNeighbour(device, address, own));
    return;
  }
  netlink.change(
    { type: RTM_DELNEIGH, ...request(device, address, 0) },
    `neighbour ${address} on ${device}`,
    [ERRNO.ENOENT, ERRNO.ESRCH],
  );
}

/** What the kernel knows of its neighbours, on all devices. */
export function listNeighbours(): Neighbour[] {
  return list(0);
}

function request(device: string, address: string, flags: number) {
  const octets = parseAddress(address);
  const fixed = new Uint8Array(NDMSG_BYTES);
  const view = viewOf(fixed);
  view.setUint8(0, octets.length === 4 ? AF_INET : AF_INET6);
  view.setInt32(4, interfaceIndex(device), true);
  view.setUint8(10, flags);
  return { fixed, attributes: [attribute(NDA_DST, octets)] };
}

function list(flags: number): Neighbour[] {
  return withNetlink((netlink) =>
    [AF_INET, AF_INET6].flatMap((family) => {
      const fixed = new Uint8Array(NDMSG_BYTES);
      fixed[0] = family;
      fixed[10] = flags;
      return netlink.dump({ type: RTM_GETNEIGH, fixed }, 'neighbours').flatMap((message) => {
        if (message.type !== RTM_NEWNEIGH || message.body.length < NDMSG_BYTES) return [];
        const view = viewOf(message.body);
        const attributes = decodeAttributes(message.body, NDMSG_BYTES);
        const octets = attributes.get(NDA_DST);
        if (octets?.length !== 4 && octets?.length !== 16) return [];
        return [
          {
            ifindex: view.getInt32(4, true),
            address: formatAddress(octets),
            mac: (attributes.get(NDA_LLADDR) ?? new Uint8Array(0)).slice(),
            permanent: (view.getUint16(8, true) & (NUD_PERMANENT | NUD_NOARP)) !== 0,
          },
        ];
      });
    }),
  );
}
