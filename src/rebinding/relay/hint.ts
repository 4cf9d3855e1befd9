import { challengeCandidate } from './answers.ts';
import { beginHold } from './hold.ts';
import type { Session } from './session.ts';

/** When the hinted path is challenged, milliseconds after the session began. */
const CHALLENGES_MS = [0, 200, 600, 1_400];

/** Downlink waits for the device's proof at the path where a former incarnation left it. */
export function beginHint(session: Session, nowMs: number): void {
  if (session.hint === null) return;
  session.hint.candidate.firstMs = nowMs;
  beginHold(session, nowMs);
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
