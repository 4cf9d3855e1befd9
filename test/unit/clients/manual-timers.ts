import type { Timers } from '../../../clients/sdk/timers.ts';

/** A clock that moves only when told: what is due runs in the order of its time. */
export class ManualTimers implements Timers {
  #nowMs = 1_000;
  #due: { readonly atMs: number; readonly run: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const entry = { atMs: this.#nowMs + delayMs, run };
    this.#due.push(entry);
    return () => {
      this.#due = this.#due.filter((other) => other !== entry);
    };
  }

  /** Delays until what is waited for now, soonest first. */
  get waits(): number[] {
    return this.#due.map(({ atMs }) => atMs - this.#nowMs).sort((one, other) => one - other);
  }

  advance(byMs: number): void {
    const untilMs = this.#nowMs + byMs;
    for (;;) {
      const next = this.#due.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (next === undefined) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      this.#due = this.#due.filter((other) => other !== next);
      next.run();
    }
    this.#nowMs = untilMs;
  }
}
