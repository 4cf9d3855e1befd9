import { ERRNO, lastErrno, syscallError } from './errno.ts';
import { allocate, check, closeFd, libc, memoryAddress } from './libc.ts';
import {
  CMSG_HEADER_BYTES,
  CONTROL_AT,
  CONTROLLEN_AT,
  IOV_AT,
  IOVEC_BYTES,
  IOVLEN_AT,
  LEN_AT,
  MMSGHDR_BYTES,
} from './message-batch.ts';

const AF_UNIX = 1;
/** One message, one delivery: names and descriptors cannot come apart. */
const SOCK_SEQPACKET = 5;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x40000000;

/** Descriptors in one message; a relay has three. */
const MOST = 16;
const NAMES_BYTES = 1024;

/** Open descriptors by what they are, such as `udp4`. */
export type Descriptors = Readonly<Record<string, number>>;

/** A pair of connected sockets over which one process gives open descriptors to another (unix(7), SCM_RIGHTS). */
export function createDescriptorChannel(): readonly [near: number, far: number] {
  const pair = allocate(8);
  const kind = SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC;
  check('socketpair', 'descriptor channel', libc.socketpair(AF_UNIX, kind, 0, pair));
  const view = new DataView(pair.buffer);
  return [view.getInt32(0, true), view.getInt32(4, true)];
}

/** Gives copies of `descriptors` to the other end. Throws ERR_MOORING_SYSCALL. */
export function giveDescriptors(channel: number, descriptors: Descriptors): void {
  const all = Object.entries(descriptors);
  if (all.length > MOST) throw new Error(`${all.length} descriptors; at most ${MOST} go in one message`);
  const names = Buffer.from(JSON.stringify(all.map(([name]) => name)));
  const message = layOut(names, all.length);
  message.control.setBigUint64(0, BigInt(CMSG_HEADER_BYTES + all.length * 4), true);
  message.control.setInt32(8, SOL_SOCKET, true);
  message.control.setInt32(12, SCM_RIGHTS, true);
  for (const [i, [, fd]] of all.entries()) {
    message.control.setInt32(CMSG_HEADER_BYTES + i * 4, fd, true);
  }
  check('sendmmsg', 'descriptor channel', libc.sendmmsg(channel, message.address, 1, MSG_NOSIGNAL));
}

/** Takes what the other end has given, now the caller's to close; null when there is nothing now. */
export function takeDescriptors(channel: number): Descriptors | null {
  const names = allocate(NAMES_BYTES);
  const message = layOut(names, MOST);
  const count = libc.recvmmsg(channel, message.address, 1, MSG_CMSG_CLOEXEC, 0);
  if (count < 0) {
    const errno = lastErrno();
    if (errno === ERRNO.EAGAIN || errno === ERRNO.EINTR) return null;
    throw syscallError('recvmmsg', 'descriptor channel', errno);
  }
  const length = message.header.getUint32(LEN_AT, true);
  if (count === 0 || length === 0) return null;
  const octets = message.header.getUint32(CONTROLLEN_AT, true);
  const given =
    octets < CMSG_HEADER_BYTES ? 0 : (Number(message.control.getBigUint64(0, true)) - CMSG_HEADER_BYTES) / 4;
  const named = JSON.parse(Buffer.from(names.subarray(0, length)).toString('utf8')) as string[];
  const taken = Array.from({ length: given }, (_, i) =>
    message.control.getInt32(CMSG_HEADER_BYTES + i * 4, true),
  );
  if (named.length !== taken.length) {
    for (const fd of taken) closeFd(fd);
    throw new Error(`${named.length} names came with ${taken.length} descriptors`);
  }
  return Object.fromEntries(named.map((name, i) => [name, taken[i]!]));
}

/** A `mmsghdr` over `octets` with room for `count` descriptors. Its memory lives as long as the result. */
function layOut(octets: Uint8Array, count: number) {
  const control = allocate((CMSG_HEADER_BYTES + count * 4 + 7) & ~7);
  const vector = allocate(IOVEC_BYTES);
  const header = allocate(MMSGHDR_BYTES);
  const vectorView = new DataView(vector.buffer);
  vectorView.setBigUint64(0, BigInt(memoryAddress(octets)), true);
  vectorView.setBigUint64(8, BigInt(octets.length), true);
  const headerView = new DataView(header.buffer);
  headerView.setBigUint64(IOV_AT, BigInt(memoryAddress(vector)), true);
  headerView.setUint32(IOVLEN_AT, 1, true);
  headerView.setBigUint64(CONTROL_AT, BigInt(memoryAddress(control)), true);
  headerView.setUint32(CONTROLLEN_AT, CMSG_HEADER_BYTES + count * 4, true);
  return {
    address: memoryAddress(header),
    header: headerView,
    control: new DataView(control.buffer),
    memory: [octets, vector, header, control],
  };
}
