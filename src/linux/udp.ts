import { badInput } from '../protocol/errors.ts';
import { createAddressBook, encodeSockaddr, SOCKADDR_BYTES } from './address-book.ts';
import { allocate, check, closeFd, libc, setSocketOption } from './libc.ts';
import { IPPROTO_IP, IPPROTO_IPV6, SOL_UDP, UDP_GRO, UDP_SEGMENT } from './udp-control.ts';
import { createUdpReceiver, type ReceiveCounters, type Received } from './udp-receiver.ts';
import { createUdpSender, type Queued, type SendCounters } from './udp-sender.ts';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0x800;
const SOCK_CLOEXEC = 0x80000;

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_BINDTODEVICE = 25;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SO_MARK = 36;

const IP_PKTINFO = 8;
const IP_MTU_DISCOVER = 10;
const IP_RECVTOS = 13;
const IP_PMTUDISC_DONT = 0;

const IPV6_MTU_DISCOVER = 23;
const IPV6_V6ONLY = 26;
const IPV6_RECVPKTINFO = 49;
const IPV6_RECVTCLASS = 66;

/** Of the kernel, each way; without privilege the system's maximum limits them. */
const BUFFER_BYTES = 4 << 20;

export interface UdpOptions {
  /** One family per socket: a socket of family 6 never carries v4-mapped traffic. */
  readonly family: 4 | 6;
  /** 0 lets the kernel choose. */
  readonly port: number;
  /** Local address; the wildcard when absent. */
  readonly address?: string;
  /** Send and receive through this device only (SO_BINDTODEVICE). */
  readonly device?: string;
  /** Report each datagram's destination address, and allow a source address per datagram. */
  readonly pktinfo?: boolean;
  /** Firewall mark of what is sent, for policy routing (needs CAP_NET_ADMIN). */
  readonly mark?: number;
  readonly reuseAddress?: boolean;
  /**
   * A bound socket that another process opened with these options: used in place of a new one, with what has arrived on it
   * meanwhile. One that is bound to another port is closed and not used.
   */
  readonly inherited?: number;
  /** Report each datagram's traffic class (DSCP and ECN). */
  readonly trafficClass?: boolean;
  /**
   * Datagrams in a row to one address, or from one, pass the kernel's stack as one where it can (UDP_SEGMENT, UDP_GRO): on
   * the wire and here they are single datagrams all the same. It needs UDP checksums, which it leaves to the device.
   */
  readonly inRuns?: boolean;
  /** Largest datagram received or sent, octets (default 2,048); a longer one is dropped and counted. */
  readonly maxDatagramBytes?: number;
  /** Datagrams per system call, 1–1,024 (default 64). */
  readonly batch?: number;
}

/**
 * A UDP socket that moves datagrams in batches: one system call for up to 64 of them (more, where the kernel joined
 * them), no allocation per datagram. Slots stay valid until the next `receive`; indices run from 0 to its result − 1.
 */
export interface UdpSocket extends Received, Queued {
  readonly fd: number;
  readonly family: 4 | 6;
  readonly localPort: number;
  readonly counters: ReceiveCounters & SendCounters;
  close(): void;
}

/**
 * Opens and binds a UDP socket. The kernel may fragment what is sent (an ICMP message must not be able to
 * lower the path MTU that the tunnel relies on). Throws ERR_MOORING_SYSCALL naming address and port.
 */
