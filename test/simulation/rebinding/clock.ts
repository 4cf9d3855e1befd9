interface Planned {
  readonly atMs: number;
  readonly run: () => void;
}

/** One clock for all: what was planned happens in the order of its time, at one moment in the order in which it was planned. */
export class SimulatedClock {
  nowMs = 0;
  readonly #planned: Planned[] = [];

  at(afterMs: number, run: () => void): void {
    const planned = { atMs: this.nowMs + afterMs, run };
    let at = this.#planned.length;
    while (at > 0 && this.#planned[at - 1]!.atMs > planned.atMs) at -= 1;
    this.#planned.splice(at, 0, planned);
  }

  /** `due`: what else is to happen next as things are; it goes before what was planned for the same moment. */
  runUntil(untilMs: number, due: () => Planned): void {
    for (;;) {
      const ticking = due();
      const planned = this.#planned[0];
      const next = planned === undefined || ticking.atMs <= planned.atMs ? ticking : planned;
      if (next.atMs > untilMs) break;
      if (next === planned) this.#planned.shift();
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
    }
    this.nowMs = untilMs;
  }
}
