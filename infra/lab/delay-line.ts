/** One direction of an emulated link: fixed delay, loss by a seeded generator, order kept. Pure; the caller gives time. */
import { seededRandom } from './seeded-random.ts';

export interface LinkShape {
  /** One-way delay in milliseconds. */
  readonly delayMs: number;
  /** Share of frames lost, 0 to 1. */
  readonly lossRate: number;
  /** Silently loses everything, what is in flight included. */
  readonly dead: boolean;
}

export interface LineCounters {
  /** Frames offered. */
  offered: number;
  /** Frames lost by `lossRate`, by `dead`, or because the line was full. */
  lost: number;
}

/** Frames that a line holds at most: 2 s at 5,000 packets/s. */
const CAPACITY = 10_000;

export class DelayLine<Frame> {
  readonly counters: LineCounters = { offered: 0, lost: 0 };
  readonly #random: () => number;
  #shape: LinkShape;
  #queue: { readonly dueMs: number; readonly frame: Frame }[] = [];
  #head = 0;
  #lastDueMs = 0;

  constructor(shape: LinkShape, seed: number) {
    this.#shape = shape;
    this.#random = seededRandom(seed);
  }

  /** Changes apply to frames offered from now on; a shorter delay does not let them overtake. */
  reshape(change: Partial<LinkShape>): void {
    this.#shape = { ...this.#shape, ...change };
    if (this.#shape.dead) this.loseAll();
  }

  /** What is in flight never arrives. */
  loseAll(): void {
    this.counters.lost += this.#queue.length - this.#head;
    this.#queue = [];
    this.#head = 0;
  }

  /** @param exempt crosses at once and is not lost by chance, for address resolution on the access link itself */
  offer(frame: Frame, nowMs: number, exempt = false): void {
    this.counters.offered += 1;
    const { dead, lossRate, delayMs } = this.#shape;
    const unlucky = !exempt && lossRate > 0 && this.#random() < lossRate;
    if (dead || unlucky || this.#queue.length - this.#head >= CAPACITY) {
      this.counters.lost += 1;
      return;
    }
    if (exempt) {
      this.#queue.splice(this.#head, 0, { dueMs: nowMs, frame });
      return;
    }
    this.#lastDueMs = Math.max(this.#lastDueMs, nowMs + delayMs);
    this.#queue.push({ dueMs: this.#lastDueMs, frame });
  }

  /** When the next frame is due, or undefined if none is in flight. */
  get nextDueMs(): number | undefined {
    return this.#queue[this.#head]?.dueMs;
  }

  /** Takes the next frame that is due. */
  take(nowMs: number): Frame | undefined {
    const entry = this.#queue[this.#head];
    if (!entry || entry.dueMs > nowMs) return undefined;
    this.#head += 1;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head >= 1_024) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    return entry.frame;
  }
}
