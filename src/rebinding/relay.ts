import type { SocketAddress } from '../protocol/address.ts';
import type { ControlMessage } from '../tunnel/message.ts';
import { CONTROL } from '../tunnel/wire.ts';
import { CANDIDATE_MS, type Candidate, Candidates, newCandidate, type Origin } from './candidates.ts';
import { Challenges, type OpenChallenge } from './challenges.ts';
import { DeviceBoots } from './device-boots.ts';
import { isChallengeable } from './reachable.ts';
import type {
  RelayCount,
  RelayInput,
  RelayOutput,
  RelayRebinding,
  RelayRebindingOptions,
  RelayRebindingState,
} from './relay-io.ts';
import { createTokenBucket } from './token-bucket.ts';

/** Downlink is held for at most this long. */
export const HOLD_MS = 2_000;
/** A silent path has at least this long to answer before a contender takes its place; else two of its round trips. */
const CONTEST_MS = 300;
const CONTEST_MOST_MS = 3_000;
/** An address that lost a contest is not tried again for this long unless the device asks for it by BIND. */
const BACKOFF_MS = 500;
const BACKOFF_ADDRESSES = 8;
/** DATA that still comes from the path before is no drift. */
const DRAINING_MS = 250;
/** The sender holds back at a flip to a faster path, at most. */
const OVERTAKE_MOST_MS = 200;
/** When the hinted path is challenged, milliseconds after the session began. */
const HINT_CHALLENGES_MS = [0, 200, 600, 1_400];
/** New DATA keys are announced to the path in use with these pauses, for that long in all. */
const ANNOUNCE_FIRST_MS = 250;
const ANNOUNCE_MOST_MS = 2_000;
const ANNOUNCE_FOR_MS = 10_000;

/** Answers a second and at once: to messages of this incarnation, and to others (which may be replays). */
const ANSWERS = { burst: 64, perSecond: 32 };
const STALE_ANSWERS = { burst: 16, perSecond: 8 };

/**
 * The owner relay's judgement of one session's rebinds (architecture: mobility; RFC 9000 §8–§9, RFC 4555 §3.5,
 * RFC 9853 for the contest of an old and a new path).
 *
 * Promises: `active` is an address where the device answered a challenge with a 128-bit cookie that was sent
 * nowhere else; an accepted generation never falls within a device boot; a message counts once; an unproven
 * address is sent challenges and syncs only, and never more octets than came from it (but for 4 challenges to
 * the hinted path, and 1 for each authenticated message over signalling); every hold ends within 2 s.
 */
export function createRelayRebinding(options: RelayRebindingOptions): RelayRebinding {
  return new RelaySession(options);
}

class RelaySession implements RelayRebinding {
  readonly #epoch: bigint;
  readonly #relayBoot: bigint;
  readonly #boots = new DeviceBoots();
  readonly #candidates: Candidates;
  readonly #answers = createTokenBucket(ANSWERS.burst, ANSWERS.perSecond);
  readonly #staleAnswers = createTokenBucket(STALE_ANSWERS.burst, STALE_ANSWERS.perSecond);
  readonly #backoff = new Map<string, number>();
  /** Challenges to the path in use: is it still there, and has the device the newest key? */
  readonly #activeChallenges: Challenges;
  #hint: Candidate | null = null;
  #hintChallenges = 0;
  #begunMs: number | null = null;
  #active: SocketAddress | null = null;
  #generation = 0;
  #keyNumber: number;
  /** The key number that every message of this incarnation names, until the first rekey. */
  readonly #firstKey: number;
  #senderKey = 0;
  #rttMs = 0;
  #draining: { readonly key: string; readonly untilMs: number } | null = null;
  #holdUntilMs: number | null = null;
  /** Each generation of a boot may hold once by BIND, and once by HOLD. */
  #heldByBind = 0;
  #heldByHold = 0;
  #activeCheckMs = Number.POSITIVE_INFINITY;
  #announce: { atMs: number; pauseMs: number; readonly untilMs: number } | null = null;
  /** What a sync says of the last flip. */
  #delayMs = 0;
  #out: RelayOutput[] = [];

