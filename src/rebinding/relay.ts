import type { SocketAddress } from '../protocol/address.ts';
import type { ControlMessage } from '../tunnel/message.ts';
import { admit } from './relay/admission.ts';
import { takeBind } from './relay/bind.ts';
import { askActivePathIfDue, contestEndsMs } from './relay/contest.ts';
import { takeData, takeKeepalive } from './relay/drift.ts';
import { beginHint, challengeHintIfDue, hintDueMs, takeHint } from './relay/hint.ts';
import { endHoldIfOver, holdFor } from './relay/hold.ts';
import { announceIfDue, beginAnnouncement, rekey } from './relay/key-announcement.ts';
import { provideNewest } from './relay/key-numbers.ts';
import { takeProof } from './relay/proof.ts';
import { isChallengeable } from './relay/reachable.ts';
import { count, newSession, type Session } from './relay/session.ts';
import { decideContests } from './relay/verdict.ts';
import type {
  RelayInput,
  RelayOutput,
  RelayRebinding,
  RelayRebindingOptions,
  RelayRebindingState,
} from './relay-io.ts';

/**
 * The owner relay's judgement of one session's rebinds (PROTOCOL.md §6; RFC 9000 §8–§9, RFC 4555 §3.5, RFC 9853
 * for the contest of an old and a new path).
 *
 * Promises: `active` is an address where the device answered a challenge with a 128-bit cookie that was sent
 * nowhere else; an accepted generation never falls within a device boot; a message counts once; an unproven
 * address is sent challenges and syncs only, and never more octets than came from it (but for 4 challenges to
 * a path that the registry named, and 1 for each authenticated message over signalling); every hold ends within 2 s.
 */
export function createRelayRebinding(options: RelayRebindingOptions): RelayRebinding {
  const session = newSession(options);
  const { boots, hold, keys, path } = session;
  return {
    step: (input, nowMs) => step(session, input, nowMs),
    exportState: () => exportState(session),
    get nextDueMs() {
      return nextDueMs(session);
    },
    get active() {
      return path.address;
    },
    get generation() {
      return path.generation;
    },
    get deviceBoot() {
      return boots.current;
    },
    get keyNumber() {
      return keys.newest;
    },
    get rttMs() {
      return path.rttMs;
    },
    get holding() {
      return hold.untilMs !== null;
    },
  };
}

function step(session: Session, input: RelayInput, nowMs: number): readonly RelayOutput[] {
  session.out = [];
  if (!session.begun) begin(session, nowMs);
  passTime(session, nowMs);
  switch (input.type) {
    case 'control':
      takeControl(session, input.from, input.message, nowMs);
      break;
    case 'signalled':
      takeSignalled(session, input.believed, input.message, nowMs);
      break;
    case 'data':
      takeData(session, input, nowMs);
      break;
    case 'hint':
      takeHint(session, input.hint, nowMs);
      break;
    case 'rekey':
      rekey(session, nowMs);
      break;
    case 'tick':
      break;
    default:
      input satisfies never;
  }
  return session.out;
}

function takeControl(session: Session, from: SocketAddress, message: ControlMessage, nowMs: number): void {
  if (!admit(session, from, message, nowMs)) return;
  switch (message.kind) {
    case 'bind':
      takeBind(session, from, message, 'bind', nowMs);
      break;
    case 'proof':
      takeProof(session, from, message, nowMs);
      break;
    case 'keepalive':
      takeKeepalive(session, from, message, nowMs);
      break;
    case 'hold':
      holdFor(session, message, nowMs);
      break;
    default:
      count(session, 'not-for-relay');
  }
}

function takeSignalled(
  session: Session,
  believed: SocketAddress,
  message: ControlMessage,
  nowMs: number,
): void {
  const reachable = isChallengeable(believed);
  if (!admit(session, reachable ? believed : null, message, nowMs)) return;
  if (message.kind === 'hold') holdFor(session, message, nowMs);
  else if (message.kind !== 'bind') count(session, 'not-for-relay');
  else if (reachable) takeBind(session, believed, message, 'signalled', nowMs);
  else if (message.oldPath === 'dead') holdFor(session, message, nowMs);
}

function begin(session: Session, nowMs: number): void {
  session.begun = true;
  if (session.boots.current === 0n) {
    beginHint(session, nowMs);
  } else {
    provideNewest(session);
    beginAnnouncement(session, nowMs);
  }
}

function passTime(session: Session, nowMs: number): void {
  endHoldIfOver(session, nowMs);
  session.candidates.keep((candidate) => nowMs < candidate.expiresMs);
  decideContests(session, nowMs);
  askActivePathIfDue(session, nowMs);
  announceIfDue(session, nowMs);
  challengeHintIfDue(session, nowMs);
}

function nextDueMs(session: Session): number {
  const { begun, candidates, hold, keys, path } = session;
  if (!begun) return 0;
  const dueMs = [path.askAgainMs, hintDueMs(session)];
  if (hold.untilMs !== null) dueMs.push(hold.untilMs);
  if (keys.announcement !== null) dueMs.push(keys.announcement.atMs);
  for (const candidate of candidates.all) {
    dueMs.push(candidate.expiresMs);
    if (candidate.proven) dueMs.push(contestEndsMs(session, candidate));
  }
  return Math.min(...dueMs);
}

function exportState({ boots, keys, path }: Session): RelayRebindingState | null {
  if (boots.current === 0n) return null;
  return {
    active: path.address,
    generation: path.generation,
    deviceBoot: boots.current,
    keyNumber: keys.newest,
    rttMs: path.rttMs,
    control: boots.exportWindow(),
  };
}
