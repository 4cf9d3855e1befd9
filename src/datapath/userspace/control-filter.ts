import { ReplayWindow } from '../../tunnel/window.ts';
import { CONTROL } from '../../tunnel/wire.ts';

/** Incarnations of the device whose counters are remembered: the current one and those still in flight. */
const BOOTS = 4;

/**
 * Knows the CONTROL datagrams that were opened before, so that a flood of captured ones costs a look-up and no
 * decryption. Only a filter: what a message may change, the state machine judges.
 */
export class ControlFilter {
  readonly #windows = new Map<bigint, ReplayWindow>();

  /** True when the datagram at `at` (116 octets) claims a boot and counter that were remembered. */
  seen(buffer: Uint8Array, at: number): boolean {
    if (this.#windows.size === 0) return false;
    const window = this.#windows.get(bootOf(buffer, at));
    return window !== undefined && !window.admits(Number(u64(buffer, at + CONTROL.counter)));
  }

  /** Remembers an authentic message; of all incarnations, `current` is not forgotten for others. */
  remember(boot: bigint, counter: bigint, current: bigint): void {
    let window = this.#windows.get(boot);
    if (window === undefined) {
      if (this.#windows.size >= BOOTS) this.#forgetOldest(current);
      window = new ReplayWindow();
      this.#windows.set(boot, window);
    }
    window.commit(Number(counter));
  }

  #forgetOldest(but: bigint): void {
    for (const boot of this.#windows.keys()) {
      if (boot === but) continue;
      this.#windows.delete(boot);
      return;
    }
  }
}

/** The sender's incarnation in the header of a CONTROL datagram at `at`. */
export function bootOf(buffer: Uint8Array, at: number): bigint {
  return u64(buffer, at + CONTROL.boot);
}

function u64(buffer: Uint8Array, at: number): bigint {
  return new DataView(buffer.buffer, buffer.byteOffset + at, 8).getBigUint64(0);
}