  constructor(options: RelayRebindingOptions) {
    this.#epoch = options.epoch;
    this.#relayBoot = options.relayBoot;
    this.#candidates = new Candidates(options.random);
    this.#activeChallenges = new Challenges(options.random);
    const { hint, resumed } = options;
    const used = options.lastKeyNumber ?? 0;
    this.#keyNumber = used + 1;
    if (resumed) {
      this.#boots.resume(resumed.deviceBoot, resumed.control);
      this.#active = resumed.active;
      this.#generation = resumed.generation;
      this.#rttMs = resumed.rttMs;
      this.#keyNumber = Math.max(resumed.keyNumber, used) + 1;
      // The wire tells keys apart by two bits, and the former owner's key is still received for a while.
      if (((this.#keyNumber ^ resumed.keyNumber) & 3) === 0) this.#keyNumber += 1;
      this.#senderKey = resumed.keyNumber;
    } else if (hint) {
      this.#hint = newCandidate(
        {
          address: hint.path,
          origin: 'hint',
          boot: hint.deviceBoot,
          generation: hint.generation,
          oldPath: 'unknown',
        },
        options.random,
        0,
      );
    }
    this.#firstKey = this.#keyNumber;
  }

  get active(): SocketAddress | null {
    return this.#active;
  }
  get generation(): number {
    return this.#generation;
  }
  get deviceBoot(): bigint {
    return this.#boots.current;
  }
  get keyNumber(): number {
    return this.#keyNumber;
  }
  get rttMs(): number {
    return this.#rttMs;
  }
  get holding(): boolean {
    return this.#holdUntilMs !== null;
  }

  get nextDueMs(): number {
    if (this.#begunMs === null) return 0;
    const due = [this.#holdUntilMs, this.#announce?.atMs, this.#activeCheckMs, this.#hintDueMs()];
    for (const candidate of this.#candidates.all) {
      due.push(candidate.expiresMs);
      if (candidate.proven && candidate.contestedMs !== null && !candidate.lost) {
        due.push(candidate.contestedMs + this.#contestMs());
      }
    }
    return Math.min(...due.filter((atMs) => atMs !== null && atMs !== undefined));
  }

  exportState(): RelayRebindingState | null {
    if (this.#boots.current === 0n) return null;
    return {
      active: this.#active,
      generation: this.#generation,
      deviceBoot: this.#boots.current,
      keyNumber: this.#keyNumber,
      rttMs: this.#rttMs,
      control: this.#boots.exportWindow(),
    };
  }

  step(input: RelayInput, nowMs: number): readonly RelayOutput[] {
    this.#out = [];
    if (this.#begunMs === null) this.#begin(nowMs);
    this.#passTime(nowMs);
    switch (input.type) {
      case 'control':
        this.#control(input.from, input.message, nowMs);
        break;
      case 'signalled':
        this.#signalled(input.believed, input.message, nowMs);
        break;
      case 'data':
        this.#data(input.from, input.fresh, input.keyNumber, input.octets, nowMs);
        break;
      case 'rekey':
        this.#nextKey(nowMs);
        break;
      case 'tick':
        break;
      default:
        input satisfies never;
    }
    return this.#out;
  }

  // --- messages ---------------------------------------------------------------------------------------

  #control(from: SocketAddress, message: ControlMessage, nowMs: number): void {
    if (!this.#admitted(from, message, nowMs)) return;
    switch (message.kind) {
      case 'bind':
        this.#bind(from, message, 'bind', nowMs);
        break;
      case 'proof':
        this.#proof(from, message, nowMs);
        break;
      case 'keepalive':
        this.#keepalive(from, message, nowMs);
        break;
      case 'hold':
        this.#holdFor(message, nowMs);
        break;
      default:
        this.#count('not-for-relay');
    }
  }

  #signalled(believed: SocketAddress, message: ControlMessage, nowMs: number): void {
    const reachable = isChallengeable(believed);
    if (!this.#admitted(reachable ? believed : null, message, nowMs)) return;
    if (message.kind === 'hold') this.#holdFor(message, nowMs);
    else if (message.kind !== 'bind') this.#count('not-for-relay');
    else if (reachable) this.#bind(believed, message, 'signalled', nowMs);
    else if (message.oldPath === 'dead') this.#holdFor(message, nowMs);
  }

  /** True for a message that counts: new, and spoken to this incarnation by one that was not replaced. */
  #admitted(answerTo: SocketAddress | null, message: ControlMessage, nowMs: number): boolean {
    const standing = this.#boots.admit(message.boot, message.counter);
    if (standing === 'retired' || standing === 'replayed') {
      this.#count(standing === 'retired' ? 'boot-retired' : 'replayed');
      return false;
    }
    if (message.echoBoot !== this.#relayBoot || message.epoch !== this.#epoch) {
      this.#count('stale-incarnation');
      if (answerTo && this.#mayAnswer(this.#staleAnswers, nowMs)) this.#sync(answerTo, message);
      return false;
    }
    // Who echoes this incarnation has heard of it, and so of the key that it began with.
    if (standing === 'current') this.#deviceHasKey(this.#firstKey);
    return true;
  }

  #bind(from: SocketAddress, message: ControlMessage, origin: Origin, nowMs: number): void {
    const { boot, generation } = message;
    const isCurrent = boot === this.#boots.current;
    const known = isCurrent && this.#active !== null && generation === this.#generation;
    const repeated = known && from.key === this.#active?.key;
    // Signalling is slower: by then the rebind may have been accepted where it really came from.
    if (known && origin === 'signalled') return;
    if (generation < Math.max(1, this.#floor(boot)) || repeated) {
      if (!repeated) this.#count('lower-generation');
      if (this.#mayAnswer(this.#answers, nowMs)) this.#sync(from, message);
      return;
    }
    const asksHigher = (other: Candidate) => other.origin === 'bind' && other.generation > generation;
    if (this.#candidates.all.some((other) => other.boot === boot && asksHigher(other))) {
      this.#count('lower-generation');
      return;
    }
    if (message.oldPath === 'dead') this.#holdFor(message, nowMs);
    if (origin === 'bind') {
      this.#candidates.keep((other) => other.boot !== boot || other.generation >= generation);
    }
    const candidate = this.#candidateFor(from, message, origin, nowMs);
    if (candidate === null) {
      this.#count('candidates-full');
      return;
    }
    candidate.oldPath = message.oldPath;
    candidate.expiresMs = nowMs + CANDIDATE_MS;
    candidate.heardMs = nowMs;
    candidate.asked = message.counter;
    const elsewhere = this.#active !== null && this.#active.key !== from.key;
    const doubtful = generation === this.#generation || message.oldPath === 'unknown';
    if (isCurrent && elsewhere && doubtful) this.#contest(candidate, nowMs);
    else candidate.contestedMs = null;
    if (candidate.proven) this.#judge(candidate, nowMs);
    else this.#challenge(candidate, nowMs);
  }

  #candidateFor(
    address: SocketAddress,
    message: ControlMessage,
    origin: Origin,
    nowMs: number,
  ): Candidate | null {
    const { boot, generation, oldPath } = message;
    const known = this.#candidates.at(address);
    if (known?.boot === boot && known.generation === generation && known.origin !== 'drift') {
      if (origin === 'bind') known.origin = 'bind';
      return known;
    }
    if (known && known.origin === 'bind' && origin !== 'bind') return null;
    if (known) this.#candidates.drop(known);
    return this.#candidates.open({ address, origin, boot, generation, oldPath }, this.#boots.current, nowMs);
  }

  #proof(from: SocketAddress, message: ControlMessage, nowMs: number): void {
    const hinted = this.#hint?.address.key === from.key ? this.#hint : null;
    for (const candidate of [this.#candidates.at(from), hinted]) {
      const challenge = candidate?.challenges.match(message.cookie);
      if (candidate && challenge) {
        this.#proven(candidate, challenge, message, nowMs);
        return;
      }
    }
    const challenge = from.key === this.#active?.key ? this.#activeChallenges.match(message.cookie) : null;
    if (challenge && message.boot === this.#boots.current) {
      this.#rttMs = smoothed(this.#rttMs, nowMs - challenge.sentMs);
      this.#deviceHasKey(challenge.keyNumber);
      this.#activeAnswered(challenge.sentMs, message, nowMs);
    } else if (from.key !== this.#active?.key) {
      this.#count('proof-refused');
    }
  }

  #proven(candidate: Candidate, challenge: OpenChallenge, message: ControlMessage, nowMs: number): void {
    if (message.boot !== candidate.boot || message.generation < candidate.generation) {
      this.#count('proof-refused');
      return;
    }
    const asked = candidate.origin === 'bind' || candidate.origin === 'signalled';
    if (asked && message.generation !== candidate.generation) {
      this.#count('proof-superseded');
      return;
    }
    candidate.proven = {
      rttMs: nowMs - challenge.sentMs,
      counter: message.counter,
      keyNumber: challenge.keyNumber,
    };
    candidate.expiresMs = nowMs + CANDIDATE_MS;
    this.#judge(candidate, nowMs);
  }

  #keepalive(from: SocketAddress, message: ControlMessage, nowMs: number): void {
    const isCurrent = message.boot === this.#boots.current;
    if (
      isCurrent &&
      this.#active !== null &&
      from.key !== this.#active.key &&
      !this.#isDraining(from, nowMs)
    ) {
      this.#drift(from, CONTROL.length, message.counter, nowMs);
      return;
    }
    const behind = isCurrent && from.key === this.#active?.key && this.#senderKey < this.#keyNumber;
    if (behind) this.#challengeActive(message.counter, nowMs);
    else if (this.#mayAnswer(this.#answers, nowMs)) this.#sync(from, message);
  }

  #data(from: SocketAddress, fresh: boolean, keyNumber: number, octets: number, nowMs: number): void {
    if (fresh) this.#deviceHasKey(keyNumber);
    if (this.#active === null) {
      if (this.#hint?.address.key === from.key) this.#creditOf(this.#hint, octets, nowMs);
    } else if (fresh && from.key !== this.#active.key && !this.#isDraining(from, nowMs)) {
      this.#drift(from, octets, 0n, nowMs);
    }
  }

  // --- paths ------------------------------------------------------------------------------------------

  /** The device speaks from where it was not: its NAT may have changed, or someone re-sends its packets. */
  #drift(from: SocketAddress, octets: number, counter: bigint, nowMs: number): void {
    let candidate = this.#candidates.at(from);
    if (candidate === null) {
      if ((this.#backoff.get(from.key) ?? 0) > nowMs) return;
      const opening = {
        address: from,
        origin: 'drift' as const,
        boot: this.#boots.current,
        generation: this.#generation,
        oldPath: 'unknown' as const,
      };
      candidate = this.#candidates.open(opening, this.#boots.current, nowMs);
      if (candidate === null) {
        this.#count('candidates-full');
        return;
      }
      this.#contest(candidate, nowMs);
    }
    if (counter !== 0n) candidate.asked = counter;
    this.#creditOf(candidate, octets, nowMs);
  }

  /** Challenges when the address has sent as much as a challenge costs, and not in vain too often. */
  #creditOf(candidate: Candidate, octets: number, nowMs: number): void {
    candidate.heardMs = nowMs;
    candidate.credit = Math.min(candidate.credit + octets, CONTROL.length);
    if (candidate.proven || candidate.credit < CONTROL.length || nowMs < candidate.spacedMs) return;
    candidate.credit = 0;
    this.#challenge(candidate, nowMs);
  }

  #challenge(candidate: Candidate, nowMs: number): void {
    if (!this.#mayAnswer(this.#answers, nowMs)) return;
    const keyNumber = this.#keyNumberFor(candidate.boot);
    const { cookie } = candidate.challenges.issue(nowMs, keyNumber);
    candidate.spacedMs = nowMs + Math.max(100, 1.5 * this.#rttMs);
    this.#send(candidate.address, {
      kind: 'challenge',
      echoBoot: candidate.boot,
      echoCounter: candidate.asked,
      generation: candidate.generation,
      keyNumber,
      cookie,
      observed: candidate.address,
    });
  }

  #challengeActive(echoCounter: bigint, nowMs: number): void {
    if (this.#active === null) return;
    const { cookie } = this.#activeChallenges.issue(nowMs, this.#keyNumber);
    this.#send(this.#active, {
      kind: 'challenge',
      echoBoot: this.#boots.current,
      echoCounter,
      generation: this.#generation,
      keyNumber: this.#keyNumber,
      cookie,
      observed: this.#active,
    });
  }

  #contest(candidate: Candidate, nowMs: number): void {
    if (candidate.contestedMs !== null) return;
    candidate.contestedMs = nowMs;
    this.#challengeActive(0n, nowMs);
    this.#activeCheckMs = nowMs + this.#contestMs() / 3;
  }

  /** The path in use answered a challenge of `sentMs`: whoever contended since then has lost. */
  #activeAnswered(sentMs: number, message: ControlMessage, nowMs: number): void {
    for (const candidate of this.#candidates.all) {
      if (candidate.contestedMs === null || candidate.contestedMs > sentMs || candidate.lost) continue;
      if (!this.#candidates.all.includes(candidate)) continue;
      candidate.lost = true;
      this.#count('contender-refused');
      if (candidate.origin === 'drift') {
        this.#candidates.drop(candidate);
        this.#backOff(candidate.address, nowMs);
      } else if (candidate.proven || candidate.generation === this.#generation) {
        this.#judge(candidate, nowMs, message);
      }
    }
  }

  /** Decides about a candidate that proved itself. */
  #judge(candidate: Candidate, nowMs: number, activeProof?: ControlMessage): void {
    if (candidate.contestedMs === null) {
      this.#accept(candidate, candidate.address, nowMs);
      return;
    }
    if (candidate.lost) {
      // Both paths work and the device did not say which one it wants: the rebind is accepted where it was.
      const isNewer = candidate.boot === this.#boots.current && candidate.generation > this.#generation;
      if (isNewer && this.#active) this.#accept(candidate, this.#active, nowMs, activeProof);
      else {
        this.#candidates.drop(candidate);
        // It was accepted here before, and the device still asks: our answer was lost.
        if (activeProof && this.#active) this.#sync(this.#active, activeProof);
      }
    } else if (nowMs >= candidate.contestedMs + this.#contestMs()) {
      this.#accept(candidate, candidate.address, nowMs);
    }
  }

  /** The one place where the path, the generation and the device's incarnation change. */
  #accept(candidate: Candidate, path: SocketAddress, nowMs: number, activeProof?: ControlMessage): void {
    const { boot, proven } = candidate;
    const isNewBoot = boot !== this.#boots.current;
    if (isNewBoot) this.#becomeDevice(boot);
    this.#generation = isNewBoot ? candidate.generation : Math.max(this.#generation, candidate.generation);

    const former = this.#active;
    const isFlip = former?.key !== path.key;
    const rttMs = isFlip ? (proven?.rttMs ?? 0) : this.#rttMs;
    const isSilent = candidate.contestedMs !== null;
    const isAlive = candidate.oldPath === 'alive' && isFlip && former !== null && !isNewBoot && !isSilent;
    this.#delayMs = isAlive
      ? Math.round(Math.min(Math.max(this.#rttMs - rttMs, 0), this.#rttMs > 0 ? OVERTAKE_MOST_MS : 0))
      : 0;
    if (isFlip) {
      this.#draining = former && { key: former.key, untilMs: nowMs + Math.max(DRAINING_MS, 2 * this.#rttMs) };
      this.#activeChallenges.clear();
    }
    this.#active = path;
    this.#rttMs = rttMs;
    this.#hint = null;
    this.#backoff.delete(path.key);
    this.#candidates.keep(
      (other) => other !== candidate && other.boot === boot && other.generation > this.#generation,
    );
    for (const other of this.#candidates.all) {
      if (other.contestedMs === null || !isFlip) continue;
      other.contestedMs = null;
      this.#contest(other, nowMs);
    }

    const wasHolding = this.#release(path);
    this.#out.push({ type: 'flip', path, afterMs: wasHolding ? 0 : this.#delayMs });
    this.#deviceHasKey(proven?.keyNumber ?? 0);
    if (this.#senderKey < this.#keyNumber) this.#beginAnnouncement(nowMs);
    this.#send(path, this.#syncDraft(boot, (activeProof?.counter ?? proven?.counter) || 0n, path));
    this.#out.push({
      type: 'moved',
      path,
      generation: this.#generation,
      deviceBoot: boot,
      oldPath: candidate.oldPath,
      tookMs: nowMs - candidate.firstMs,
    });
  }

  #becomeDevice(boot: bigint): void {
    if (this.#boots.current !== 0n) {
      this.#keyNumber += 1;
    } else if (this.#hint && this.#hint.boot !== boot) {
      this.#boots.retire(this.#hint.boot);
    }
    this.#boots.promote(boot);
    this.#heldByBind = 0;
    this.#heldByHold = 0;
    this.#out.push({ type: 'keys', deviceBoot: boot, keyNumber: this.#keyNumber });
    // Its predecessor's keys are of no use to it: nothing is gained by waiting until it is seen to have these.
    this.#deviceHasKey(this.#keyNumber);
  }

  // --- hold, keys, time -------------------------------------------------------------------------------

  #holdFor(message: ControlMessage, nowMs: number): void {
    const { boot, generation } = message;
    if (boot !== this.#boots.current || this.#active === null) return;
    if (message.kind === 'hold') {
      if (generation < this.#generation || generation <= this.#heldByHold) return;
      this.#heldByHold = generation;
    } else {
      if (generation <= this.#generation || generation <= this.#heldByBind) return;
      this.#heldByBind = generation;
    }
    this.#holdUntilMs = nowMs + HOLD_MS;
    this.#out.push({ type: 'hold', untilMs: this.#holdUntilMs });
  }

  #release(to: SocketAddress | null): boolean {
    if (this.#holdUntilMs === null) return false;
    this.#holdUntilMs = null;
    this.#out.push({ type: 'release', to });
    return true;
  }

  #nextKey(nowMs: number): void {
    this.#keyNumber += 1;
    if (this.#boots.current === 0n) return;
    this.#out.push({ type: 'keys', deviceBoot: this.#boots.current, keyNumber: this.#keyNumber });
    this.#beginAnnouncement(nowMs);
    this.#passTime(nowMs);
  }

  /** A challenge tells the key and its proof confirms it, from a device that only receives too. */
  #beginAnnouncement(nowMs: number): void {
    this.#announce = { atMs: nowMs, pauseMs: ANNOUNCE_FIRST_MS, untilMs: nowMs + ANNOUNCE_FOR_MS };
  }

  #deviceHasKey(keyNumber: number): void {
    if (keyNumber !== this.#keyNumber || this.#senderKey === keyNumber || this.#boots.current === 0n) return;
    this.#senderKey = keyNumber;
    this.#announce = null;
    this.#out.push({ type: 'sender-keys', keyNumber });
  }

  #begin(nowMs: number): void {
    this.#begunMs = nowMs;
    if (this.#boots.current !== 0n) {
      this.#out.push({ type: 'keys', deviceBoot: this.#boots.current, keyNumber: this.#keyNumber });
      this.#beginAnnouncement(nowMs);
    } else if (this.#hint) {
      this.#hint.firstMs = nowMs;
      this.#holdUntilMs = nowMs + HOLD_MS;
      this.#out.push({ type: 'hold', untilMs: this.#holdUntilMs });
    }
  }

  #passTime(nowMs: number): void {
    if (this.#holdUntilMs !== null && nowMs >= this.#holdUntilMs) {
      this.#count('hold-expired');
      this.#release(this.#active);
    }
    this.#candidates.keep((candidate) => nowMs < candidate.expiresMs);
    for (const candidate of this.#candidates.all) {
      const isOpen = this.#candidates.all.includes(candidate);
      if (isOpen && candidate.proven && candidate.contestedMs !== null) this.#judge(candidate, nowMs);
    }
    if (nowMs >= this.#activeCheckMs) this.#checkActive(nowMs);
    const announce = this.#announce;
    if (announce && nowMs >= announce.atMs) {
      this.#challengeActive(0n, nowMs);
      announce.atMs = nowMs + announce.pauseMs;
      announce.pauseMs = Math.min(2 * announce.pauseMs, ANNOUNCE_MOST_MS);
      if (announce.atMs > announce.untilMs) this.#announce = null;
    }
    if (this.#hint && nowMs >= (this.#hintDueMs() ?? Number.POSITIVE_INFINITY)) {
      this.#hintChallenges += 1;
      this.#challenge(this.#hint, nowMs);
    }
  }

  /** Asks the path in use again while someone contends: one lost challenge must not cost it its place. */
  #checkActive(nowMs: number): void {
    const contested = this.#candidates.all.some(
      (candidate) =>
        candidate.contestedMs !== null &&
        !candidate.lost &&
        nowMs < candidate.contestedMs + this.#contestMs(),
    );
    this.#activeCheckMs = contested ? nowMs + this.#contestMs() / 3 : Number.POSITIVE_INFINITY;
    if (contested) this.#challengeActive(0n, nowMs);
  }

