import type { Grace } from './grace.ts';

/** Numbers of places in an array. One that was given back is given out again after a grace period. */
export class Slots {
  readonly #grace: Grace;
  readonly #free: number[] = [];
  readonly #taken: Set<number>;
  readonly #capacity: number;
  #fresh = 0;

  /** `taken`: places that are in use already. */
  constructor(capacity: number, grace: Grace, taken: Iterable<number> = []) {
    this.#capacity = capacity;
    this.#grace = grace;
    this.#taken = new Set(taken);
  }

  /** The number of a place that nobody uses; null when all are used, or wait. */
  take(): number | null {
    const freed = this.#free.pop();
    if (freed !== undefined) return freed;
    while (this.#fresh < this.#capacity) {
      this.#fresh += 1;
      const slot = this.#fresh - 1;
      if (!this.#taken.delete(slot)) return slot;
    }
    return null;
  }

  /** `then` runs when the place can be used again. */
  giveBack(slot: number, then: () => void = () => {}): void {
    this.#grace.after(() => {
      then();
      this.#free.push(slot);
    });
  }
}
