/** TAP devices, poll and raw descriptors for the link emulator: just what its synchronous loop needs. */
import { closeSync, constants, openSync } from 'node:fs';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const ioctl = libc.func('int ioctl(int fd, unsigned long request, void *argument)');
const nativeRead = libc.func('long read(int fd, void *buffer, unsigned long length)');
const nativeWrite = libc.func('long write(int fd, const void *buffer, unsigned long length)');
const nativePoll = libc.func('int ppoll(void *fds, unsigned long count, void *timeout, void *signals)');

// linux/if_tun.h
const TUNSETIFF = 0x4004_54ca;
const TUNSETCARRIER = 0x4004_54e2;
const IFF_TAP = 0x0002;
const IFF_NO_PI = 0x1000;
const IFREQ_SIZE = 40;
const IFNAMSIZ = 16;
// poll.h
const POLLIN = 0x0001;
const POLLHUP = 0x0010;

function fail(what: string): never {
  const errno = koffi.errno();
  const name = Object.entries(koffi.os.errno).find(([, value]) => value === errno)?.[0] ?? errno;
  throw new Error(`${what} failed: ${name}`);
}

/** Opens a TAP device of this name in the namespace of this process; it disappears with the descriptor. */
export function openTap(name: string): number {
  const fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  const request = Buffer.alloc(IFREQ_SIZE);
  request.write(name, 0, IFNAMSIZ - 1, 'latin1');
  request.writeInt16LE(IFF_TAP | IFF_NO_PI, IFNAMSIZ);
  if (ioctl(fd, TUNSETIFF, request) < 0) {
    closeSync(fd);
    fail(`TUNSETIFF for ${name}`);
  }
  return fd;
}

/** Plugs or pulls the virtual cable, wherever the device has been moved. */
export function setCarrier(tap: number, up: boolean): void {
  const flag = Buffer.alloc(4);
  flag.writeInt32LE(up ? 1 : 0);
  if (ioctl(tap, TUNSETCARRIER, flag) < 0) fail('TUNSETCARRIER');
}

/** @returns octets read; 0 at the end of a stream; -1 if nothing is there */
export function readFrom(fd: number, buffer: Buffer): number {
  return nativeRead(fd, buffer, buffer.length);
}

/** @returns false if the device refused the frame, for example because its interface is down */
export function writeTo(fd: number, data: Buffer): boolean {
  return nativeWrite(fd, data, data.length) === data.length;
}

export class Poller {
  readonly #entries: Buffer;
  readonly #timeout = Buffer.alloc(16);
  readonly #fds: readonly number[];

  constructor(fds: readonly number[]) {
    this.#fds = fds;
    this.#entries = Buffer.alloc(fds.length * 8);
    fds.forEach((fd, position) => {
      this.#entries.writeInt32LE(fd, position * 8);
      this.#entries.writeInt16LE(POLLIN, position * 8 + 4);
    });
  }

  /** Waits for input, at most `timeoutMs` (fractions count; undefined: without end). */
  wait(timeoutMs: number | undefined): void {
    if (timeoutMs !== undefined) {
      const nanoseconds = Math.max(0, Math.round(timeoutMs * 1e6));
      this.#timeout.writeBigInt64LE(BigInt(Math.floor(nanoseconds / 1e9)), 0);
      this.#timeout.writeBigInt64LE(BigInt(nanoseconds % 1e9), 8);
    }
    nativePoll(this.#entries, this.#fds.length, timeoutMs === undefined ? null : this.#timeout, null);
  }

  /** Whether the descriptor at this position had input at the last `wait`. */
  readable(position: number): boolean {
    return (this.#entries.readInt16LE(position * 8 + 6) & (POLLIN | POLLHUP)) !== 0;
  }
}
