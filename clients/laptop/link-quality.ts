/** Probes that the verdict rests on. */
const WINDOW = 16;
/** Fewer tell nothing. */
const LEAST = 4;
/** An answer that is not there by then does not come. */
const LATE_MS = 1_500;
/** A round of probes while packets flow and an answer's time: sooner than a silent path is given up. */
const FRESH_MS = 1_500;
/** What one percent of loss weighs, in milliseconds of round trip. */
const LOSS_MS_PER_PERCENT = 10;
/** Unanswered probes in a row that make a link useless. */
const DEAD_AFTER = 3;
/** Weight of a round trip against those before it. */
const SMOOTHING = 4;

/** What was measured of a link, for status and log. */
export interface Measured {
  /** Null as long as nothing was answered. */
  readonly rttMs: number | null;
  /** Of the last probes, 0 to 100. */
  readonly lossPercent: number;
}

/** What the probes of one link tell. Times are milliseconds on one monotonic clock. */
export class LinkQuality {
  readonly #open = new Map<number, number>();
  /** Oldest first: was it answered? */
  #outcomes: boolean[] = [];
  #rttMs: number | null = null;
  #heardMs = Number.NEGATIVE_INFINITY;
  #lastAnswered = 0;
  #lostInARow = 0;

  /** Ids rise. */
  sent(id: number, nowMs: number): void {
    this.#open.set(id, nowMs);
  }

  /** An answer behind its time counts as lost already. */
  answered(id: number, rttMs: number, nowMs: number): void {
    if (!this.#open.delete(id)) return;
    this.#heardMs = nowMs;
    this.#lostInARow = 0;
    this.#lastAnswered = Math.max(id, this.#lastAnswered);
    this.#rttMs = this.#rttMs === null ? rttMs : this.#rttMs + (rttMs - this.#rttMs) / SMOOTHING;
    this.#note(true);
  }

  /** Time passes: what should have been answered by now is lost. */
  pass(nowMs: number): void {
    for (const [id, sentMs] of this.#open) {
      if (nowMs - sentMs < LATE_MS) continue;
      this.#open.delete(id);
      if (id > this.#lastAnswered) this.#lostInARow += 1;
      this.#note(false);
    }
  }

  get measured(): Measured | null {
    if (this.#outcomes.length === 0) return null;
    const lost = this.#outcomes.filter((wasAnswered) => !wasAnswered).length;
    return { rttMs: this.#rttMs, lossPercent: (100 * lost) / this.#outcomes.length };
  }

  /** It answered just now. */
  isAnswering(nowMs: number): boolean {
    return nowMs - this.#heardMs <= FRESH_MS;
  }

  /** One figure for round trip and loss, milliseconds; Infinity: it is dead; null: too little is known. */
  get costMs(): number | null {
    if (this.#lostInARow >= DEAD_AFTER) return Number.POSITIVE_INFINITY;
    const { measured } = this;
    if (measured === null || measured.rttMs === null || this.#outcomes.length < LEAST) return null;
    return measured.rttMs + LOSS_MS_PER_PERCENT * measured.lossPercent;
  }

  #note(wasAnswered: boolean): void {
    this.#outcomes = [...this.#outcomes.slice(1 - WINDOW), wasAnswered];
  }
}
