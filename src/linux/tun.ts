import { existsSync } from 'node:fs';
import { ERRNO, lastErrno, syscallError } from './errno.ts';
import { configureInterface, interfaceRequest } from './interface-request.ts';
import { check, closeFd, interfaceIndex, libc, memoryAddress } from './libc.ts';
import { writeSysctl } from './sysctl.ts';

const CLONE_DEVICE = '/dev/net/tun';

const O_RDWR = 2;
const O_NONBLOCK = 0x800;
const O_CLOEXEC = 0x80000;

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;

const IFF_TUN = 0x0001;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;

export interface TunOptions {
  /** Interface name, 1–15 octets; `mooring%d` lets the kernel number it. */
  readonly name: string;
  /** Octets of the largest inner packet. */
  readonly mtu: number;
  /** The device outlives this process, so that a restart attaches to it again (default false). */
  readonly persist?: boolean;
  /** Packets the kernel queues while nobody reads (default: the kernel's 500). */
  readonly queuePackets?: number;
}

/** A TUN (or TAP) device: one packet per read and write, no header in front, never blocking. */
export interface TunDevice {
  readonly name: string;
  readonly fd: number;
  readonly ifindex: number;
  /** Reads one packet to `into[offset…]`; its length, or 0 when there is none now. A longer one is cut at `max`. */
  read(into: Uint8Array, offset: number, max: number): number;
  /** Hands one packet to the kernel; false when the kernel refuses it (malformed, device down, no memory). */
  write(from: Uint8Array, offset: number, length: number): boolean;
  /** Closes the descriptor: the device vanishes unless it is persistent. Safe to call twice. */
  close(): void;
}

/**
 * Creates the TUN device, or attaches to a persistent one of that name, sets its MTU and brings it up
 * without any address. Throws ERR_MOORING_SYSCALL (EPERM without privilege, EBUSY when another process
 * is attached) and ERR_MOORING_BAD_INPUT for an impossible name.
 */
export function openTun(options: TunOptions): TunDevice {
  return openDevice(options, IFF_TUN, 'TUN');
}

/** The same for Ethernet frames. */
export function openTap(options: TunOptions): TunDevice {
  return openDevice(options, IFF_TAP, 'TAP');
}

/** Removes a persistent TUN device; one that does not exist is fine. */
export function removeTun(name: string): void {
  if (libc.ifNameToIndex(name) === 0) return;
  const object = `device ${name}`;
  const { fd } = attach(name, IFF_TUN, object);
  check('ioctl TUNSETPERSIST', object, libc.ioctlNumber(fd, TUNSETPERSIST, 0));
  closeFd(fd);
}

function openDevice(options: TunOptions, kind: number, label: string): TunDevice {
  const object = `${label} device ${options.name}`;
  const attached = attach(options.name, kind, object);
  const { fd, name } = attached;
  try {
    if (options.persist !== undefined) {
      check('ioctl TUNSETPERSIST', object, libc.ioctlNumber(fd, TUNSETPERSIST, options.persist ? 1 : 0));
    }
    quietIpv6(name);
    configureInterface(name, options.mtu, options.queuePackets);
    return device(fd, name, interfaceIndex(name), object);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

function attach(
  wanted: string,
  kind: number,
  object: string,
): { readonly fd: number; readonly name: string } {
  const request = interfaceRequest(wanted.replace('%d', '0'), kind | IFF_NO_PI);
  request.fill(0, 0, 16);
  request.set(Buffer.from(wanted, 'utf8').subarray(0, 15));
  // Asked for beforehand: what looks into it behind a call that failed finds another errno.
  const permit = existsSync(CLONE_DEVICE)
    ? 'let this user open it (udev makes it mode 0666), and grant CAP_NET_ADMIN'
    : 'load the tun module (modprobe tun)';
  const opened = libc.open(CLONE_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC, 0);
  const fd = check(`open ${CLONE_DEVICE}`, object, opened, permit);
  if (libc.ioctl(fd, TUNSETIFF, request) < 0) {
    const errno = lastErrno();
    closeFd(fd);
    const remedy =
      errno === ERRNO.EINVAL
        ? 'a device of this name exists and is of another kind; remove it or choose another name'
        : undefined;
    throw syscallError('ioctl TUNSETIFF', object, errno, remedy);
  }
  return { fd, name: Buffer.from(request.subarray(0, request.indexOf(0))).toString('utf8') };
}

/** Without this the kernel sends router solicitations and listener reports of its own into the tunnel. */
function quietIpv6(name: string): void {
  const path = `net/ipv6/conf/${name}/addr_gen_mode`;
  if (existsSync(`/proc/sys/${path}`)) writeSysctl(path, '1');
}

function device(fd: number, name: string, ifindex: number, object: string): TunDevice {
  // The engine reads and writes few, long-lived arrays: their addresses are looked up once.
  let readArray: Uint8Array | undefined;
  let readBase = 0;
  let writeArray: Uint8Array | undefined;
  let writeBase = 0;
  let open = true;
  return {
    name,
    fd,
    ifindex,
    read(into, offset, max) {
      if (into !== readArray) {
        readArray = into;
        readBase = memoryAddress(into);
      }
      if (offset < 0 || offset + max > into.length) throw outOfBounds(object, offset, max, into.length);
      if (!open) return 0;
      const length = libc.read(fd, readBase + offset, max);
      if (length >= 0) return length;
      const errno = lastErrno();
      if (errno === ERRNO.EAGAIN || errno === ERRNO.EINTR) return 0;
      throw syscallError('read', object, errno, 'the device was removed; open it again');
    },
    write(from, offset, length) {
      if (from !== writeArray) {
        writeArray = from;
        writeBase = memoryAddress(from);
      }
      if (offset < 0 || offset + length > from.length) {
        throw outOfBounds(object, offset, length, from.length);
      }
      return open && libc.write(fd, writeBase + offset, length) === length;
    },
    close() {
      if (!open) return;
      open = false;
      closeFd(fd);
    },
  };
}

/** A bug of the caller's, caught before the kernel writes over somebody else's memory. */
function outOfBounds(object: string, offset: number, length: number, size: number): RangeError {
  return new RangeError(`${object}: octets ${offset}…${offset + length} lie outside an array of ${size}`);
}
