import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlMessage } from '../../tunnel/message.ts';
import { count, type Session } from './session.ts';

/** Downlink is held for at most this long. */
export const HOLD_MS = 2_000;

/**
 * The device in force says that its path is gone (BIND) or about to go (HOLD). Each generation holds once by
 * either, so that nobody can stretch a hold by repeating it.
 */
export function holdFor(session: Session, { kind, boot, generation }: ControlMessage, nowMs: number): void {
  const { boots, hold, path } = session;
  if (boot !== boots.current || path.address === null) return;
  if (kind === 'hold') {
    if (generation < path.generation || generation <= hold.byHold) return;
    hold.byHold = generation;
  } else {
    if (generation <= path.generation || generation <= hold.byBind) return;
    hold.byBind = generation;
  }
  beginHold(session, nowMs);
}

export function beginHold({ hold, out }: Session, nowMs: number): void {
  hold.untilMs = nowMs + HOLD_MS;
  out.push({ type: 'hold', untilMs: hold.untilMs });
}

/** Ends the hold, if there is one: what was queued leaves for `to` before anything newer. True if there was one. */
export function release({ hold, out }: Session, to: SocketAddress | null): boolean {
  if (hold.untilMs === null) return false;
  hold.untilMs = null;
  out.push({ type: 'release', to });
  return true;
}

/** No proof came in time: back to the last proven path. */
export function endHoldIfOver(session: Session, nowMs: number): void {
  const { hold, path } = session;
  if (hold.untilMs === null || nowMs < hold.untilMs) return;
  count(session, 'hold-expired');
  release(session, path.address);
}

/** A new incarnation of the device counts its generations anew. */
export function forgetHolds({ hold }: Session): void {
  hold.byBind = 0;
  hold.byHold = 0;
}
