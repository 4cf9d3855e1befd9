import type { SocketAddress } from '../protocol/address.ts';
import { type AddressBook, SOCKADDR_BYTES } from './address-book.ts';
import { ERRNO, errnoName, lastErrno } from './errno.ts';
import { libc } from './libc.ts';
import {
  CMSG_HEADER_BYTES,
  CONTROL_BYTES,
  CONTROLLEN_AT,
  createMessageBatch,
  FLAGS_AT,
  LEN_AT,
  MMSGHDR_BYTES,
  NAMELEN_AT,
} from './message-batch.ts';

const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

const IPPROTO_IP = 0;
const IP_PKTINFO = 8;
const IPPROTO_IPV6 = 41;
const IPV6_PKTINFO = 50;

const HEADROOM = 64;

export interface UdpReceiver {
  readonly buffer: Uint8Array;
  readonly headroom: number;
  receive(): number;
  at(i: number): number;
  length(i: number): number;
  source(i: number): SocketAddress;
  destination(i: number): string;
  counters(): {
    readonly received: number;
    readonly truncated: number;
    readonly receiveErrors: Readonly<Record<string, number>>;
  };
}

/** The receiving half of a UDP socket: recvmmsg into one arena. */
export function createUdpReceiver(
  fd: number,
  book: AddressBook,
  slots: number,
  payloadBytes: number,
): UdpReceiver {
  const batch = createMessageBatch(slots, payloadBytes, HEADROOM);
  const { headers, headersAddress } = batch;
  /** Datagram i of the batch lies in slot `kept[i]`: truncated ones are passed over, not moved. */
  const kept = new Uint16Array(slots);
  let used = 0;
  let received = 0;
  let truncated = 0;
  const receiveErrors: Record<string, number> = {};

  /** The kernel has overwritten these lengths with what it filled in. */
  const rearm = (count: number): void => {
    for (let slot = 0; slot < count; slot += 1) {
      headers.setUint32(slot * MMSGHDR_BYTES + NAMELEN_AT, SOCKADDR_BYTES, true);
      headers.setUint32(slot * MMSGHDR_BYTES + CONTROLLEN_AT, CONTROL_BYTES, true);
    }
  };
  rearm(slots);

  const slotOf = (i: number): number => kept[i] ?? 0;

  return {
    buffer: batch.arena,
    headroom: HEADROOM,
    receive() {
      rearm(used);
      used = 0;
      const count = libc.recvmmsg(fd, headersAddress, slots, MSG_DONTWAIT, 0);
      if (count <= 0) {
        const errno = count < 0 ? lastErrno() : ERRNO.EAGAIN;
        if (errno !== ERRNO.EAGAIN && errno !== ERRNO.EINTR) {
          const name = errnoName(errno);
          receiveErrors[name] = (receiveErrors[name] ?? 0) + 1;
        }
        return 0;
      }
      used = count;
      let whole = 0;
      for (let slot = 0; slot < count; slot += 1) {
        if ((headers.getInt32(slot * MMSGHDR_BYTES + FLAGS_AT, true) & MSG_TRUNC) !== 0) truncated += 1;
        else kept[whole++] = slot;
      }
      received += whole;
      return whole;
    },
    at: (i) => batch.slotAt(slotOf(i)),
    length: (i) => headers.getUint32(slotOf(i) * MMSGHDR_BYTES + LEN_AT, true),
    source: (i) => book.read(batch.names, batch.nameAt(slotOf(i))),
    destination(i) {
      const slot = slotOf(i);
      const { controls } = batch;
      let at = batch.controlAt(slot);
      const end = at + headers.getUint32(slot * MMSGHDR_BYTES + CONTROLLEN_AT, true);
      while (at + CMSG_HEADER_BYTES <= end) {
        const length = controls.getUint32(at, true);
        if (length < CMSG_HEADER_BYTES) break;
        const level = controls.getInt32(at + 8, true);
        const type = controls.getInt32(at + 12, true);
        const data = at + CMSG_HEADER_BYTES;
        // in_pktinfo: ifindex (4), spec_dst (4), addr (4): the last is what the header said.
        if (level === IPPROTO_IP && type === IP_PKTINFO) {
          return book.readAddress(controls, data + 8, 4, 0).address;
        }
        if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) {
          return book.readAddress(controls, data, 6, 0).address;
        }
        at += (length + 7) & ~7;
      }
      return '';
    },
    counters: () => ({ received, truncated, receiveErrors: { ...receiveErrors } }),
  };
}
