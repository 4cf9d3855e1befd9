import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlMessage } from '../../tunnel/message.ts';
import { challengeCandidate, mayAnswer, sync } from './answers.ts';
import { CANDIDATE_MS, type Candidate } from './candidates.ts';
import { beginContest } from './contest.ts';
import { holdFor } from './hold.ts';
import { count, type Session } from './session.ts';
import { decide } from './verdict.ts';

/** The door that a BIND came through: in band, from the address itself, or over signalling, which names it. */
type Door = 'bind' | 'signalled';

/** The device asks for downlink at `from`. */
export function takeBind(
  session: Session,
  from: SocketAddress,
  message: ControlMessage,
  door: Door,
  nowMs: number,
): void {
  const { answers, candidates, path } = session;
  const { boot, generation, oldPath } = message;
  const isAccepted = wasAccepted(session, message);
  // Signalling is slower: by then the rebind may have been accepted where it really came from.
  if (isAccepted && door === 'signalled') return;
  const isRepeated = isAccepted && from.key === path.address?.key;
  if (isRepeated || generation < lowestMeaningful(session, boot)) {
    if (!isRepeated) count(session, 'lower-generation');
    if (mayAnswer(session, answers, nowMs)) sync(session, from, message);
    return;
  }
  if (candidates.all.some((other) => other.boot === boot && asksForHigher(other, generation))) {
    count(session, 'lower-generation');
    return;
  }

  if (oldPath === 'dead') holdFor(session, message, nowMs);
  if (door === 'bind') candidates.keep((other) => other.boot !== boot || other.generation >= generation);
  const candidate = candidateFor(session, from, message, door, nowMs);
  if (candidate === null) {
    count(session, 'candidates-full');
    return;
  }
  candidate.oldPath = oldPath;
  candidate.expiresMs = nowMs + CANDIDATE_MS;
  candidate.heardMs = nowMs;
  candidate.asked = message.counter;

  if (isDoubtful(session, candidate)) beginContest(session, candidate, nowMs);
  else candidate.contestedMs = null;
  if (candidate.proven) decide(session, candidate, nowMs);
  else challengeCandidate(session, candidate, nowMs);
}

/** This very rebind is in force already. */
function wasAccepted({ boots, path }: Session, { boot, generation }: ControlMessage): boolean {
  return boot === boots.current && path.address !== null && generation === path.generation;
}

/** The lowest generation that means something from `boot`. */
function lowestMeaningful({ boots, hint, path }: Session, boot: bigint): number {
  if (boot === boots.current) return Math.max(1, path.generation);
  return Math.max(1, hint?.candidate.boot === boot ? hint.candidate.generation : 0);
}

function asksForHigher(other: Candidate, generation: number): boolean {
  return other.origin === 'bind' && other.generation > generation;
}

/** The device does not say that it left the active path: that one is asked whether it did. */
function isDoubtful({ boots, path }: Session, { address, boot, generation, oldPath }: Candidate): boolean {
  if (boot !== boots.current || path.address === null || path.address.key === address.key) return false;
  return generation === path.generation || oldPath === 'unknown';
}

/** The candidate of this rebind at this address, opened if need be; null: there is no room for it. */
function candidateFor(
  { boots, candidates }: Session,
  address: SocketAddress,
  { boot, generation, oldPath }: ControlMessage,
  door: Door,
  nowMs: number,
): Candidate | null {
  const known = candidates.at(address);
  if (known?.boot === boot && known.generation === generation && known.origin !== 'drift') {
    if (door === 'bind') known.origin = 'bind';
    return known;
  }
  if (known && known.origin === 'bind' && door !== 'bind') return null;
  if (known) candidates.drop(known);
  return candidates.open({ address, origin: door, boot, generation, oldPath }, boots.current, nowMs);
}
