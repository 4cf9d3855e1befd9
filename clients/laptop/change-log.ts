import { checked } from '../../src/protocol/checked.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { StateDir } from './state-dir.ts';
import { identityOf, type System, SystemChange } from './system-change.ts';

const FILE = 'changes.jsonl';
const checkChange = checked(SystemChange);
/** What these change is always there before, and comes back. */
const HAS_FORMER: ReadonlySet<SystemChange['kind']> = new Set(['sysctl', 'file']);

/**
 * What the agent has changed on this machine: each change is on the disk before it is made, so that whoever
 * comes after a crash can take back exactly these.
 */
export class ChangeLog {
  readonly #state: StateDir;
  readonly #system: System;
  #made: SystemChange[];

  constructor(state: StateDir, system: System) {
    this.#state = state;
    this.#system = system;
    this.#made = read(state);
  }

  /** Changes on record, in the order in which they were made. */
  get made(): readonly SystemChange[] {
    return this.#made;
  }

  /**
   * Brings the machine from what is on record to `plan`: takes back what the plan does not have, makes what
   * is missing, makes sure of the rest. Throws ERR_MOORING_CONFLICT when an object of the plan is there and
   * is not ours; what was made until then stays on record.
   */
  become(plan: readonly SystemChange[]): void {
    const planned = new Set(plan.map(identityOf));
    this.#takeBack(this.#made.filter((change) => !planned.has(identityOf(change))));
    const ours = new Map(this.#made.map((change) => [identityOf(change), change]));
    for (const change of plan) {
      const made = ours.get(identityOf(change));
      if (made?.kind === 'sysctl') {
        this.#system.make(made);
        continue;
      }
      if (made?.kind === 'file' && change.kind === 'file') {
        // What stood there before us is on the first record, and only there.
        if (made.text !== change.text) this.#replace(made, { ...change, before: made.before });
        this.#system.make(change);
        continue;
      }
      if (change.kind === 'sysctl' && change.before === change.value) continue;
      if (made === undefined) {
        if (!HAS_FORMER.has(change.kind) && this.#system.exists(change)) {
          throw new MooringError(
            'ERR_MOORING_CONFLICT',
            `${identityOf(change)} exists already and is not the agent's; remove it, or choose another name or table in the configuration`,
          );
        }
        this.#append(change);
      }
      this.#system.make(change);
    }
  }

  /** Makes one change beside what is on record, or makes it anew if it is on record. Throws ERR_MOORING_CONFLICT. */
  add(change: SystemChange): void {
    const identity = identityOf(change);
    this.become([...this.#made.filter((made) => identityOf(made) !== identity), change]);
  }

  /**
   * Takes back everything but what is to stay, last first. Throws ERR_MOORING_RESTORE when something else stays; that
   * stays on record.
   */
  restore(stays: (change: SystemChange) => boolean = () => false): void {
    this.#takeBack(this.#made.filter((change) => !stays(change)));
  }

  #takeBack(changes: readonly SystemChange[]): void {
    const failed: string[] = [];
    for (const change of changes.toReversed()) {
      try {
        this.#system.unmake(change);
        this.#made = this.#made.filter((other) => other !== change);
      } catch (error) {
        failed.push(`${identityOf(change)}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    if (changes.length > 0) this.#rewrite();
    if (failed.length > 0) {
      throw new MooringError(
        'ERR_MOORING_RESTORE',
        `not taken back: ${failed.join('; ')}; run \`restore\` again as root, or remove them by hand`,
      );
    }
  }

  #replace(made: SystemChange, change: SystemChange): void {
    this.#takeBack([made]);
    this.#append(change);
  }

  #append(change: SystemChange): void {
    this.#state.append(FILE, `${JSON.stringify(change)}\n`);
    this.#made.push(change);
  }

  #rewrite(): void {
    if (this.#made.length === 0) this.#state.remove(FILE);
    else this.#state.write(FILE, this.#made.map((change) => `${JSON.stringify(change)}\n`).join(''));
  }
}

function read(state: StateDir): SystemChange[] {
  const text = state.read(FILE) ?? '';
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  // A last line that is cut short was not finished, so its change was not begun; the next one must not continue it.
  if (whole !== text) state.write(FILE, whole);
  const file = state.file(FILE);
  const lines = whole.split('\n').slice(0, -1);
  return lines.map((line, i) => {
    try {
      return checkChange(JSON.parse(line));
    } catch (cause) {
      throw new MooringError(
        'ERR_MOORING_STATE',
        `${file}: line ${i + 1} is not a change; mend or remove it, then run \`restore\``,
        { cause },
      );
    }
  });
}
