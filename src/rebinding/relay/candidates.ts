import type { SocketAddress } from '../../protocol/address.ts';
import type { OldPath } from '../../tunnel/wire.ts';
import type { RandomOctets } from '../relay-io.ts';
import { Challenges } from './challenges.ts';

/**
 * How an address became a candidate: a BIND in band, a BIND over signalling (the address is what the device
 * believes), another fresh datagram of the session (its NAT changed), or what the registry remembered.
 */
export type Origin = 'bind' | 'signalled' | 'drift' | 'hint';

/** An address that may become the path once the device proved that it receives there. */
export interface Candidate {
  readonly address: SocketAddress;
  readonly challenges: Challenges;
  origin: Origin;
  boot: bigint;
  generation: number;
  oldPath: OldPath;
  /** First message of this rebind. */
  firstMs: number;
  expiresMs: number;
  heardMs: number;
  /** Octets that came from here and were not answered yet. */
  credit: number;
  /** No unasked challenge before. */
  spacedMs: number;
  /** Counter of the message to answer. */
  asked: bigint;
  /** When the path in use was asked too, because this one may replace it only if that one is silent; null: no need. */
  contestedMs: number | null;
  /** The path in use answered: it stays. */
  lost: boolean;
  /** The device proved itself here; `keyNumber` is the DATA key that it then had. */
  proven: { readonly rttMs: number; readonly counter: bigint; readonly keyNumber: number } | null;
}

export type CandidateOpening = Pick<Candidate, 'address' | 'origin' | 'boot' | 'generation' | 'oldPath'>;

const SLOTS = 2;
/** An address from which nothing came for that long makes room for the next one. */
const SILENT_MS = 200;

/**
 * At most two candidates for the current incarnation of the device, and two for newcomers. A third one
 * replaces a weaker one or is refused, so that whoever can only re-send or divert datagrams of the device
 * never pushes out what the device itself asked for: a BIND outranks drift and signalling.
 */
export class Candidates {
  #list: Candidate[] = [];
  readonly #random: RandomOctets;

  constructor(random: RandomOctets) {
    this.#random = random;
  }

  get all(): readonly Candidate[] {
    return this.#list;
  }

  at(address: SocketAddress): Candidate | null {
    return this.#list.find((candidate) => candidate.address.key === address.key) ?? null;
  }

  /** Null when both places are taken by candidates at least as strong. */
  open(opening: CandidateOpening, currentBoot: bigint, nowMs: number): Candidate | null {
    const candidate = newCandidate(opening, this.#random, nowMs);
    const rivals = this.#list.filter(
      (other) => (other.boot === currentBoot) === (opening.boot === currentBoot),
    );
    if (rivals.length >= SLOTS) {
      const weakest = rivals.reduce((left, right) => (isWeaker(right, left) ? right : left));
      if (!replaces(opening, weakest, nowMs)) return null;
      this.drop(weakest);
    }
    this.#list.push(candidate);
    return candidate;
  }

  drop(candidate: Candidate): void {
    this.#list = this.#list.filter((other) => other !== candidate);
  }

  keep(condition: (candidate: Candidate) => boolean): void {
    this.#list = this.#list.filter(condition);
  }
}

const rank = ({ origin }: CandidateOpening): number => (origin === 'bind' ? 1 : 0);

function isWeaker(left: Candidate, right: Candidate): boolean {
  const order = rank(left) - rank(right);
  return order < 0 || (order === 0 && left.heardMs < right.heardMs);
}

function replaces(opening: CandidateOpening, weakest: Candidate, nowMs: number): boolean {
  if (rank(opening) !== rank(weakest)) return rank(opening) > rank(weakest);
  // The device retransmits: whoever asked for the other place is either gone or comes again.
  if (opening.origin === 'bind') return true;
  return weakest.proven === null && nowMs - weakest.heardMs >= SILENT_MS;
}

/** How long an address stays a candidate after it was last heard from, milliseconds. */
export const CANDIDATE_MS = 3_000;

export function newCandidate(opening: CandidateOpening, random: RandomOctets, nowMs: number): Candidate {
  return {
    ...opening,
    challenges: new Challenges(random),
    firstMs: nowMs,
    expiresMs: nowMs + CANDIDATE_MS,
    heardMs: nowMs,
    credit: 0,
    spacedMs: nowMs,
    asked: 0n,
    contestedMs: null,
    lost: false,
    proven: null,
  };
}
