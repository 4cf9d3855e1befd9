/** Octets that all queues of one engine may hold together. */
export interface HoldBudget {
  freeOctets: number;
}

/** Bounds of one queue. */
export const HOLD = { octets: 256 * 1024, packets: 1024 } as const;

/**
 * Downlink packets that wait for a path to be proven, in order. Bounded in octets and packets, and by what the
 * whole engine may hold: what does not fit is refused at the end, so what was taken stays in order.
 */
export class HoldQueue {
  readonly #budget: HoldBudget;
  /** Octets left free in front of each packet, so that a header can be written there in place. */
  readonly #headroom: number;
  #packets: Uint8Array[] = [];
  #octets = 0;

  constructor(budget: HoldBudget, headroom: number) {
    this.#budget = budget;
    this.#headroom = headroom;
  }

  get length(): number {
    return this.#packets.length;
  }

  /** Copies a packet to the end; false when there is no room for it. */
  push(buffer: Uint8Array, at: number, length: number): boolean {
    const octets = this.#headroom + length;
    if (this.#packets.length >= HOLD.packets || this.#octets + octets > HOLD.octets) return false;
    if (octets > this.#budget.freeOctets) return false;
    const copy = new Uint8Array(octets);
    copy.set(buffer.subarray(at, at + length), this.#headroom);
    this.#packets.push(copy);
    this.#octets += octets;
    this.#budget.freeOctets -= octets;
    return true;
  }

  /** Empties the queue, oldest first; each packet lies at `at` in a buffer with headroom before it. */
  release(each: (buffer: Uint8Array, at: number, length: number) => void): void {
    const packets = this.#packets;
    this.clear();
    for (const packet of packets) each(packet, this.#headroom, packet.length - this.#headroom);
  }

  /** Forgets what is held; the number of packets lost by it. */
  clear(): number {
    const lost = this.#packets.length;
    this.#budget.freeOctets += this.#octets;
    this.#packets = [];
    this.#octets = 0;
    return lost;
  }
}
