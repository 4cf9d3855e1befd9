import type { SocketAddress } from '../../protocol/address.ts';
import type { ControlMessage } from '../../tunnel/message.ts';
import { syncBoot } from './answers.ts';
import type { Candidate } from './candidates.ts';
import { restartContests } from './contest.ts';
import { forgetHolds, release } from './hold.ts';
import { beginAnnouncement } from './key-announcement.ts';
import { noteDeviceHas, provideNewest } from './key-numbers.ts';
import type { ActivePath, Session } from './session.ts';

/** DATA that still comes from the path before is no drift for this long, or for two of its round trips. */
const DRAINING_MS = 250;
/** The sender holds back at a flip to a faster path, at most. */
const OVERTAKE_MOST_MS = 200;

/**
 * The candidate's rebind is accepted, and downlink goes to `to`: its address, or where the device was. The one
 * place where the path, the generation and the device's incarnation change. `answer` is the active path's proof
 * where that decided.
 */
export function accept(
  session: Session,
  candidate: Candidate,
  to: SocketAddress,
  nowMs: number,
  answer: ControlMessage | null = null,
): void {
  const { boots, candidates, keys, path } = session;
  const { boot, generation, proven } = candidate;
  const isNewBoot = boot !== boots.current;
  if (isNewBoot) becomeDevice(session, boot);
  path.generation = isNewBoot ? generation : Math.max(path.generation, generation);

  const isFlip = path.address?.key !== to.key;
  path.delayMs = isFlip && !isNewBoot ? overtakingMs(path, candidate) : 0;
  if (isFlip) flip(path, to, proven?.rttMs ?? 0, nowMs);
  session.hint = null;
  session.backoff.delete(to.key);
  candidates.keep(
    (other) => other !== candidate && other.boot === boot && other.generation > path.generation,
  );
  if (isFlip) restartContests(session, nowMs);

  const wasHolding = release(session, to);
  session.out.push({ type: 'flip', path: to, afterMs: wasHolding ? 0 : path.delayMs });
  noteDeviceHas(session, proven?.keyNumber ?? 0);
  if (keys.sender < keys.newest) beginAnnouncement(session, nowMs);
  syncBoot(session, to, boot, answer?.counter ?? proven?.counter ?? 0n);
  session.out.push({
    type: 'moved',
    path: to,
    generation: path.generation,
    deviceBoot: boot,
    oldPath: candidate.oldPath,
    tookMs: nowMs - candidate.firstMs,
  });
}

function becomeDevice(session: Session, boot: bigint): void {
  const { boots, hint, keys } = session;
  if (boots.current !== 0n) {
    keys.newest += 1;
  } else if (hint && hint.candidate.boot !== boot) {
    boots.retire(hint.candidate.boot);
  }
  boots.promote(boot);
  forgetHolds(session);
  provideNewest(session);
  // Its predecessor's keys are of no use to it: nothing is gained by waiting until it is seen to have these.
  noteDeviceHas(session, keys.newest);
}

/** By how much the new path is faster than one that still carries packets: so long these need not to be overtaken. */
function overtakingMs(path: ActivePath, { oldPath, contestedMs, proven }: Candidate): number {
  const isAlive = oldPath === 'alive' && path.address !== null && contestedMs === null;
  if (!isAlive) return 0;
  return Math.round(Math.min(Math.max(path.rttMs - (proven?.rttMs ?? 0), 0), OVERTAKE_MOST_MS));
}

function flip(path: ActivePath, to: SocketAddress, rttMs: number, nowMs: number): void {
  const former = path.address;
  path.draining = former && { key: former.key, untilMs: nowMs + Math.max(DRAINING_MS, 2 * path.rttMs) };
  path.challenges.clear();
  path.address = to;
  path.rttMs = rttMs;
}
