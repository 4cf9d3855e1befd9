import { ERRNO, lastErrno, syscallError } from './errno.ts';
import { allocate, check, closeFd, libc, memoryAddress, permanentAddress } from './libc.ts';

/** `struct pollfd`: fd (4), events (2), revents (2). */
const POLLFD_BYTES = 8;
const POLLIN = 1;

const EFD_NONBLOCK = 0x800;
const EFD_CLOEXEC = 0x80000;

export interface Poller {
  /** Watches a descriptor for something to read; the same descriptor twice is watched once. */
  add(fd: number): void;
  remove(fd: number): void;
  /**
   * Blocks the thread until a descriptor is readable (or broken), at most `timeoutMs` (0: not at all). The array is reused
   * by the next call. A signal ends the wait with none ready.
   */
  wait(timeoutMs: number): readonly number[];
}

/** poll(2) over a changing set of descriptors. */
export function createPoller(): Poller {
  const watched: number[] = [];
  const ready: number[] = [];
  let memory = allocate(16 * POLLFD_BYTES);
  let view = new DataView(memory.buffer);
  let base = memoryAddress(memory);

  const layOut = () => {
    if (watched.length * POLLFD_BYTES > memory.length) {
      memory = allocate(memory.length * 2);
      view = new DataView(memory.buffer);
      base = memoryAddress(memory);
    }
    for (const [i, fd] of watched.entries()) {
      view.setInt32(i * POLLFD_BYTES, fd, true);
      view.setInt16(i * POLLFD_BYTES + 4, POLLIN, true);
    }
  };

  return {
    add(fd) {
      if (watched.includes(fd)) return;
      watched.push(fd);
      layOut();
    },
    remove(fd) {
      const at = watched.indexOf(fd);
      if (at < 0) return;
      watched.splice(at, 1);
      layOut();
    },
    wait(timeoutMs) {
      ready.length = 0;
      const count = libc.poll(base, watched.length, wholeMs(timeoutMs));
      if (count < 0) {
        const errno = lastErrno();
        if (errno === ERRNO.EINTR || errno === ERRNO.EAGAIN) return ready;
        throw syscallError('poll', `${watched.length} descriptors`, errno);
      }
      for (let i = 0; count > 0 && i < watched.length; i += 1) {
        if (view.getInt16(i * POLLFD_BYTES + 6, true) !== 0) ready.push(watched[i]!);
      }
      return ready;
    },
  };
}

/** Rounded up: a wait must not end just before what it waits for. Infinity becomes 24 days. */
function wholeMs(ms: number): number {
  return ms > 0 ? Math.min(Math.ceil(ms), 0x7fffffff) : 0;
}

export interface Wakeup {
  /** Give this number to other threads: they wake with `wakeFd(fd)`. */
  readonly fd: number;
  wake(): void;
  /** Takes all wakes so far; true when there was one. */
  drain(): boolean;
  close(): void;
}

/** An eventfd that ends another thread's `wait`. Wakes are not counted: many are one. */
export function createWakeup(): Wakeup {
  const fd = check('eventfd', 'wake-up', libc.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  let open = true;
  return {
    fd,
    wake: () => {
      if (open) wakeFd(fd);
    },
    drain: () => drainFd(fd),
    close() {
      if (!open) return;
      open = false;
      closeFd(fd);
    },
  };
}

const oneAddress = permanentAddress(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0));
const sinkAddress = permanentAddress(allocate(8));

/** Wakes whoever waits on the eventfd, from any thread of the process. */
export function wakeFd(fd: number): void {
  // EAGAIN: the counter is full, so a wake is pending already.
  if (libc.write(fd, oneAddress, 8) < 0 && lastErrno() !== ERRNO.EAGAIN) {
    throw syscallError('write', `wake-up ${fd}`, lastErrno());
  }
}

/** Takes all wakes of an eventfd; true when there was one. */
export function drainFd(fd: number): boolean {
  return libc.read(fd, sinkAddress, 8) === 8;
}
