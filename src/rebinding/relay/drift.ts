import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlMessage } from '../../tunnel/message.ts';
import { CONTROL } from '../../tunnel/wire.ts';
import type { RelayInput } from '../relay-io.ts';
import { challengeCandidate, challengePath, mayAnswer, sync } from './answers.ts';
import type { Candidate } from './candidates.ts';
import { beginContest } from './contest.ts';
import { noteDeviceHas } from './key-numbers.ts';
import { count, type Session } from './session.ts';

/** An address that lost a contest is not tried again for this long unless the device asks for it by BIND. */
const BACKOFF_MS = 500;
const BACKOFF_ADDRESSES = 8;

/** Generation of a keepalive that only asks for an answer, from whatever link: the device is where it was. */
const PROBE = 0;

/** The device asks whether its path still works, or how well another one would. */
export function takeKeepalive(
  session: Session,
  from: SocketAddress,
  message: ControlMessage,
  nowMs: number,
): void {
  const { answers, boots, keys, path } = session;
  const isCurrent = message.boot === boots.current;
  const isProbe = message.generation === PROBE;
  if (isCurrent && !isProbe && isElsewhere(session, from, nowMs)) {
    drift(session, from, CONTROL.length, message.counter, nowMs);
    return;
  }
  const isBehind = isCurrent && from.key === path.address?.key && keys.sender < keys.newest;
  if (isBehind) challengePath(session, message.counter, nowMs);
  else if (mayAnswer(session, answers, nowMs)) sync(session, from, message);
}

/** DATA came: it tells which key the device has, and where it is. */
export function takeData(
  session: Session,
  { from, fresh, keyNumber, octets }: Extract<RelayInput, { type: 'data' }>,
  nowMs: number,
): void {
  const { hint, path } = session;
  if (fresh) noteDeviceHas(session, keyNumber);
  if (path.address === null) {
    if (hint?.candidate.address.key === from.key) credit(session, hint.candidate, octets, nowMs);
  } else if (fresh && isElsewhere(session, from, nowMs)) {
    drift(session, from, octets, 0n, nowMs);
  }
}

/** `address` lost a contest that the device did not ask for. */
export function backOff({ backoff }: Session, address: SocketAddress, nowMs: number): void {
  backoff.delete(address.key);
  backoff.set(address.key, nowMs + BACKOFF_MS);
  for (const key of backoff.keys()) {
    if (backoff.size <= BACKOFF_ADDRESSES) break;
    backoff.delete(key);
  }
}

/** Neither the active path nor the one before it, from which packets may still be on the way. */
function isElsewhere({ path }: Session, from: SocketAddress, nowMs: number): boolean {
  if (path.address === null || from.key === path.address.key) return false;
  return path.draining?.key !== from.key || nowMs >= path.draining.untilMs;
}

/** The device speaks from where it was not: its NAT may have changed, or someone re-sends its packets. */
function drift(session: Session, from: SocketAddress, octets: number, counter: bigint, nowMs: number): void {
  let candidate = session.candidates.at(from);
  if (candidate === null) {
    if ((session.backoff.get(from.key) ?? 0) > nowMs) return;
    candidate = openDrift(session, from, nowMs);
    if (candidate === null) {
      count(session, 'candidates-full');
      return;
    }
    beginContest(session, candidate, nowMs);
  }
  if (counter !== 0n) candidate.asked = counter;
  credit(session, candidate, octets, nowMs);
}

function openDrift(
  { boots, candidates, path }: Session,
  address: SocketAddress,
  nowMs: number,
): Candidate | null {
  const { current: boot } = boots;
  const { generation } = path;
  return candidates.open({ address, origin: 'drift', boot, generation, oldPath: 'unknown' }, boot, nowMs);
}

/** Challenges when the address has sent as much as a challenge costs, and not in vain too often. */
function credit(session: Session, candidate: Candidate, octets: number, nowMs: number): void {
  candidate.heardMs = nowMs;
  candidate.credit = Math.min(candidate.credit + octets, CONTROL.length);
  if (candidate.proven || candidate.credit < CONTROL.length || nowMs < candidate.spacedMs) return;
  candidate.credit = 0;
  challengeCandidate(session, candidate, nowMs);
}
