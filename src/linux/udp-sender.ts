import type { SocketAddress } from '../protocol/address.ts';
import type { AddressBook } from './address-book.ts';
import { ERRNO, errnoName, lastErrno } from './errno.ts';
import { allocate, libc } from './libc.ts';
import {
  CONTROLLEN_AT,
  createMessageBatch,
  IOVEC_BYTES,
  MMSGHDR_BYTES,
  NAMELEN_AT,
} from './message-batch.ts';
import { SEGMENT_CONTROL_BYTES, sendControl, writeSegmentSize } from './udp-control.ts';

const MSG_DONTWAIT = 0x40;

/** More local addresses than an engine announces; a bound, not a limit anyone should meet. */
const MAX_SOURCES = 8192;
/** What the kernel takes in one segmented message: UDP_MAX_SEGMENTS of the oldest kernels, and an IP packet's length. */
const MAX_SEGMENTS = 64;
const MAX_RUN_OCTETS = 65_000;
/** Errors that only say that this message cannot be sent as one to be cut: too long for the path, or no checksum offload. */
const NOT_IN_ONE: ReadonlySet<number> = new Set([ERRNO.EMSGSIZE, ERRNO.EINVAL, ERRNO.EIO, ERRNO.EOPNOTSUPP]);

export interface Queued {
  /**
   * Copies a datagram into the send queue; it leaves at `flush`, or when the queue is full. `from` is the local source
   * address (with `pktinfo`), `trafficClass` its DSCP and ECN. False: too long, or not of the socket's family; counted.
   */
  queue(
    to: SocketAddress,
    buffer: Uint8Array,
    at: number,
    length: number,
    from?: string,
    trafficClass?: number,
  ): boolean;
  /** Sends what is queued; the number that the kernel took. What it refused is counted, not thrown. */
  flush(): number;
}

export interface SendCounters {
  readonly sent: number;
  /** Datagrams lost at sending, by errno name. */
  readonly sendErrors: Readonly<Record<string, number>>;
  /** Runs that the kernel would not take as one; their datagrams went one by one. */
  readonly refusedRuns: number;
}

export interface UdpSender extends Queued {
  counters(): SendCounters;
}

/** Datagrams in a row that leave as one message. */
interface Run {
  /** Where the first lies in the arena. */
  at: number;
  count: number;
  /** Of each but the last. */
  octets: number;
  lastOctets: number;
  total: number;
  name: Uint8Array | undefined;
  control: Uint8Array | undefined;
}

/**
 * The sending half of a UDP socket: an arena that sendmmsg empties. Datagrams lie one behind the other; with `inRuns`, those
 * in a row that differ in nothing but content, and in length only at the end, go through the kernel's stack as one
 * message, which it cuts at the device (UDP_SEGMENT). What it cannot cut goes one by one.
 */
