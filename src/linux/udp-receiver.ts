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
import {
  IP_PKTINFO,
  IP_TOS,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  IPV6_TCLASS,
  SOL_UDP,
  UDP_GRO,
} from './udp-control.ts';

const MSG_TRUNC = 0x20;
const MSG_DONTWAIT = 0x40;

const HEADROOM = 64;
/** What the kernel joins at most. */
const JOINED_BYTES = 65_535;

/** Datagrams of a batch, 0 to what `receive` returned − 1, until the next `receive`. */
export interface Received {
  /** The memory that received datagrams lie in. */
  readonly buffer: Uint8Array;
  /** Octets in front of each slot that belong to it: a header can be written there in place. */
  readonly headroom: number;
  /** Takes what has arrived, up to one batch; 0 when there is nothing now. */
  receive(): number;
  /** Offset of datagram `i` in `buffer`. */
  at(i: number): number;
  length(i: number): number;
  /** Where datagram `i` came from. Equal addresses have equal `key`s, and mostly are the same object. */
  source(i: number): SocketAddress;
  /** The local address that datagram `i` was sent to; `''` without `pktinfo`. */
  destination(i: number): string;
  /** Index of the interface that datagram `i` came in by; 0 without `pktinfo`. */
  interfaceIndex(i: number): number;
  /** DSCP and ECN that datagram `i` arrived with; 0 without the option `trafficClass`. */
  trafficClass(i: number): number;
}

export interface ReceiveCounters {
  readonly received: number;
  /** Longer than `maxDatagramBytes`. */
  readonly truncated: number;
  /** Failed receive calls, by errno name. */
  readonly receiveErrors: Readonly<Record<string, number>>;
}

export interface UdpReceiver extends Received {
  counters(): ReceiveCounters;
}

/**
 * The receiving half of a UDP socket: recvmmsg into one arena. With `joined`, the kernel hands over datagrams in a row from
 * one sender as one message (UDP_GRO), which is taken apart here.
 */
export function createUdpReceiver(
  fd: number,
  book: AddressBook,
  slots: number,
  payloadBytes: number,
  joined = false,
): UdpReceiver {
  const batch = createMessageBatch(slots, joined ? JOINED_BYTES : payloadBytes, HEADROOM);
  const { headers, controls } = batch;
  /** Of datagram i: the slot of its message, and where it lies. What is truncated is passed over, not moved. */
  const slotOf: number[] = new Array(slots).fill(0);
  const starts: number[] = new Array(slots).fill(0);
  const lengths: number[] = new Array(slots).fill(0);
  /** Of each slot: where its control message IP_PKTINFO has its data, or −1; traffic class. */
  const pktinfoAt = new Int32Array(slots);
  const classes = new Uint8Array(slots);
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

  /** Reads what came beside a message; the octets of each datagram in it, 0 for one datagram. */
  const readControls = (slot: number): number => {
    let segmentOctets = 0;
    pktinfoAt[slot] = -1;
    classes[slot] = 0;
    let at = batch.controlAt(slot);
    const end = at + headers.getUint32(slot * MMSGHDR_BYTES + CONTROLLEN_AT, true);
    while (at + CMSG_HEADER_BYTES <= end) {
      const length = controls.getUint32(at, true);
      if (length < CMSG_HEADER_BYTES) break;
      const level = controls.getInt32(at + 8, true);
      const type = controls.getInt32(at + 12, true);
      const data = at + CMSG_HEADER_BYTES;
      if (level === IPPROTO_IP) {
        if (type === IP_PKTINFO) pktinfoAt[slot] = data;
        else if (type === IP_TOS) classes[slot] = controls.getUint8(data);
      } else if (level === IPPROTO_IPV6) {
        if (type === IPV6_PKTINFO) pktinfoAt[slot] = data;
        else if (type === IPV6_TCLASS) classes[slot] = controls.getUint8(data);
      } else if (level === SOL_UDP && type === UDP_GRO) {
        segmentOctets = controls.getInt32(data, true);
      }
      at += (length + 7) & ~7;
    }
    return segmentOctets;
  };

  return {
    buffer: batch.arena,
    headroom: HEADROOM,
    receive() {
      rearm(used);
      used = 0;
      const count = libc.recvmmsg(fd, batch.headersAddress, slots, MSG_DONTWAIT, 0);
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
        const header = slot * MMSGHDR_BYTES;
        const total = headers.getUint32(header + LEN_AT, true);
        const isCut = (headers.getInt32(header + FLAGS_AT, true) & MSG_TRUNC) !== 0;
        const step = readControls(slot) || total;
        let at = 0;
        do {
          const length = Math.min(step, total - at);
          if (isCut || length > payloadBytes) truncated += 1;
          else {
            slotOf[whole] = slot;
            starts[whole] = batch.slotAt(slot) + at;
            lengths[whole] = length;
            whole += 1;
          }
          at += step;
        } while (at < total);
      }
      received += whole;
      return whole;
    },
    at: (i) => starts[i] ?? HEADROOM,
    length: (i) => lengths[i] ?? 0,
    source: (i) => book.read(batch.names, batch.nameAt(slotOf[i] ?? 0)),
    interfaceIndex(i) {
      const at = pktinfoAt[slotOf[i] ?? 0]!;
      if (at < 0) return 0;
      // in_pktinfo begins with it; in6_pktinfo: addr (16), ifindex (4).
      const isV4 = controls.getInt32(at - 8, true) === IPPROTO_IP;
      return controls.getInt32(isV4 ? at : at + 16, true);
    },
    destination(i) {
      const at = pktinfoAt[slotOf[i] ?? 0]!;
      if (at < 0) return '';
      // in_pktinfo: ifindex (4), spec_dst (4), addr (4): the last is what the header said.
      const isV4 = controls.getInt32(at - 8, true) === IPPROTO_IP;
      return isV4
        ? book.readAddress(controls, at + 8, 4, 0).address
        : book.readAddress(controls, at, 6, 0).address;
    },
    trafficClass: (i) => classes[slotOf[i] ?? 0]!,
    counters: () => ({ received, truncated, receiveErrors: { ...receiveErrors } }),
  };
}
