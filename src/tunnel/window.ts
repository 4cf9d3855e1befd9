import { badInput } from '../protocol/errors.ts';
import { WINDOW_SIZE } from './wire.ts';

/** A window at rest: see `ReplayWindow.export`. */
export interface WindowState {
  /** Highest number received; 0 before the first. */
  readonly highest: number;
  /**
   * Hexadecimal octets: bit `j` (least significant first) of octet `k` says that `highest − (8k + j)` was
   * received. Octets of zero at the end are left out.
   */
  readonly bitmap: string;
}

const RING_BITS = 2 * WINDOW_SIZE;
const RING_WORDS = RING_BITS / 32;
const RING_MASK = RING_BITS - 1;

/**
 * A sliding replay window over numbers from 1 (RFC 6479 in spirit): remembers the last `WINDOW_SIZE` of them.
 * Works for the 32-bit sequences of DATA and for CONTROL counters up to 2^53 − 1, which no sender that counts
 * from 1 can exceed. Asking and remembering are separate, so that nothing is remembered before a tag verified.
 */
export class ReplayWindow {
  // Twice the window: whole words can be cleared ahead of it without touching what it still remembers.
  readonly #ring = new Uint32Array(RING_WORDS);
  #highest = 0;

  /** Highest number committed; 0 before the first. */
  get highest(): number {
    return this.#highest;
  }

  /** True when `number` is neither received before nor older than the window. Changes nothing. */
  admits(number: number): boolean {
    if (number > this.#highest) return true;
    if (number < 1 || this.#highest - number >= WINDOW_SIZE) return false;
    return !this.#has(number);
  }

  /** Remembers a number that `admits` accepted. */
  commit(number: number): void {
    if (number > this.#highest) this.#advance(number);
    // The bitwise AND takes the number modulo 2^32 first: right for every safe integer.
    const bit = number & RING_MASK;
    this.#ring[bit >>> 5]! |= 1 << (bit & 31);
  }

  /** What another process needs to go on. */
  export(): WindowState {
    const octets: string[] = [];
    const oldest = Math.max(1, this.#highest - WINDOW_SIZE + 1);
    for (let top = this.#highest; top >= oldest; top -= 8) {
      let octet = 0;
      for (let bit = 0; bit < 8 && top - bit >= oldest; bit += 1) {
        if (this.#has(top - bit)) octet |= 1 << bit;
      }
      octets.push(octet.toString(16).padStart(2, '0'));
    }
    return { highest: this.#highest, bitmap: octets.join('').replace(/(00)+$/, '') };
  }

  /** A window that goes on from `state`; throws ERR_MOORING_BAD_INPUT when it is not one. */
  static import(state: WindowState): ReplayWindow {
    const { highest, bitmap } = state;
    if (!Number.isSafeInteger(highest) || highest < 0) {
      throw badInput('window.highest', highest, `use an integer from 0 to ${Number.MAX_SAFE_INTEGER}`);
    }
    if (!/^([0-9a-f]{2})*$/.test(bitmap) || bitmap.length > WINDOW_SIZE / 4) {
      throw badInput('window.bitmap', bitmap, `use at most ${WINDOW_SIZE / 8} octets in hexadecimal`);
    }
    const window = new ReplayWindow();
    window.#highest = highest;
    if (highest > 0) window.commit(highest);
    for (let at = 0; at < bitmap.length; at += 2) {
      const octet = Number.parseInt(bitmap.slice(at, at + 2), 16);
      for (let bit = 0; bit < 8; bit += 1) {
        const number = highest - (at * 4 + bit);
        if ((octet >> bit) & 1 && number >= 1) window.commit(number);
      }
    }
    return window;
  }

  /** Remembers also what another window of the same numbers received. */
  merge(state: WindowState): void {
    const other = ReplayWindow.import(state);
    if (other.highest === 0) return;
    const from = Math.max(1, this.#highest - WINDOW_SIZE + 1, other.highest - WINDOW_SIZE + 1);
    for (let number = from; number <= other.highest; number += 1) {
      if (other.#has(number)) this.commit(number);
    }
  }

  #has(number: number): boolean {
    const bit = number & RING_MASK;
    return ((this.#ring[bit >>> 5]! >>> (bit & 31)) & 1) === 1;
  }

  #advance(number: number): void {
    if (number - this.#highest >= RING_BITS - 32) {
      this.#ring.fill(0);
    } else {
      const last = (number & RING_MASK) >>> 5;
      let word = (this.#highest & RING_MASK) >>> 5;
      while (word !== last) {
        word = (word + 1) & (RING_WORDS - 1);
        this.#ring[word] = 0;
      }
    }
    this.#highest = number;
  }
}