export function createUdpSender(
  fd: number,
  family: 4 | 6,
  book: AddressBook,
  slots: number,
  payloadBytes: number,
  inRuns = false,
): UdpSender {
  // One message more, for the datagrams of a run that the kernel refused as one.
  const single = slots;
  const batch = createMessageBatch(slots + 1, payloadBytes, 0);
  const { arena, arenaAddress, headers, vectors, controls } = batch;
  const nameBytes = family === 4 ? 16 : 28;
  const control = new Uint8Array(controls.buffer);
  const sources = new Map<string, (Uint8Array | null)[]>();
  const sendErrors: Record<string, number> = {};
  /** Names and controls stay in their message's memory from flush to flush: a flow's need no copy. */
  const runs: Run[] = Array.from({ length: slots + 1 }, () => ({
    at: 0,
    count: 0,
    octets: 0,
    lastOctets: 0,
    total: 0,
    name: undefined,
    control: undefined,
  }));
  let open = 0;
  let queued = 0;
  let cursor = 0;
  let sent = 0;
  let refusedRuns = 0;

  const lose = (errno: number, count = 1): void => {
    const name = errnoName(errno);
    sendErrors[name] = (sendErrors[name] ?? 0) + count;
  };

  const controlOf = (from: string | undefined, trafficClass: number): Uint8Array | null => {
    const key = from ?? 'any';
    let known = sources.get(key);
    if (known === undefined) {
      if (sources.size >= MAX_SOURCES) sources.clear();
      known = [];
      sources.set(key, known);
    }
    let made = known[trafficClass];
    if (made === undefined) {
      made = sendControl(family, from, trafficClass);
      known[trafficClass] = made;
    }
    return made;
  };

  /** Whom message `number` is for and how it goes; what stood there last often is the same. */
  const address = (number: number, name: Uint8Array, info: Uint8Array): void => {
    const run = runs[number]!;
    const header = number * MMSGHDR_BYTES;
    if (run.name !== name) {
      run.name = name;
      batch.nameOctets.set(name, batch.nameAt(number));
      headers.setUint32(header + NAMELEN_AT, nameBytes, true);
    }
    if (run.control !== info) {
      run.control = info;
      control.set(info, batch.controlAt(number));
    }
  };

  /** What message `number` carries. */
  const fill = (number: number, at: number, octets: number, segmentOctets: number): void => {
    const vector = number * IOVEC_BYTES;
    const from = arenaAddress + at;
    vectors.setUint32(vector, from % 0x1_0000_0000, true);
    vectors.setUint32(vector + 4, Math.floor(from / 0x1_0000_0000), true);
    vectors.setUint32(vector + 8, octets, true);
    const { length } = runs[number]!.control!;
    if (segmentOctets > 0) writeSegmentSize(controls, batch.controlAt(number) + length, segmentOctets);
    const controlBytes = segmentOctets > 0 ? length + SEGMENT_CONTROL_BYTES : length;
    headers.setUint32(number * MMSGHDR_BYTES + CONTROLLEN_AT, controlBytes, true);
  };

  /** One call of sendmmsg that was not interrupted: messages taken, or the negative errno. */
  const send = (first: number, count: number): number => {
    for (;;) {
      const at = batch.headersAddress + first * MMSGHDR_BYTES;
      const taken = libc.sendmmsg(fd, at, count, MSG_DONTWAIT);
      if (taken > 0) return taken;
      const errno = lastErrno();
      if (errno !== ERRNO.EINTR) return -errno;
    }
  };

  /** Sends the datagrams of a run one by one; those the kernel took. */
  const singly = (run: Run): number => {
    refusedRuns += 1;
    address(single, run.name!, run.control!);
    let taken = 0;
    for (let i = 0; i < run.count; i += 1) {
      const octets = i === run.count - 1 ? run.lastOctets : run.octets;
      fill(single, run.at + i * run.octets, octets, 0);
      const result = send(single, 1);
      if (result > 0) taken += 1;
      else lose(-result);
    }
    return taken;
  };

  const flush = (): number => {
    const total = open;
    open = 0;
    queued = 0;
    cursor = 0;
    for (let number = 0; number < total; number += 1) {
      const run = runs[number]!;
      fill(number, run.at, run.total, run.count > 1 ? run.octets : 0);
    }
    let number = 0;
    let taken = 0;
    while (number < total) {
      const result = send(number, total - number);
      for (let i = 0; i < result; i += 1) taken += runs[number++]!.count;
      if (result > 0) continue;
      const run = runs[number]!;
      if (run.count > 1 && NOT_IN_ONE.has(-result)) {
        taken += singly(run);
      } else if (-result === ERRNO.EAGAIN || -result === ERRNO.ENOBUFS || -result === ERRNO.EBADF) {
        // No room for this one means none for those behind it: the same as a full queue on a wire.
        while (number < total) lose(-result, runs[number++]!.count);
      } else {
        lose(-result, run.count);
      }
      number += 1;
    }
    sent += taken;
    return taken;
  };

  const joins = (run: Run, name: Uint8Array, info: Uint8Array, length: number): boolean =>
    run.name === name &&
    run.control === info &&
    run.lastOctets === run.octets &&
    length <= run.octets &&
    length > 0 &&
    run.count < MAX_SEGMENTS &&
    run.total + length <= MAX_RUN_OCTETS;

  return {
    queue(to, buffer, at, length, from, trafficClass = 0) {
      if (length > payloadBytes) {
        lose(ERRNO.EMSGSIZE);
        return false;
      }
      if (at < 0 || at + length > buffer.length) {
        // Sending less than asked would send what another datagram left in the arena.
        throw new RangeError(`octets ${at}…${at + length} lie outside an array of ${buffer.length}`);
      }
      const name = book.sockaddr(to);
      const info = from === undefined && trafficClass === 0 ? NO_CONTROL : controlOf(from, trafficClass);
      if (name.length !== nameBytes || info === null) {
        lose(ERRNO.EAFNOSUPPORT);
        return false;
      }
      if (queued === slots) flush();
      arena.set(buffer.subarray(at, at + length), cursor);
      queued += 1;
      const last = inRuns && open > 0 ? runs[open - 1] : undefined;
      if (last !== undefined && joins(last, name, info, length)) {
        last.count += 1;
        last.lastOctets = length;
        last.total += length;
      } else {
        address(open, name, info);
        const run = runs[open++]!;
        run.at = cursor;
        run.count = 1;
        run.octets = length;
        run.lastOctets = length;
        run.total = length;
      }
      cursor += length;
      return true;
    },
    flush,
    counters: () => ({ sent, sendErrors: { ...sendErrors }, refusedRuns }),
  };
}

const NO_CONTROL = allocate(0);
