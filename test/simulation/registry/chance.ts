/** Reproducible randomness: one number decides everything that is drawn from it (SplitMix32). */
export class Chance {
  private state: number;

  constructor(seed: number) {
    this.state = seed | 0;
  }

  /** 0 ≤ x < 1. */
  next(): number {
    this.state = (this.state + 0x9e3779b9) | 0;
    let x = this.state ^ (this.state >>> 16);
    x = Math.imul(x, 0x21f0aaad);
    x ^= x >>> 15;
    x = Math.imul(x, 0x735a2d97);
    return ((x ^ (x >>> 15)) >>> 0) / 0x1_0000_0000;
  }

  /** A whole number, 0 ≤ x < bound. */
  below(bound: number): number {
    return Math.floor(this.next() * bound);
  }

  /** True so often in a thousand. */
  permille(often: number): boolean {
    return often > 0 && this.next() * 1000 < often;
  }

  octets(count: number): Buffer {
    const octets = Buffer.alloc(count);
    for (let at = 0; at < count; at += 1) octets[at] = this.below(256);
    return octets;
  }
}
