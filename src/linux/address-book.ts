import { formatAddress, parseAddress, type SocketAddress } from '../protocol/address.ts';

const AF_INET = 2;
const AF_INET6 = 10;

/** `struct sockaddr_in6`; `sockaddr_in` is its first 16 octets in length only. */
export const SOCKADDR_BYTES = 28;

/** A power of two. */
const RECENT = 1_024;

interface Known {
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  readonly port: number;
  readonly socket: SocketAddress;
}

/** Transport addresses as the kernel writes them, to and from `SocketAddress`, without text per packet. */
export interface AddressBook {
  /** The transport address of `struct sockaddr_in` or `sockaddr_in6` at `at`. */
  read(view: DataView, at: number): SocketAddress;
  /** The same from 4 or 16 octets of address at `at` and a port. */
  readAddress(view: DataView, at: number, family: 4 | 6, port: number): SocketAddress;
  /** `struct sockaddr_in` (16 octets) or `sockaddr_in6` (28) of a transport address. Do not write to it. */
  sockaddr(of: SocketAddress): Uint8Array;
}

/**
 * A bounded book. Keys are numbers: address·2^16 + port for IPv4, a mix of the octets for IPv6 (compared
 * on a hit, so that a collision costs time and never gives a wrong address). It keeps two generations of
 * `capacity` entries each: a flood of spoofed sources pushes out what is not in use and cannot grow memory.
 */
export function createAddressBook(capacity = 16_384): AddressBook {
  let young = new Map<number, Known>();
  let old = new Map<number, Known>();
  const encoded = new WeakMap<SocketAddress, Uint8Array>();

  // In front of the maps, whose look-up by a number beyond 31 bits costs more than all else that is done to an address.
  // Traffic comes from few addresses at a time. A new generation empties it: who is in use shows itself to the maps.
  const recent: (Known | undefined)[] = new Array(RECENT).fill(undefined);

  const remember = (key: number, known: Known): void => {
    if (young.size >= capacity) {
      recent.fill(undefined);
      old = young;
      young = new Map();
    }
    young.set(key, known);
  };

  const find = (key: number, a: number, b: number, c: number, d: number, port: number): Known | undefined => {
    let known = young.get(key);
    if (known !== undefined && same(known, a, b, c, d, port)) return known;
    known = old.get(key);
    if (known === undefined || !same(known, a, b, c, d, port)) return undefined;
    remember(key, known);
    return known;
  };

  const readV4 = (address: number, port: number): SocketAddress => {
    const slot = (address ^ (address >>> 8) ^ port ^ (port >>> 8)) & (RECENT - 1);
    const last = recent[slot];
    if (last !== undefined && last.a === address && last.port === port) return last.socket;
    const known = knownV4(address, port);
    recent[slot] = known;
    return known.socket;
  };

  const knownV4 = (address: number, port: number): Known => {
    const key = address * 65_536 + port;
    const hit = find(key, address, 0, 0, 0, port);
    if (hit !== undefined) return hit;
    const text = `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
    const socket = { address: text, port, key: `${text}|${port}` };
    const known = { a: address, b: 0, c: 0, d: 0, port, socket };
    remember(key, known);
    return known;
  };

  const readV6 = (view: DataView, at: number, port: number): SocketAddress => {
    const a = view.getUint32(at);
    const b = view.getUint32(at + 4);
    const c = view.getUint32(at + 8);
    const d = view.getUint32(at + 12);
    // ::ffff:a.b.c.d is the same peer as a.b.c.d, and must be equal to it.
    if (a === 0 && b === 0 && c === 0xffff) return readV4(d, port);
    const key = mix(a, b, c, d, port);
    const hit = find(key, a, b, c, d, port);
    if (hit !== undefined) return hit.socket;
    const text = formatAddress(new Uint8Array(view.buffer, view.byteOffset + at, 16));
    const socket = { address: text, port, key: `${text}|${port}` };
    remember(key, { a, b, c, d, port, socket });
    return socket;
  };

  return {
    read: (view, at) =>
      view.getUint16(at, true) === AF_INET6
        ? readV6(view, at + 8, view.getUint16(at + 2))
        : readV4(view.getUint32(at + 4), view.getUint16(at + 2)),
    readAddress: (view, at, family, port) =>
      family === 6 ? readV6(view, at, port) : readV4(view.getUint32(at), port),
    sockaddr(of) {
      let octets = encoded.get(of);
      if (octets === undefined) {
        octets = encodeSockaddr(of.address, of.port);
        encoded.set(of, octets);
      }
      return octets;
    },
  };
}

/** `struct sockaddr_in` or `sockaddr_in6` of an address in text. */
export function encodeSockaddr(address: string, port: number): Uint8Array {
  const octets = parseAddress(address);
  const memory = new Uint8Array(new ArrayBuffer(octets.length === 4 ? 16 : SOCKADDR_BYTES));
  const view = new DataView(memory.buffer);
  view.setUint16(0, octets.length === 4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, port);
  memory.set(octets, octets.length === 4 ? 4 : 8);
  return memory;
}

function same(known: Known, a: number, b: number, c: number, d: number, port: number): boolean {
  return known.d === d && known.port === port && known.a === a && known.b === b && known.c === c;
}

/** 49 bits and more apart from every IPv4 key, which stays below 2^48. */
function mix(a: number, b: number, c: number, d: number, port: number): number {
  let low = Math.imul(a ^ 0x9e3779b1, 0x85ebca6b) ^ Math.imul(b ^ (port << 11), 0xc2b2ae35);
  low = Math.imul(low ^ (low >>> 15), 0x27d4eb2f) ^ c;
  low = Math.imul(low ^ (low >>> 13), 0x165667b1) ^ d;
  low ^= low >>> 16;
  const high = (Math.imul(d ^ port, 0x9e3779b1) ^ c ^ a) & 0xffff;
  return 2 ** 48 + high * 2 ** 32 + (low >>> 0);
}
