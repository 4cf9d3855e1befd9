import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlMessage } from '../../tunnel/message.ts';
import { mayAnswer, sync } from './answers.ts';
import { noteDeviceHas } from './key-numbers.ts';
import { count, type Session } from './session.ts';

/**
 * True for a message that counts: new, and spoken to this incarnation by one that was not replaced. Whoever
 * speaks to another incarnation is told at `answerTo` which one is in force.
 */
export function admit(
  session: Session,
  answerTo: SocketAddress | null,
  message: ControlMessage,
  nowMs: number,
): boolean {
  const standing = session.boots.admit(message.boot, message.counter);
  if (standing === 'retired' || standing === 'replayed') {
    count(session, standing === 'retired' ? 'boot-retired' : 'replayed');
    return false;
  }
  if (message.echoBoot !== session.relayBoot || message.epoch !== session.epoch) {
    count(session, 'stale-incarnation');
    if (answerTo && mayAnswer(session, session.staleAnswers, nowMs)) sync(session, answerTo, message);
    return false;
  }
  // Who echoes this incarnation has heard of it, and so of the key that it began with.
  if (standing === 'current') noteDeviceHas(session, session.keys.first);
  return true;
}
