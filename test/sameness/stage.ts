import { Arriving } from './arriving.ts';
import { ANCHORS, ROLES } from './cast.ts';
import { hex } from './device.ts';
import { Ensemble } from './ensemble.ts';
import { Installing } from './installing.ts';
import type { Step, Story } from './story.ts';
import type { Subject } from './subject.ts';

export interface Played {
  readonly packets: number;
}

/** Every step takes this long: limits on rates are then the same for whoever counts them. */
const STEP_MS = 20;
/** From the end of one story to the beginning of the next: whatever remembers anything has forgotten it by then. */
const BETWEEN_MS = 120_000;
const PROBES = 6;

export interface PlayOptions {
  /** Why a packet was dropped is told to devices seldom, and not by every subject equally seldom. */
  readonly ignoreNotices?: boolean;
}

/** Stories follow one another on one clock: what is kept between them, in XDP's maps, would not like to go back. */
let nextStartMs = 1_000;

/**
 * Plays a story to several subjects at once. The first leads: its devices send. The others must do the same, step by
 * step, in words that do not depend on lanes, sequence numbers and counters. Throws a {@link Difference}.
 */
export function play(
  story: Story,
  subjects: readonly [Subject, ...Subject[]],
  { ignoreNotices = false }: PlayOptions = {},
): Played {
  const ensemble = new Ensemble(subjects, ignoreNotices, nextStartMs);
  try {
    new Stage(story, ensemble).play();
    return { packets: ensemble.packets };
  } finally {
    for (const subject of subjects) {
      for (const { id } of ANCHORS) subject.command({ op: 'drop-anchor', anchor: id }, ensemble.nowMs);
    }
    nextStartMs = ensemble.nowMs + BETWEEN_MS;
  }
}

/** One story, step by step. */
class Stage {
  readonly #story: Story;
  readonly #ensemble: Ensemble;
  readonly #installing: Installing;
  readonly #arriving: Arriving;
  readonly #present: readonly number[];

  constructor(story: Story, ensemble: Ensemble) {
    this.#story = story;
    this.#ensemble = ensemble;
    this.#installing = new Installing(ensemble);
    const where = story.paths.map((place) => (typeof place === 'number' ? place : 0));
    this.#arriving = new Arriving(ensemble, where, STEP_MS);
    this.#present = ROLES.map((_, role) => role).filter((role) => story.paths[role] !== 'absent');
  }

  play(): void {
    this.#begin();
    this.#story.steps.forEach((planned, number) => {
      const step = this.#ofPresent(planned);
      this.#ensemble.at(() => `step ${number}: ${described(step)}`);
      this.#take(step);
      this.#ensemble.compare();
      this.#ensemble.pass(STEP_MS);
    });
    this.#end();
  }

  #begin(): void {
    this.#installing.hostAddresses(false);
    this.#installing.anchors();
    ROLES.forEach((_, role) => {
      const place = this.#story.paths[role]!;
      if (place !== 'absent') this.#installing.begin(role, place === 'nowhere' ? null : place);
    });
    this.#ensemble.compare();
  }

  /** A role that is not there would do nothing: another one does it. */
  #ofPresent(step: Step): Step {
    if (!('role' in step) || step.role === null) return step;
    return { ...step, role: this.#present[step.role % this.#present.length] ?? step.role };
  }

  #take(step: Step): void {
    switch (step.do) {
      case 'down':
        this.#arriving.down(step);
        break;
      case 'up':
        this.#arriving.up(step);
        break;
      case 'reply':
        this.#arriving.reply(step);
        break;
      case 'raw':
        this.#arriving.raw(step.octets, step.from, step.octets.length % ANCHORS.length);
        break;
      case 'noise':
        this.#arriving.noise(step.octets);
        break;
      case 'pieces':
        this.#arriving.pieces(step);
        break;
      case 'bind':
        this.#arriving.bind(step.role, step.path, step.oldPath);
        break;
      case 'hold':
      case 'keepalive':
        this.#arriving.say(step.role, step.do);
        break;
      case 'answer':
        this.#arriving.answer(step.role);
        break;
      case 'pass':
        this.#ensemble.pass(step.ms);
        break;
      case 'lease':
        this.#installing.lease(step);
        break;
      case 'session':
        if (step.change === 'drop') this.#installing.dropSession(step.role);
        else this.#installing.beginAgain(step.role, this.#arriving.where(step.role));
        break;
      case 'anchor':
        this.#installing.anchor(step.anchor, step.change);
        break;
      case 'host-addresses':
        this.#installing.hostAddresses(step.known);
        break;
      default:
        step satisfies never;
    }
  }

  /** Learned state shows in what becomes of replies and errors; windows and paths in what a hand-over carries. */
  #end(): void {
    this.#ensemble.at(() => 'the probes behind the story');
    this.#arriving.probe(PROBES);
    this.#ensemble.at(() => 'the end');
    this.#installing.exportAll();
    this.#ensemble.compare();
    this.#ensemble.compareCounters(this.#story);
  }
}

function described(step: Step): string {
  return JSON.stringify(step, (_, value: unknown) => (value instanceof Uint8Array ? hex(value) : value));
}
