import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlMessage } from '../../tunnel/message.ts';
import { CANDIDATE_MS, type Candidate } from './candidates.ts';
import type { OpenChallenge } from './challenges.ts';
import { noteDeviceHas } from './key-numbers.ts';
import { count, type Session } from './session.ts';
import { activePathAnswered, decide } from './verdict.ts';

/** Weight of a round trip against those before it (RFC 6298 §2). */
const SMOOTHING = 8;

/** The device answers a challenge: it counts only from the address that was challenged, with that challenge's cookie. */
export function takeProof(
  session: Session,
  from: SocketAddress,
  message: ControlMessage,
  nowMs: number,
): void {
  for (const candidate of candidatesAt(session, from)) {
    const challenge = candidate.challenges.match(message.cookie);
    if (challenge === null) continue;
    candidateAnswered(session, candidate, challenge, message, nowMs);
    return;
  }
  const { boots, path } = session;
  if (from.key !== path.address?.key) {
    count(session, 'proof-refused');
    return;
  }
  const challenge = path.challenges.match(message.cookie);
  if (challenge === null || message.boot !== boots.current) return;
  path.rttMs = smoothed(path.rttMs, nowMs - challenge.sentMs);
  noteDeviceHas(session, challenge.keyNumber);
  activePathAnswered(session, challenge.sentMs, message, nowMs);
}

function candidatesAt({ candidates, hint }: Session, from: SocketAddress): Candidate[] {
  const known = candidates.at(from);
  const hinted = hint?.candidate.address.key === from.key ? hint.candidate : null;
  return [known, hinted].filter((candidate) => candidate !== null);
}

function candidateAnswered(
  session: Session,
  candidate: Candidate,
  challenge: OpenChallenge,
  { boot, generation, counter }: ControlMessage,
  nowMs: number,
): void {
  if (boot !== candidate.boot || generation < candidate.generation) {
    count(session, 'proof-refused');
    return;
  }
  const wasAsked = candidate.origin === 'bind' || candidate.origin === 'signalled';
  if (wasAsked && generation !== candidate.generation) {
    count(session, 'proof-superseded');
    return;
  }
  candidate.proven = { rttMs: nowMs - challenge.sentMs, counter, keyNumber: challenge.keyNumber };
  candidate.expiresMs = nowMs + CANDIDATE_MS;
  decide(session, candidate, nowMs);
}

function smoothed(beforeMs: number, sampleMs: number): number {
  return beforeMs === 0 ? sampleMs : beforeMs + (sampleMs - beforeMs) / SMOOTHING;
}
