import { challengePath } from './answers.ts';
import { provideNewest } from './key-numbers.ts';
import type { Session } from './session.ts';

/** A new DATA key is announced to the active path with these pauses, for that long in all. */
const PAUSE_FIRST_MS = 250;
const PAUSE_MOST_MS = 2_000;
const ANNOUNCE_FOR_MS = 10_000;

/** The newest key wears out. */
export function rekey(session: Session, nowMs: number): void {
  session.keys.newest += 1;
  if (session.boots.current === 0n) return;
  provideNewest(session);
  beginAnnouncement(session, nowMs);
  announceIfDue(session, nowMs);
}

/** From now on the device is told of the newest key until it is seen to have it. */
export function beginAnnouncement({ keys }: Session, nowMs: number): void {
  keys.announcement = { atMs: nowMs, pauseMs: PAUSE_FIRST_MS, untilMs: nowMs + ANNOUNCE_FOR_MS };
}

/** A challenge tells the key and its proof confirms it, from a device that only receives too. */
export function announceIfDue(session: Session, nowMs: number): void {
  const { announcement } = session.keys;
  if (announcement === null || nowMs < announcement.atMs) return;
  challengePath(session, 0n, nowMs);
  announcement.atMs = nowMs + announcement.pauseMs;
  announcement.pauseMs = Math.min(2 * announcement.pauseMs, PAUSE_MOST_MS);
  if (announcement.atMs > announcement.untilMs) session.keys.announcement = null;
}