  #hintDueMs(): number | null {
    const afterMs = this.#hint ? HINT_CHALLENGES_MS[this.#hintChallenges] : undefined;
    return afterMs === undefined ? null : (this.#begunMs ?? 0) + afterMs;
  }

  // --- small judgements -------------------------------------------------------------------------------

  /** The lowest generation that means something from `boot`. */
  #floor(boot: bigint): number {
    if (boot === this.#boots.current) return this.#generation;
    return this.#hint?.boot === boot ? this.#hint.generation : 0;
  }

  #contestMs(): number {
    return Math.min(Math.max(CONTEST_MS, 2 * this.#rttMs), CONTEST_MOST_MS);
  }

  #isDraining(from: SocketAddress, nowMs: number): boolean {
    return this.#draining?.key === from.key && nowMs < this.#draining.untilMs;
  }

  /** Another incarnation than the one in force gets the next key when it proves itself. */
  #keyNumberFor(boot: bigint): number {
    const current = this.#boots.current;
    return boot === current || current === 0n ? this.#keyNumber : this.#keyNumber + 1;
  }

  #backOff(address: SocketAddress, nowMs: number): void {
    this.#backoff.delete(address.key);
    this.#backoff.set(address.key, nowMs + BACKOFF_MS);
    for (const key of this.#backoff.keys()) {
      if (this.#backoff.size <= BACKOFF_ADDRESSES) break;
      this.#backoff.delete(key);
    }
  }

  #sync(to: SocketAddress, message: ControlMessage): void {
    this.#send(to, this.#syncDraft(message.boot, message.counter, to));
  }

  #syncDraft(boot: bigint, echoCounter: bigint, observed: SocketAddress) {
    const isCurrent = boot === this.#boots.current && this.#active !== null;
    return {
      kind: 'sync' as const,
      echoBoot: boot,
      echoCounter,
      // 0 says: there is no path to you.
      generation: isCurrent ? this.#generation : 0,
      keyNumber: this.#keyNumberFor(boot),
      observed,
      delayMs: isCurrent ? this.#delayMs : 0,
    };
  }

  #send(to: SocketAddress, draft: Extract<RelayOutput, { type: 'send' }>['draft']): void {
    this.#out.push({ type: 'send', to, draft: { epoch: this.#epoch, ...draft } });
  }

  #mayAnswer(bucket: { take(nowMs: number): boolean }, nowMs: number): boolean {
    const allowed = bucket.take(nowMs);
    if (!allowed) this.#count('answer-limited');
    return allowed;
  }

  #count(reason: RelayCount): void {
    this.#out.push({ type: 'count', reason });
  }
}

function smoothed(beforeMs: number, sampleMs: number): number {
  return beforeMs === 0 ? sampleMs : beforeMs + (sampleMs - beforeMs) / 8;
}
