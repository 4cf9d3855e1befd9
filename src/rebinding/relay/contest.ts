import { challengePath } from './answers.ts';
import type { Candidate } from './candidates.ts';
import type { Session } from './session.ts';

/** A silent path has at least this long to answer before a contender takes its place; else two of its round trips. */
const CONTEST_MS = 300;
const CONTEST_MOST_MS = 3_000;
/** So often the active path is asked meanwhile: one lost challenge must not cost it its place. */
const TIMES_ASKED = 3;

/** From now on the candidate takes the active path's place only if that one stays silent (RFC 9853). */
export function beginContest(session: Session, candidate: Candidate, nowMs: number): void {
  if (candidate.contestedMs !== null) return;
  candidate.contestedMs = nowMs;
  askActivePath(session, nowMs);
}

/** After a flip there is another path to be silent, and that the former one answered decides nothing any more. */
export function restartContests(session: Session, nowMs: number): void {
  for (const candidate of session.candidates.all) {
    if (candidate.contestedMs === null) continue;
    candidate.contestedMs = null;
    candidate.lost = false;
    beginContest(session, candidate, nowMs);
  }
}

/** When the active path has been silent for long enough; Infinity: the candidate does not wait for that. */
export function contestEndsMs({ path }: Session, { contestedMs, lost }: Candidate): number {
  return contestedMs === null || lost ? Number.POSITIVE_INFINITY : contestedMs + contestMs(path.rttMs);
}

export function askActivePathIfDue(session: Session, nowMs: number): void {
  const { candidates, path } = session;
  if (nowMs < path.askAgainMs) return;
  const isOpen = (candidate: Candidate) =>
    candidate.contestedMs !== null && !candidate.lost && nowMs < contestEndsMs(session, candidate);
  if (candidates.all.some(isOpen)) askActivePath(session, nowMs);
  else path.askAgainMs = Number.POSITIVE_INFINITY;
}

function askActivePath(session: Session, nowMs: number): void {
  challengePath(session, 0n, nowMs);
  session.path.askAgainMs = nowMs + contestMs(session.path.rttMs) / TIMES_ASKED;
}

function contestMs(rttMs: number): number {
  return Math.min(Math.max(CONTEST_MS, 2 * rttMs), CONTEST_MOST_MS);
}
