import { parseAddress, type SocketAddress } from '../protocol/address.ts';
import type { AddressBook } from './address-book.ts';
import { ERRNO, errnoName, lastErrno } from './errno.ts';
import { allocate, libc } from './libc.ts';
import {
  CMSG_HEADER_BYTES,
  CONTROLLEN_AT,
  createMessageBatch,
  IOVEC_BYTES,
  MMSGHDR_BYTES,
  NAMELEN_AT,
} from './message-batch.ts';

const MSG_DONTWAIT = 0x40;
const IPPROTO_IP = 0;
const IP_PKTINFO = 8;
const IPPROTO_IPV6 = 41;
const IPV6_PKTINFO = 50;

/** More local addresses than an engine announces; a bound, not a limit anyone should meet. */
const MAX_SOURCES = 8192;

export interface UdpSender {
  queue(to: SocketAddress, buffer: Uint8Array, at: number, length: number, from?: string): boolean;
  flush(): number;
  counters(): { readonly sent: number; readonly sendErrors: Readonly<Record<string, number>> };
}

/** The sending half of a UDP socket: an arena that sendmmsg empties. */
export function createUdpSender(
  fd: number,
  family: 4 | 6,
  book: AddressBook,
  slots: number,
  payloadBytes: number,
): UdpSender {
  const batch = createMessageBatch(slots, payloadBytes, 0);
  const { arena, headers, vectors } = batch;
  const nameBytes = family === 4 ? 16 : 28;
  const control = new Uint8Array(batch.controls.buffer);
  const sources = new Map<string, Uint8Array>();
  const sendErrors: Record<string, number> = {};
  /** What the last datagram in each slot was addressed with: a flow's name and source stay there, and need no copy. */
  const slotNames: (Uint8Array | undefined)[] = new Array(slots).fill(undefined);
  const slotSources: (Uint8Array | undefined)[] = new Array(slots).fill(undefined);
  let queued = 0;
  let sent = 0;

  const lose = (errno: number, count = 1): void => {
    const name = errnoName(errno);
    sendErrors[name] = (sendErrors[name] ?? 0) + count;
  };

  const sourceOf = (address: string): Uint8Array => {
    let info = sources.get(address);
    if (info === undefined) {
      info = packetInfo(family, address);
      if (sources.size >= MAX_SOURCES) sources.clear();
      sources.set(address, info);
    }
    return info;
  };

  const flush = (): number => {
    const total = queued;
    queued = 0;
    let at = 0;
    let taken = 0;
    while (at < total) {
      const count = libc.sendmmsg(fd, batch.headersAddress + at * MMSGHDR_BYTES, total - at, MSG_DONTWAIT);
      if (count > 0) {
        at += count;
        taken += count;
        continue;
      }
      const errno = lastErrno();
      if (errno === ERRNO.EINTR) continue;
      if (errno === ERRNO.EAGAIN || errno === ERRNO.ENOBUFS || errno === ERRNO.EBADF) {
        // No room for this one means none for those behind it: the same as a full queue on a wire.
        lose(errno, total - at);
        break;
      }
      lose(errno);
      at += 1;
    }
    sent += taken;
    return taken;
  };

  return {
    queue(to, buffer, at, length, from) {
      if (length > payloadBytes) {
        lose(ERRNO.EMSGSIZE);
        return false;
      }
      if (at < 0 || at + length > buffer.length) {
        // Sending less than asked would send what another datagram left in the arena.
        throw new RangeError(`octets ${at}…${at + length} lie outside an array of ${buffer.length}`);
      }
      const name = book.sockaddr(to);
      const info = from === undefined ? undefined : sourceOf(from);
      if (name.length !== nameBytes || info?.length === 0) {
        lose(ERRNO.EAFNOSUPPORT);
        return false;
      }
      if (queued === slots) flush();
      const slot = queued++;
      const header = slot * MMSGHDR_BYTES;
      arena.set(buffer.subarray(at, at + length), batch.slotAt(slot));
      vectors.setUint32(slot * IOVEC_BYTES + 8, length, true);
      if (slotNames[slot] !== name) {
        slotNames[slot] = name;
        batch.nameOctets.set(name, batch.nameAt(slot));
        headers.setUint32(header + NAMELEN_AT, nameBytes, true);
      }
      if (slotSources[slot] !== info) {
        slotSources[slot] = info;
        if (info !== undefined) control.set(info, batch.controlAt(slot));
        headers.setUint32(header + CONTROLLEN_AT, info?.length ?? 0, true);
      }
      return true;
    },
    flush,
    counters: () => ({ sent, sendErrors: { ...sendErrors } }),
  };
}

/** The control message that chooses a source address; empty when `address` is of the other family. */
function packetInfo(family: 4 | 6, address: string): Uint8Array {
  const octets = parseAddress(address, 'from');
  if (octets.length !== (family === 4 ? 4 : 16)) return allocate(0);
  const data = family === 4 ? 12 : 20;
  const memory = allocate((CMSG_HEADER_BYTES + data + 7) & ~7);
  const view = new DataView(memory.buffer);
  view.setUint32(0, CMSG_HEADER_BYTES + data, true);
  view.setInt32(8, family === 4 ? IPPROTO_IP : IPPROTO_IPV6, true);
  view.setInt32(12, family === 4 ? IP_PKTINFO : IPV6_PKTINFO, true);
  // in_pktinfo: ifindex, spec_dst, addr; in6_pktinfo: addr, ifindex. The index stays 0: routing decides.
  memory.set(octets, CMSG_HEADER_BYTES + (family === 4 ? 4 : 0));
  return memory;
}
