import { endianness } from 'node:os';
import koffi from 'koffi';
import { MooringError } from '../protocol/errors.ts';
import { lastErrno, syscallError } from './errno.ts';

if (process.platform !== 'linux' || endianness() !== 'LE' || !['x64', 'arm64'].includes(process.arch)) {
  throw new MooringError(
    'ERR_MOORING_PLATFORM',
    `the packet path knows the memory layouts of 64-bit little-endian Linux, not of ${process.platform}-${process.arch}; run it on Linux x64 or arm64`,
  );
}

const library = koffi.load(null);

/**
 * libc, as far as it is used here. Cold calls take a `Uint8Array` for a pointer. Hot calls take the address
 * as a number (`memoryAddress`): no array view is built per packet, and user-space addresses fit in 2^48.
 * Nothing here may wait longer than the caller can: sockets and devices are opened non-blocking.
 */
export const libc = {
  open: library.func('int open(const char *path, int flags, int mode)') as (
    path: string,
    flags: number,
    mode: number,
  ) => number,
  close: library.func('int close(int fd)') as (fd: number) => number,
  /** `ioctl` and `fcntl` are variadic in C; with integer or pointer arguments the call is the same. */
  ioctl: library.func('int ioctl(int fd, unsigned long request, void *argument)') as (
    fd: number,
    request: number,
    argument: Uint8Array,
  ) => number,
  ioctlNumber: library.func('ioctl', 'int', ['int', 'unsigned long', 'long']) as (
    fd: number,
    request: number,
    argument: number,
  ) => number,
  fcntl: library.func('int fcntl(int fd, int command, long argument)') as (
    fd: number,
    command: number,
    argument: number,
  ) => number,
  socket: library.func('int socket(int domain, int type, int protocol)') as (
    domain: number,
    type: number,
    protocol: number,
  ) => number,
  bind: library.func('int bind(int fd, void *address, unsigned int length)') as (
    fd: number,
    address: Uint8Array,
    length: number,
  ) => number,
  getsockname: library.func('int getsockname(int fd, void *address, void *length)') as (
    fd: number,
    address: Uint8Array,
    length: Uint8Array,
  ) => number,
  socketpair: library.func('int socketpair(int domain, int type, int protocol, void *pair)') as (
    domain: number,
    type: number,
    protocol: number,
    pair: Uint8Array,
  ) => number,
  setsockopt: library.func(
    'int setsockopt(int fd, int level, int name, void *value, unsigned int length)',
  ) as (fd: number, level: number, name: number, value: Uint8Array, length: number) => number,
  send: library.func('long send(int fd, void *from, size_t length, int flags)') as (
    fd: number,
    from: Uint8Array,
    length: number,
    flags: number,
  ) => number,
  sendto: library.func(
    'long sendto(int fd, void *from, size_t length, int flags, void *address, unsigned int addressLength)',
  ) as (
    fd: number,
    from: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number,
  ) => number,
  recv: library.func('long recv(int fd, void *into, size_t length, int flags)') as (
    fd: number,
    into: Uint8Array,
    length: number,
    flags: number,
  ) => number,
  ifNameToIndex: library.func('unsigned int if_nametoindex(const char *name)') as (name: string) => number,
  /** Variadic in C, like `ioctl`. */
  prctl: library.func('int prctl(int option, unsigned long argument)') as (
    option: number,
    argument: number,
  ) => number,
  eventfd: library.func('int eventfd(unsigned int initial, int flags)') as (
    initial: number,
    flags: number,
  ) => number,

  // Hot calls: addresses as numbers.
  read: library.func('read', 'long', ['int', 'uintptr_t', 'size_t']) as (
    fd: number,
    into: number,
    length: number,
  ) => number,
  write: library.func('write', 'long', ['int', 'uintptr_t', 'size_t']) as (
    fd: number,
    from: number,
    length: number,
  ) => number,
  poll: library.func('poll', 'int', ['uintptr_t', 'unsigned long', 'int']) as (
    fds: number,
    count: number,
    timeoutMs: number,
  ) => number,
  recvmmsg: library.func('recvmmsg', 'int', ['int', 'uintptr_t', 'unsigned int', 'int', 'uintptr_t']) as (
    fd: number,
    messages: number,
    count: number,
    flags: number,
    timeout: number,
  ) => number,
  sendmmsg: library.func('sendmmsg', 'int', ['int', 'uintptr_t', 'unsigned int', 'int']) as (
    fd: number,
    messages: number,
    count: number,
    flags: number,
  ) => number,
} as const;

/**
 * Where the first octet of `memory` lies. Valid as long as the caller keeps `memory` alive and does not
 * detach or resize its buffer: whoever stores the number stores the array beside it.
 */
export function memoryAddress(memory: Uint8Array): number {
  return Number(koffi.address(memory));
}

const permanent: Uint8Array[] = [];

/**
 * The address of memory that lives as long as the thread. A constant of a module that no function mentions is
 * collected like any other value, and its address then is somebody else's memory.
 */
export function permanentAddress(memory: Uint8Array): number {
  permanent.push(memory);
  return memoryAddress(memory);
}

/** Zeroed memory of its own, never part of a pool that others write to. */
export function allocate(bytes: number): Uint8Array {
  return new Uint8Array(new ArrayBuffer(bytes));
}

/** `result` if it is not negative, else ERR_MOORING_SYSCALL about `object`. */
export function check(call: string, object: string, result: number, remedy?: string): number {
  if (result >= 0) return result;
  throw syscallError(call, object, lastErrno(), remedy);
}

/** Closes a descriptor; a second close of the same number would hit somebody else's. */
export function closeFd(fd: number): void {
  libc.close(fd);
}

/** Sets an integer socket option. */
export function setSocketOption(
  fd: number,
  level: number,
  option: number,
  value: number,
  object: string,
): void {
  const bytes = allocate(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  check('setsockopt', object, libc.setsockopt(fd, level, option, bytes, 4));
}

/** Index of a network device; ERR_MOORING_SYSCALL (ENODEV) when there is none of that name. */
export function interfaceIndex(device: string): number {
  const index = libc.ifNameToIndex(device);
  if (index === 0) throw syscallError('if_nametoindex', `device ${device}`, lastErrno());
  return index;
}

/** True when the process runs as root: what TUN devices, routes and raw sockets need. */
export function isRoot(): boolean {
  return process.geteuid?.() === 0;
}
