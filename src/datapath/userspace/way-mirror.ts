import type { FastSession, FastSessionFacts, FastWay } from '../fast-path.ts';

/** The engine in front holds this much longer than this one: what was queued must leave before what it lets through. */
const HOLD_LONGER_MS = 100;
/** Numbers of lane 0 that are named to the next process ahead of their use: this many at a time. */
const RESERVED_NUMBERS = 64;

/** Who waits until the packets on their way to this engine were sent. */
export interface Settling {
  settled(nowMs: number): void;
}

/**
 * Tells the engine in front where a session's downlink goes. It goes on behind this engine only: newer packets must overtake
 * neither what is queued here nor what it left to this engine before.
 */
export class WayMirror implements Settling {
  readonly #fast: FastSession;
  readonly #settling: Set<Settling>;
  #way: Omit<FastWay, 'heldUntilMs'> | null = null;
  /** This engine queues until then. */
  #queuesUntilMs: number | null = null;
  #forwards = false;
  /** Lane 0 may use numbers below this. */
  #reserved = 0;

  constructor(fast: FastSession, settling: Set<Settling>) {
    this.#fast = fast;
    this.#settling = settling;
  }

  /** The way (null: none), and until when this engine queues what goes there (null: it does not). */
  tell(
    way: Omit<FastWay, 'heldUntilMs'> | null,
    queuesUntilMs: number | null,
    facts: FastSessionFacts,
    nowMs: number,
  ): void {
    this.#way = way;
    this.#queuesUntilMs = queuesUntilMs;
    this.#fast.facts(facts);
    this.#tell(nowMs);
  }

  /** What was on its way to this engine has been sent: the engine in front may go on. */
  settled(nowMs: number): void {
    this.#forwards = true;
    this.#tell(nowMs);
  }

  /** The engine in front, which can take a way now, could not before: it has left every packet to this engine. */
  waited(): void {
    this.#forwards = false;
  }

  /** Lane 0 goes on at `sequence` where another process or relay stopped; the engine in front may have gone on already. */
  resume(sequence: number): void {
    this.#reserved = 0;
    this.#fast.reserve(sequence);
    this.#forwards = this.#fast.forwards;
  }

  /** Lane 0 is about to use `sequence`. */
  reserve(sequence: number): void {
    if (sequence < this.#reserved) return;
    this.#reserved = sequence + RESERVED_NUMBERS;
    this.#fast.reserve(this.#reserved);
  }

  /** What is reserved from now on are numbers of another key. */
  keyChanges(): void {
    this.#reserved = 0;
  }

  retire(): void {
    this.#settling.delete(this);
  }

  #tell(nowMs: number): void {
    const way = this.#way;
    const queuesUntilMs = this.#queuesUntilMs;
    if (way === null || queuesUntilMs !== null) this.#forwards = false;
    const settles = way !== null && queuesUntilMs === null && !this.#forwards;
    if (settles) this.#settling.add(this);
    else this.#settling.delete(this);
    if (way === null) this.#fast.way(null);
    else if (this.#forwards) this.#fast.way({ ...way, heldUntilMs: null });
    else this.#fast.way({ ...way, heldUntilMs: (queuesUntilMs ?? nowMs) + HOLD_LONGER_MS });
  }
}