export function openUdp(options: UdpOptions): UdpSocket {
  const family = options.family;
  const wildcard = family === 4 ? '0.0.0.0' : '::';
  const address = encodeSockaddr(options.address ?? wildcard, options.port);
  if (address.length !== (family === 4 ? 16 : SOCKADDR_BYTES)) {
    throw badInput('address', options.address, `use an IPv${family} address`);
  }
  const object = `UDP ${options.address ?? wildcard} port ${options.port}${options.device === undefined ? '' : ` on ${options.device}`}`;
  const inherited = takeOver(options, object);
  const fd =
    inherited ??
    check(
      'socket',
      object,
      libc.socket(family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0),
    );
  try {
    configure(fd, options, object, inherited !== null);
    if (inherited === null) check('bind', object, libc.bind(fd, address, address.length));
    const inRuns = options.inRuns === true && supportsRuns(fd);
    return assemble(fd, options, boundPort(fd, object), inRuns);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

function takeOver({ inherited, port }: UdpOptions, object: string): number | null {
  if (inherited === undefined) return null;
  if (port === 0 || boundPort(inherited, object) === port) return inherited;
  closeFd(inherited);
  return null;
}

function configure(fd: number, options: UdpOptions, object: string, isBound: boolean): void {
  const set = (level: number, option: number, value: number) =>
    setSocketOption(fd, level, option, value, object);
  if (options.family === 6) {
    // The kernel takes it before the bind only; whoever bound the socket has set it.
    if (!isBound) set(IPPROTO_IPV6, IPV6_V6ONLY, 1);
    set(IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DONT);
    if (options.pktinfo) set(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
    if (options.trafficClass) set(IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
  } else {
    set(IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
    if (options.pktinfo) set(IPPROTO_IP, IP_PKTINFO, 1);
    if (options.trafficClass) set(IPPROTO_IP, IP_RECVTOS, 1);
  }
  if (options.reuseAddress) set(SOL_SOCKET, SO_REUSEADDR, 1);
  if (options.mark !== undefined) set(SOL_SOCKET, SO_MARK, options.mark);
  if (options.device !== undefined) {
    const name = Buffer.from(`${options.device}\0`, 'utf8');
    check(
      'setsockopt SO_BINDTODEVICE',
      object,
      libc.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length),
    );
  }
  sizeBuffer(fd, SO_RCVBUFFORCE, SO_RCVBUF, BUFFER_BYTES, object);
  sizeBuffer(fd, SO_SNDBUFFORCE, SO_SNDBUF, BUFFER_BYTES, object);
}

/**
 * Turns UDP_GRO on; false where the kernel has none. The kernel that has it also cuts (4.18 and 5.0); an older one would take
 * the order to cut for nothing, and send everything as one datagram.
 */
function supportsRuns(fd: number): boolean {
  const [off, on] = [allocate(4), Uint8Array.of(1, 0, 0, 0)];
  return (
    libc.setsockopt(fd, SOL_UDP, UDP_SEGMENT, off, 4) === 0 &&
    libc.setsockopt(fd, SOL_UDP, UDP_GRO, on, 4) === 0
  );
}

/** The forced form passes the system's maximum and needs privilege; the plain form is capped by it. */
function sizeBuffer(fd: number, forced: number, plain: number, bytes: number, object: string): void {
  const value = allocate(4);
  new DataView(value.buffer).setInt32(0, bytes, true);
  if (libc.setsockopt(fd, SOL_SOCKET, forced, value, 4) < 0) {
    setSocketOption(fd, SOL_SOCKET, plain, bytes, object);
  }
}

function boundPort(fd: number, object: string): number {
  const name = allocate(SOCKADDR_BYTES);
  const length = allocate(4);
  length[0] = SOCKADDR_BYTES;
  check('getsockname', object, libc.getsockname(fd, name, length));
  return new DataView(name.buffer).getUint16(2);
}

function assemble(fd: number, options: UdpOptions, localPort: number, inRuns: boolean): UdpSocket {
  const book = createAddressBook();
  const slots = options.batch ?? 64;
  if (!Number.isInteger(slots) || slots < 1 || slots > 1024) {
    throw badInput('batch', slots, 'use 1 to 1024 datagrams');
  }
  const bytes = options.maxDatagramBytes ?? 2048;
  const receiver = createUdpReceiver(fd, book, slots, bytes, inRuns);
  const sender = createUdpSender(fd, options.family, book, slots, bytes, inRuns);
  let open = true;
  return {
    fd,
    family: options.family,
    localPort,
    buffer: receiver.buffer,
    headroom: receiver.headroom,
    receive: () => (open ? receiver.receive() : 0),
    at: receiver.at,
    length: receiver.length,
    source: receiver.source,
    destination: receiver.destination,
    interfaceIndex: receiver.interfaceIndex,
    trafficClass: receiver.trafficClass,
    queue: sender.queue,
    flush: () => (open ? sender.flush() : 0),
    get counters() {
      return { ...receiver.counters(), ...sender.counters() };
    },
    close() {
      if (!open) return;
      sender.flush();
      open = false;
      closeFd(fd);
    },
  };
}
