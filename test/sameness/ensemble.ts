import type { EngineCommand } from '../../src/datapath/engine-api.ts';
import { ROLES } from './cast.ts';
import { comparable, counted, Difference, leftByReceiver, type Party, requireSame } from './comparing.ts';
import type { Story } from './story.ts';
import type { Subject } from './subject.ts';

/**
 * Several subjects, each with its own copy of every device, on one clock. They are told the same and must do the same: throws a
 * {@link Difference} that says at which step they did not.
 */
export class Ensemble {
  nowMs: number;
  /** Frames that they were given. */
  packets = 0;
  readonly parties: readonly Party[];
  /** Its devices send what is the same for all. */
  readonly leader: Party;
  readonly #ignoreNotices: boolean;
  #step = () => 'the beginning';

  constructor(subjects: readonly [Subject, ...Subject[]], ignoreNotices: boolean, nowMs: number) {
    const parties = subjects.map((subject): Party => ({ subject, devices: ROLES.map(() => null) }));
    this.parties = parties;
    this.leader = parties[0]!;
    this.#ignoreNotices = ignoreNotices;
    this.nowMs = nowMs;
  }

  /** What happens from now on happens at this step. */
  at(step: () => string): void {
    this.#step = step;
  }

  command(command: EngineCommand) {
    const answers = this.parties.map(({ subject }) => subject.command(command, this.nowMs));
    this.#same(
      'the answer',
      answers.map((answer) =>
        answer === null || typeof answer === 'string' ? answer : answer.map(comparable),
      ),
    );
    return answers;
  }

  frame(frame: Uint8Array): void {
    this.packets += 1;
    for (const { subject } of this.parties) subject.frame(frame, this.nowMs);
  }

  pass(ms: number): void {
    const endMs = this.nowMs + ms;
    for (;;) {
      const dueMs = Math.min(...this.parties.map(({ subject }) => subject.nextDueMs()));
      if (dueMs > endMs) break;
      this.nowMs = Math.max(this.nowMs, dueMs);
      for (const { subject } of this.parties) if (subject.nextDueMs() <= this.nowMs) subject.tick(this.nowMs);
    }
    this.nowMs = endMs;
    this.compare();
  }

  /** In order for each device and for the public side: what goes to one of them does not wait for the others. */
  compare(): void {
    const outputs = this.parties.map(({ subject }) => subject.take());
    if (outputs.every((left) => left.length === 0)) return;
    this.#same(
      'what left',
      this.parties.map((party, i) =>
        leftByReceiver(party, outputs[i]!, this.nowMs, { ignoreNotices: this.#ignoreNotices }),
      ),
    );
  }

  compareCounters(story: Story): void {
    this.#same(
      'the counters',
      this.parties.map(({ subject }) => counted(subject.counters(), story)),
    );
  }

  /** `what` came from the leader and not from `other`. */
  missing(what: string, other: Subject): Difference {
    const { name } = this.leader.subject;
    return new Difference(`${what} came from ${name} and not from ${other.name} at ${this.#step()}`);
  }

  #same(what: string, found: readonly unknown[]): void {
    requireSame(
      `${what} differs at ${this.#step()}`,
      this.parties.map(({ subject }, party) => ({ name: subject.name, found: found[party] })),
    );
  }
}
