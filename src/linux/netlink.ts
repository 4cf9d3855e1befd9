import { MooringError } from '../protocol/errors.ts';
import { ERRNO, errnoName, lastErrno, syscallError } from './errno.ts';
import { allocate, check, closeFd, libc, setSocketOption } from './libc.ts';
import {
  decodeAttributes,
  decodeMessages,
  encodeMessage,
  type NetlinkMessage,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_REQUEST,
  NLMSG_HEADER_BYTES,
  readText,
  viewOf,
} from './netlink-message.ts';

const AF_NETLINK = 16;
const SOCK_RAW = 3;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;
const NETLINK_ROUTE = 0;

const SOL_SOCKET = 1;
const SO_RCVBUF = 8;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

/** The kernel answers at once; this bounds a hang, not a wait. */
const ANSWER_TIMEOUT_S = 5;
const BUFFER_BYTES = 64 * 1024;
/** A table that changes while it is read is read again. */
const DUMP_ATTEMPTS = 5;

/** What is asked: a message type, the family's fixed header and attributes. */
export interface NetlinkRequest {
  readonly type: number;
  /** NLM_F_CREATE and the like; REQUEST and ACK are added. */
  readonly flags?: number;
  readonly fixed: Uint8Array;
  readonly attributes?: readonly Uint8Array[];
}

/**
 * A conversation with rtnetlink in the network namespace of the process. Calls are synchronous: the kernel answers
 * within microseconds.
 */
export interface Netlink {
  /**
   * Changes something. `object` names it in errors, e.g. `route 192.0.2.0/24`. False when the kernel
   * refused with an errno of `harmless`; throws ERR_MOORING_SYSCALL for any other.
   */
  change(request: NetlinkRequest, object: string, harmless?: readonly number[]): boolean;
  /** Lists something: every message of a dump. */
  dump(request: NetlinkRequest, object: string): NetlinkMessage[];
  close(): void;
}

/** Opens a netlink socket; `groups` (RTMGRP_… bits) subscribes to changes and makes it non-blocking. */
export function openNetlinkSocket(groups = 0): number {
  const mode = groups === 0 ? 0 : SOCK_NONBLOCK;
  const fd = check(
    'socket',
    'rtnetlink',
    libc.socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | mode, NETLINK_ROUTE),
  );
  try {
    // sockaddr_nl: family (2), pad (2), port id (4, 0: the kernel chooses), groups (4)
    const address = allocate(12);
    viewOf(address).setUint16(0, AF_NETLINK, true);
    viewOf(address).setUint32(8, groups, true);
    check('bind', 'rtnetlink', libc.bind(fd, address, address.length));
    setSocketOption(fd, SOL_SOCKET, SO_RCVBUF, 1 << 20, 'rtnetlink');
    if (groups === 0) {
      setSocketOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1, 'rtnetlink');
      setSocketOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1, 'rtnetlink');
      const patience = allocate(16);
      viewOf(patience).setUint32(0, ANSWER_TIMEOUT_S, true);
      check('setsockopt', 'rtnetlink', libc.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, patience, 16));
    }
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

export function openNetlink(): Netlink {
  const fd = openNetlinkSocket();
  const buffer = allocate(BUFFER_BYTES);
  let sequence = 0;
  let open = true;

  const ask = (request: NetlinkRequest, flags: number, object: string): number => {
    sequence = (sequence + 1) >>> 0;
    const message = encodeMessage(
      request.type,
      (request.flags ?? 0) | flags | NLM_F_REQUEST,
      sequence,
      request.fixed,
      request.attributes,
    );
    check('send netlink', object, libc.send(fd, message, message.length, 0));
    return sequence;
  };

  /** The next datagram's messages that answer request `wanted`; older ones answer a request that failed midway. */
  const answers = (wanted: number, object: string): NetlinkMessage[] => {
    for (;;) {
      const length = libc.recv(fd, buffer, buffer.length, 0);
      if (length < 0) {
        if (lastErrno() === ERRNO.EINTR) continue;
        throw syscallError('receive netlink', object, lastErrno());
      }
      const messages = decodeMessages(buffer.subarray(0, length));
      const mine = messages.filter((message) => message.sequence === wanted);
      if (mine.length > 0) return mine;
    }
  };

  const list = (request: NetlinkRequest, object: string): NetlinkMessage[] | 'changed' => {
    const wanted = ask(request, NLM_F_DUMP, object);
    const found: NetlinkMessage[] = [];
    let changed = false;
    for (;;) {
      for (const message of answers(wanted, object)) {
        changed ||= (message.flags & NLM_F_DUMP_INTR) !== 0;
        if (message.type === NLMSG_DONE) return changed ? 'changed' : found;
        if (message.type === NLMSG_ERROR) throw refusal(message, 'list', object);
        // The buffer is reused by the next datagram.
        found.push({ ...message, body: message.body.slice() });
      }
    }
  };

  return {
    change(request, object, harmless = []) {
      const wanted = ask(request, NLM_F_ACK, object);
      for (;;) {
        for (const message of answers(wanted, object)) {
          if (message.type !== NLMSG_ERROR) continue;
          const errno = errnoOf(message);
          if (errno === 0) return true;
          if (harmless.includes(errno)) return false;
          throw refusal(message, 'netlink', object);
        }
      }
    },
    dump(request, object) {
      for (let attempt = 0; attempt < DUMP_ATTEMPTS; attempt += 1) {
        const found = list(request, object);
        if (found !== 'changed') return found;
      }
      throw new MooringError(
        'ERR_MOORING_NETLINK_BUSY',
        `${object} changed during each of ${DUMP_ATTEMPTS} listings; try again`,
        { temporary: true },
      );
    },
    close() {
      if (!open) return;
      open = false;
      closeFd(fd);
    },
  };
}

/** Runs `use` with a conversation of its own. */
export function withNetlink<Result>(use: (netlink: Netlink) => Result): Result {
  const netlink = openNetlink();
  try {
    return use(netlink);
  } finally {
    netlink.close();
  }
}

function errnoOf(message: NetlinkMessage): number {
  return message.body.length < 4 ? ERRNO.EIO : -viewOf(message.body).getInt32(0, true);
}

/** `nlmsgerr`: error (4), the request's header (16), then its body unless capped, then extended attributes. */
function refusal(message: NetlinkMessage, call: string, object: string): MooringError {
  const errno = errnoOf(message);
  let said: string | undefined;
  if ((message.flags & NLM_F_ACK_TLVS) !== 0 && message.body.length >= 4 + NLMSG_HEADER_BYTES) {
    const requestBytes =
      (message.flags & NLM_F_CAPPED) !== 0 ? NLMSG_HEADER_BYTES : viewOf(message.body).getUint32(4, true);
    said = readText(decodeAttributes(message.body, 4 + requestBytes), NLMSGERR_ATTR_MSG);
  }
  const error = syscallError(call, object, errno);
  if (said === undefined) return error;
  return new MooringError(
    'ERR_MOORING_SYSCALL',
    `${call} for ${object} failed with ${errnoName(errno)}: the kernel says "${said}"`,
    { temporary: error.temporary, data: { ...error.data, kernel: said } },
  );
}
