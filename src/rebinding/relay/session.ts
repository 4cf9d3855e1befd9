import type { SocketAddress } from '../../protocol/address.ts';
import type {
  PathHinted,
  RandomOctets,
  RelayCount,
  RelayOutput,
  RelayRebindingOptions,
} from '../relay-io.ts';
import { createTokenBucket, type TokenBucket } from '../token-bucket.ts';
import { type Candidate, Candidates, newCandidate } from './candidates.ts';
import { Challenges } from './challenges.ts';
import { DeviceBoots } from './device-boots.ts';

/** Answers a second and at once: to messages of this incarnation, and to others (which may be replays). */
const ANSWERS = { burst: 64, perSecond: 32 };
const STALE_ANSWERS = { burst: 16, perSecond: 8 };

/** What the owner relay knows of one session, and what it is about to have done. */
export interface Session {
  readonly epoch: bigint;
  readonly relayBoot: bigint;
  /** False before the first input: time is not known yet. */
  begun: boolean;
  readonly boots: DeviceBoots;
  readonly path: ActivePath;
  readonly candidates: Candidates;
  hint: Hint | null;
  readonly awaitsHint: boolean;
  readonly random: RandomOctets;
  readonly keys: KeyNumbers;
  readonly hold: Hold;
  /** Addresses that lost a contest, and until when they are not tried again: oldest first. */
  readonly backoff: Map<string, number>;
  readonly answers: TokenBucket;
  readonly staleAnswers: TokenBucket;
  out: RelayOutput[];
}

/** Where downlink goes. */
export interface ActivePath {
  /** Null before the first proof. */
  address: SocketAddress | null;
  /** Of the accepted rebind. */
  generation: number;
  /** 0 when not measured. */
  rttMs: number;
  /** What a sync says of the last flip: how long the device holds back. */
  delayMs: number;
  /** The path before, and until when DATA may still come from there. */
  draining: { readonly key: string; readonly untilMs: number } | null;
  /** Is it still there, and has the device the newest key? */
  readonly challenges: Challenges;
  /** When it is asked again because someone contends; Infinity: no need. */
  askAgainMs: number;
}

/** Where the registry last saw the device: challenged, never trusted. */
export interface Hint {
  readonly candidate: Candidate;
  /** How many of its challenges have fallen due. */
  timesDue: number;
}

export interface KeyNumbers {
  newest: number;
  /** The one that every message of this incarnation names, until the first rekey. */
  readonly first: number;
  /** The one that downlink is sent under; 0: none yet. */
  sender: number;
  /** The newest one is being told to the device; null: it has it, or was told often enough. */
  announcement: { atMs: number; pauseMs: number; readonly untilMs: number } | null;
}

export interface Hold {
  /** Null: downlink is not held. */
  untilMs: number | null;
  /** Highest generation of the device's boot that held by BIND, and by HOLD: each may do so once. */
  byBind: number;
  byHold: number;
}

export function newSession(options: RelayRebindingOptions): Session {
  const { epoch, relayBoot, random, resumed = null } = options;
  const boots = new DeviceBoots();
  if (resumed) boots.resume(resumed.deviceBoot, resumed.control);
  return {
    epoch,
    relayBoot,
    begun: false,
    boots,
    path: {
      address: resumed?.active ?? null,
      generation: resumed?.generation ?? 0,
      rttMs: resumed?.rttMs ?? 0,
      delayMs: 0,
      draining: null,
      challenges: new Challenges(random),
      askAgainMs: Number.POSITIVE_INFINITY,
    },
    candidates: new Candidates(random),
    hint: options.hint && !resumed ? hintOf(options.hint, random) : null,
    awaitsHint: options.awaitsHint === true && !resumed,
    random,
    keys: keyNumbersOf(options),
    hold: { untilMs: null, byBind: 0, byHold: 0 },
    backoff: new Map(),
    answers: createTokenBucket(ANSWERS.burst, ANSWERS.perSecond),
    staleAnswers: createTokenBucket(STALE_ANSWERS.burst, STALE_ANSWERS.perSecond),
    out: [],
  };
}

export function count(session: Session, reason: RelayCount): void {
  session.out.push({ type: 'count', reason });
}

export function hintOf(
  { path: address, deviceBoot: boot, generation }: PathHinted,
  random: RandomOctets,
): Hint {
  const opening = { address, origin: 'hint', boot, generation, oldPath: 'unknown' } as const;
  return { candidate: newCandidate(opening, random, 0), timesDue: 0 };
}

function keyNumbersOf({ lastKeyNumber: used = 0, resumed }: RelayRebindingOptions): KeyNumbers {
  const former = resumed?.keyNumber ?? 0;
  let first = Math.max(former, used) + 1;
  // The wire tells keys apart by two bits, and the former owner's key is still received for a while.
  if (resumed && ((first ^ former) & 3) === 0) first += 1;
  return { newest: first, first, sender: former, announcement: null };
}
