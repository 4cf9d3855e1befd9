/** Inner packets that wait for a path: bounded in octets and in age, oldest dropped first. */
export class UplinkQueue {
  readonly #packets: { readonly octets: Uint8Array; readonly atMs: number }[] = [];
  readonly #maxOctets: number;
  readonly #maxAgeMs: number;
  #octets = 0;
  /** Packets that were given up. */
  dropped = 0;

  constructor(options: { readonly maxOctets: number; readonly maxAgeMs: number }) {
    this.#maxOctets = options.maxOctets;
    this.#maxAgeMs = options.maxAgeMs;
  }

  get length(): number {
    return this.#packets.length;
  }

  /** Copies a packet to the end. */
  push(buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    this.#packets.push({ octets: buffer.slice(at, at + length), atMs: nowMs });
    this.#octets += length;
    while (this.#octets > this.#maxOctets) this.#drop();
  }

  /** Empties the queue in order; what waited too long is dropped: a late packet is worth less than a lost one. */
  drain(nowMs: number, take: (packet: Uint8Array) => void): void {
    while (this.#packets.length > 0 && nowMs - this.#packets[0]!.atMs > this.#maxAgeMs) this.#drop();
    for (const { octets } of this.#packets.splice(0)) take(octets);
    this.#octets = 0;
  }

  #drop(): void {
    const packet = this.#packets.shift();
    if (packet === undefined) return;
    this.#octets -= packet.octets.length;
    this.dropped += 1;
  }
}
