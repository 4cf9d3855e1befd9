import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Timers } from '../../../src/ownership/timers.ts';
import { Broken } from './ledger.ts';

/** A schedule takes some hundreds. */
const MOST_STEPS = 20_000;

interface Due {
  readonly atMs: number;
  readonly run: () => void | Promise<void>;
  cancelled: boolean;
}

/** True time, and everything that is to happen in it: one thing after the other, always in the same order. */
export class Scheduler {
  nowMs = 0;
  /** Looked at after every step. */
  check: () => void = () => undefined;
  steps = 0;
  /** Latest first. */
  private readonly queue: Due[] = [];

  at(atMs: number, run: Due['run']): () => void {
    const due = { atMs: Math.max(atMs, this.nowMs), run, cancelled: false };
    let place = this.queue.length;
    while (place > 0 && this.queue[place - 1]!.atMs <= due.atMs) place -= 1;
    this.queue.splice(place, 0, due);
    return () => {
      due.cancelled = true;
    };
  }

  after(delayMs: number, run: Due['run']): () => void {
    return this.at(this.nowMs + delayMs, run);
  }

  async runUntil(endMs: number): Promise<void> {
    for (;;) {
      const next = this.queue.at(-1);
      if (next === undefined || next.atMs > endMs) break;
      this.queue.pop();
      if (next.cancelled) continue;
      this.nowMs = next.atMs;
      await next.run();
      // Actors wait for nothing but what is scheduled here: by the next turn each of them does.
      await nextTurn();
      this.steps += 1;
      if (this.steps > MOST_STEPS) throw new Broken(`not at rest after ${MOST_STEPS} steps`);
      this.check();
    }
    this.nowMs = endMs;
  }
}

/** Where processes run: a clock of its own, and perhaps not computing for a while. */
export class Host {
  readonly id: string;
  private readonly scheduler: Scheduler;
  private readonly rate: number;
  private readonly startMs: number;
  private pausedUntilMs = 0;
  private readonly backlog: (() => void)[] = [];

  constructor(scheduler: Scheduler, id: string, rate: number, startMs: number) {
    this.scheduler = scheduler;
    this.id = id;
    this.rate = rate;
    this.startMs = startMs;
  }

  /** Monotonic milliseconds of this host. */
  clockMs(): number {
    return this.startMs + this.scheduler.nowMs * this.rate;
  }

  /** When it is, in true time, that the clock shows so much. */
  trueMs(clockMs: number): number {
    return (clockMs - this.startMs) / this.rate;
  }

  get isPaused(): boolean {
    return this.pausedUntilMs > this.scheduler.nowMs;
  }

  /** Nothing computes here for so long; what arrives waits. */
  pause(forMs: number): void {
    const untilMs = this.scheduler.nowMs + forMs;
    if (untilMs <= this.pausedUntilMs) return;
    this.pausedUntilMs = untilMs;
    this.scheduler.at(untilMs, () => this.goOn());
  }

  resume(): void {
    this.pausedUntilMs = 0;
    this.goOn();
  }

  private goOn(): void {
    if (this.isPaused) return;
    for (const work of this.backlog.splice(0)) this.scheduler.after(0, () => this.compute(work));
  }

  compute(work: () => void): void {
    if (this.isPaused) this.backlog.push(work);
    else work();
  }
}

/** One start of a program on a host: what was begun in it ends with it. */
export class Process implements Timers {
  readonly host: Host;
  alive = true;
  private readonly scheduler: Scheduler;

  constructor(scheduler: Scheduler, host: Host) {
    this.scheduler = scheduler;
    this.host = host;
  }

  nowMs = (): number => this.host.clockMs();

  after = (delayMs: number, run: () => void): (() => void) => {
    let cancelled = false;
    const cancel = this.scheduler.at(
      this.host.trueMs(this.host.clockMs() + Math.max(0, delayMs)),
      this.guarded(() => {
        if (!cancelled) run();
      }),
    );
    return () => {
      cancelled = true;
      cancel();
    };
  };

  /** `work`, done here: when the host computes, and not at all when this start has ended. */
  guarded(work: () => void): () => void {
    return () =>
      this.host.compute(() => {
        if (this.alive) work();
      });
  }
}
