import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlDraft, ControlMessage } from '../../tunnel/message.ts';
import type { TokenBucket } from '../token-bucket.ts';
import type { Candidate } from './candidates.ts';
import { keyNumberFor } from './key-numbers.ts';
import { count, type Session } from './session.ts';

/** A candidate that is not asked to is challenged with this pause at least, else 1.5 round trips. */
const SPACED_MS = 100;

/** Says what is in force, as an answer to `message`. */
export function sync(session: Session, to: SocketAddress, { boot, counter }: ControlMessage): void {
  syncBoot(session, to, boot, counter);
}

/** The same to the device's incarnation `boot`, whose message `echoCounter` it answers. */
export function syncBoot(session: Session, to: SocketAddress, boot: bigint, echoCounter: bigint): void {
  const { boots, path } = session;
  const isCurrent = boot === boots.current && path.address !== null;
  send(session, to, {
    kind: 'sync',
    echoBoot: boot,
    echoCounter,
    // 0 says: there is no path to you.
    generation: isCurrent ? path.generation : 0,
    keyNumber: keyNumberFor(session, boot),
    observed: to,
    delayMs: isCurrent ? path.delayMs : 0,
  });
}

/** Asks for a proof from a candidate's address. */
export function challengeCandidate(session: Session, candidate: Candidate, nowMs: number): void {
  if (!mayAnswer(session, session.answers, nowMs)) return;
  const { address, boot, generation, asked } = candidate;
  const keyNumber = keyNumberFor(session, boot);
  const { cookie } = candidate.challenges.issue(nowMs, keyNumber);
  candidate.spacedMs = nowMs + Math.max(SPACED_MS, 1.5 * session.path.rttMs);
  send(session, address, {
    kind: 'challenge',
    echoBoot: boot,
    echoCounter: asked,
    generation,
    keyNumber,
    cookie,
    observed: address,
  });
}

/** Asks for a proof from the active path: that it is still there, and that the device has the newest key. */
export function challengePath(session: Session, echoCounter: bigint, nowMs: number): void {
  const { boots, keys, path } = session;
  if (path.address === null) return;
  const { cookie } = path.challenges.issue(nowMs, keys.newest);
  send(session, path.address, {
    kind: 'challenge',
    echoBoot: boots.current,
    echoCounter,
    generation: path.generation,
    keyNumber: keys.newest,
    cookie,
    observed: path.address,
  });
}

/** Takes a token of `bucket`: answers are few, whatever comes in. */
export function mayAnswer(session: Session, bucket: TokenBucket, nowMs: number): boolean {
  const allowed = bucket.take(nowMs);
  if (!allowed) count(session, 'answer-limited');
  return allowed;
}

function send(session: Session, to: SocketAddress, draft: ControlDraft): void {
  session.out.push({ type: 'send', to, draft: { epoch: session.epoch, ...draft } });
}
