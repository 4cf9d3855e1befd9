/** Something that wants to be called at a time, which may change. */
export interface Due {
  /** When to call; Infinity: not at all. Set by `schedule` only. */
  dueMs: number;
  /** Earliest place in the queue; bookkeeping of the queue's own. */
  queuedMs: number;
}

interface Place<T> {
  readonly atMs: number;
  readonly item: T;
}

/**
 * Who is due when: a binary heap in which a time that moves later costs nothing until the earlier one comes,
 * so that a timer may be put off with every packet.
 */
export class DueQueue<T extends Due> {
  readonly #heap: Place<T>[] = [];

  /** The next moment at which `take` may have something. */
  get nextMs(): number {
    return this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY;
  }

  schedule(item: T, dueMs: number): void {
    item.dueMs = dueMs;
    if (dueMs < item.queuedMs) this.#push(item, dueMs);
  }

  /** The next item that is due at `nowMs`, unscheduled; null when there is none. */
  take(nowMs: number): T | null {
    for (;;) {
      const first = this.#heap[0];
      if (first === undefined || first.atMs > nowMs) return null;
      this.#pop();
      const { item } = first;
      if (first.atMs !== item.queuedMs) continue; // an earlier place has come since
      item.queuedMs = Number.POSITIVE_INFINITY;
      if (item.dueMs > nowMs) {
        if (item.dueMs < Number.POSITIVE_INFINITY) this.#push(item, item.dueMs);
        continue;
      }
      item.dueMs = Number.POSITIVE_INFINITY;
      return item;
    }
  }

  #push(item: T, atMs: number): void {
    item.queuedMs = atMs;
    const heap = this.#heap;
    let i = heap.length;
    const place = { atMs, item };
    heap.push(place);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (heap[parent]!.atMs <= atMs) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = place;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    if (heap.length === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.atMs < heap[child]!.atMs) child += 1;
      if (heap[child]!.atMs >= last.atMs) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
  }
}
