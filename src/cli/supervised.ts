import { type Descriptors, giveDescriptors } from '../linux/descriptor-passing.ts';
import { dieWithParent } from '../linux/parent-death.ts';
import { MooringError } from '../protocol/errors.ts';
import { monotonicMs } from '../telemetry/clock.ts';
import {
  BEAT_MS,
  BRIEFING,
  type Briefing,
  type CheckedSettings,
  type Duty,
  type FromServer,
  type HeldClaim,
} from './supervision.ts';

/** A part that has not answered for so long does not work any more, milliseconds. */
const STUCK_MS = 5_000;

/** The process's side of its supervision. */
export interface Supervised {
  readonly briefing: Briefing;
  /** Has the supervisor keep these until the next process asks for them. */
  give(descriptors: Descriptors): void;
  keepSettings(settings: CheckedSettings): void;
  duty(duty: Duty): void;
  /** It may take an anchor over at any moment. */
  standsBy(): void;
  held(claim: HeldClaim): void;
  released(anchor: string): void;
  /** Once the process serves, it is well only while `probe` answers. */
  probe(probe: () => Promise<unknown>): void;
  /** It serves. */
  up(): void;
}

/**
 * Joins the supervisor that started this process, and ends with it: two processes that both think they are the relay must
 * never be, and the supervisor's successor starts one at once. Throws ERR_MOORING_USAGE when there is none.
 */
export function joinSupervisor(): Supervised {
  const text = process.env[BRIEFING];
  // Not for the programs that this one starts.
  delete process.env[BRIEFING];
  if (text === undefined || process.send === undefined) {
    throw new MooringError('ERR_MOORING_USAGE', 'this program is started by `mooring serve`');
  }
  const briefing = JSON.parse(text) as Briefing;
  dieWithParent(briefing.supervisor);
  process.on('disconnect', () => process.exit(1));
  // A parent that is gone takes no messages; the end comes by itself.
  const tell = (message: FromServer): void => {
    if (process.connected) process.send?.(message, undefined, undefined, () => undefined);
  };

  let probe: () => Promise<unknown> = async () => undefined;
  let askedMs: number | null = null;
  /** Before, a part may be busy for long with what it is to serve. */
  let isUp = false;
  const beat = () => {
    const nowMs = monotonicMs();
    if (isUp && askedMs === null) {
      askedMs = nowMs;
      const answered = () => {
        askedMs = null;
      };
      probe().then(answered, answered);
    }
    if (askedMs === null || nowMs - askedMs < STUCK_MS) tell({ type: 'beat' });
  };
  beat();
  setInterval(beat, BEAT_MS).unref();

  return {
    briefing,
    give(descriptors) {
      giveDescriptors(briefing.channel, descriptors);
      tell({ type: 'given' });
    },
    keepSettings: (settings) => tell({ type: 'settings', settings }),
    duty: (duty) => tell({ type: 'duty', duty }),
    standsBy: () => tell({ type: 'stands-by' }),
    held: (claim) => tell({ type: 'held', claim }),
    released: (anchor) => tell({ type: 'released', anchor }),
    probe(next) {
      probe = next;
    },
    up() {
      isUp = true;
      tell({ type: 'up' });
    },
  };
}
