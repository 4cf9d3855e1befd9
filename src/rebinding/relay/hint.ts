import type { PathHinted } from '../relay-io.ts';
import { challengeCandidate } from './answers.ts';
import { beginHold } from './hold.ts';
import { hintOf, type Session } from './session.ts';

/** When the hinted path is challenged, milliseconds after the session began. */
const CHALLENGES_MS = [0, 200, 600, 1_400];

/** Downlink waits for the device's proof at the path where a former incarnation left it. */
export function beginHint(session: Session, nowMs: number): void {
  if (session.hint !== null) session.hint.candidate.firstMs = nowMs;
  if (session.hint !== null || session.awaitsHint) beginHold(session, nowMs);
}

/** The registry has said where the device was last, or that it has moved since it was said before. */
export function takeHint(session: Session, hint: PathHinted, nowMs: number): void {
  if (session.boots.current !== 0n) return;
  const known = session.hint?.candidate;
  const isKnown = known?.address.key === hint.path.key && known.boot === hint.deviceBoot;
  if (isKnown && known.generation >= hint.generation) return;
  session.hint = hintOf(hint, session.random);
  beginHint(session, nowMs);
  challengeHintIfDue(session, nowMs);
}

/** Infinity when nothing more is sent there unasked. */
export function hintDueMs({ hint }: Session): number {
  if (hint === null) return Number.POSITIVE_INFINITY;
  return hint.candidate.firstMs + (CHALLENGES_MS[hint.timesDue] ?? Number.POSITIVE_INFINITY);
}

export function challengeHintIfDue(session: Session, nowMs: number): void {
  const { hint } = session;
  if (hint === null || nowMs < hintDueMs(session)) return;
  hint.timesDue += 1;
  challengeCandidate(session, hint.candidate, nowMs);
}
