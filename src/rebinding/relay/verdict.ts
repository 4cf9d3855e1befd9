import type { ControlMessage } from '../../tunnel/message.ts';
import { accept } from './acceptance.ts';
import { sync } from './answers.ts';
import type { Candidate } from './candidates.ts';
import { contestEndsMs } from './contest.ts';
import { backOff } from './drift.ts';
import { count, type Session } from './session.ts';

/** Decides about a candidate that proved itself; `answer` is what the active path has just said against it. */
export function decide(
  session: Session,
  candidate: Candidate,
  nowMs: number,
  answer: ControlMessage | null = null,
): void {
  if (candidate.contestedMs === null || nowMs >= contestEndsMs(session, candidate)) {
    accept(session, candidate, candidate.address, nowMs);
  } else if (candidate.lost) refuse(session, candidate, nowMs, answer);
}

/** Decides about every contest that ended by time. */
export function decideContests(session: Session, nowMs: number): void {
  const { candidates } = session;
  for (const candidate of candidates.all) {
    const isOpen = candidates.all.includes(candidate);
    if (isOpen && candidate.proven && candidate.contestedMs !== null) decide(session, candidate, nowMs);
  }
}

/** The active path answered a challenge of `sentMs`: whoever contended since then has lost. */
export function activePathAnswered(
  session: Session,
  sentMs: number,
  answer: ControlMessage,
  nowMs: number,
): void {
  const { candidates, path } = session;
  for (const candidate of candidates.all) {
    if (candidate.contestedMs === null || candidate.contestedMs > sentMs || candidate.lost) continue;
    if (!candidates.all.includes(candidate)) continue;
    candidate.lost = true;
    count(session, 'contender-refused');
    if (candidate.origin === 'drift') {
      candidates.drop(candidate);
      backOff(session, candidate.address, nowMs);
    } else if (candidate.proven || candidate.generation === path.generation) {
      decide(session, candidate, nowMs, answer);
    }
  }
}

/** Both paths work and the device did not say which one it wants: a newer rebind is accepted where the device was. */
function refuse(session: Session, candidate: Candidate, nowMs: number, answer: ControlMessage | null): void {
  const { boots, candidates, path } = session;
  const isNewer = candidate.boot === boots.current && candidate.generation > path.generation;
  if (isNewer && path.address) {
    accept(session, candidate, path.address, nowMs, answer);
    return;
  }
  candidates.drop(candidate);
  // It was accepted here before, and the device still asks: our answer was lost.
  if (answer && path.address) sync(session, path.address, answer);
}
