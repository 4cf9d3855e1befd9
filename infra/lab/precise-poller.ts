/** `ppoll`: waits for descriptors with sub-millisecond time-outs, which a delay line needs and `poll` rounds away. */
import koffi from 'koffi';
import { allocate, memoryAddress } from '../../src/linux/libc.ts';

const ppoll = koffi
  .load(null)
  .func('ppoll', 'int', ['uintptr_t', 'unsigned long', 'uintptr_t', 'uintptr_t']) as (
  fds: number,
  count: number,
  timeout: number,
  signals: number,
) => number;

/** `struct pollfd`: fd (4), events (2), revents (2). */
const POLLFD_OCTETS = 8;
const POLLIN = 0x0001;
const POLLHUP = 0x0010;

export class PrecisePoller {
  readonly #entries: Uint8Array;
  readonly #view: DataView;
  readonly #timeout = allocate(16);
  readonly #timeoutView = new DataView(this.#timeout.buffer);
  readonly #entriesAddress: number;
  readonly #timeoutAddress = memoryAddress(this.#timeout);
  readonly #count: number;

  constructor(fds: readonly number[]) {
    this.#count = fds.length;
    this.#entries = allocate(fds.length * POLLFD_OCTETS);
    this.#entriesAddress = memoryAddress(this.#entries);
    this.#view = new DataView(this.#entries.buffer);
    fds.forEach((fd, position) => {
      this.#view.setInt32(position * POLLFD_OCTETS, fd, true);
      this.#view.setInt16(position * POLLFD_OCTETS + 4, POLLIN, true);
    });
  }

  /** Waits for input, at most `timeoutMs` (fractions count; undefined: without end). */
  wait(timeoutMs: number | undefined): void {
    if (timeoutMs !== undefined) {
      const nanoseconds = Math.max(0, Math.round(timeoutMs * 1e6));
      this.#timeoutView.setBigInt64(0, BigInt(Math.floor(nanoseconds / 1e9)), true);
      this.#timeoutView.setBigInt64(8, BigInt(nanoseconds % 1e9), true);
    }
    ppoll(this.#entriesAddress, this.#count, timeoutMs === undefined ? 0 : this.#timeoutAddress, 0);
  }

  /** Whether the descriptor at this position had input, or its end, at the last `wait`. */
  readable(position: number): boolean {
    return (this.#view.getInt16(position * POLLFD_OCTETS + 6, true) & (POLLIN | POLLHUP)) !== 0;
  }
}
