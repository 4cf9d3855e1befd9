import type { Logger } from 'pino';
import { isAway, isCode } from './answers.ts';
import type { Timers } from './timers.ts';

/** What a relay that has just started may do about an anchor. */
export interface Starting {
  claim(anchor: string): Promise<unknown>;
  /**
   * Says what this relay held before, or a former process of it wrote down, and takes the anchor when that settles whose it is.
   * False: nothing is known.
   */
  reportFormer(anchor: string): Promise<boolean>;
  stopped(): boolean;
  /** How long to wait before the registry is asked again, milliseconds. */
  againMs(anchor: string): number;
  readonly log: Logger;
  readonly timers: Timers;
}

/** Resolves when each of `anchors` was claimed or is another's; while the registry is away it keeps asking. */
export async function claimAtStart(anchors: readonly string[], starting: Starting): Promise<void> {
  await Promise.all(anchors.map((anchor) => claimIfOurs(anchor, starting)));
}

async function claimIfOurs(anchor: string, starting: Starting): Promise<void> {
  const { log } = starting;
  while (!starting.stopped()) {
    try {
      await starting.claim(anchor);
      return;
    } catch (error) {
      if (isCode(error, 'ERR_MOORING_OWNED_BY_ANOTHER') || isCode(error, 'ERR_MOORING_NOT_HOME')) {
        log.info({ anchor, reason: error.message }, 'ownership: not ours');
        return;
      }
      // Away, or in quarantine: a claim says more once either is over.
      const mayPass =
        isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE') || isCode(error, 'ERR_MOORING_QUARANTINED');
      if (!mayPass) throw error;
      log.warn({ err: error, anchor }, 'ownership: not claimed yet');
      if (isCode(error, 'ERR_MOORING_QUARANTINED') && (await reportUntilSettled(anchor, starting))) return;
      await again(anchor, starting);
    }
  }
}

/** A claim instead would end the quarantine without what is reported. False: there is nothing to report. */
async function reportUntilSettled(anchor: string, starting: Starting): Promise<boolean> {
  while (!starting.stopped()) {
    try {
      return await starting.reportFormer(anchor);
    } catch (error) {
      if (isCode(error, 'ERR_MOORING_STALE_EPOCH')) {
        starting.log.info({ anchor }, 'ownership: another relay has reported more');
        return true;
      }
      if (!isAway(error)) throw error;
    }
    await again(anchor, starting);
  }
  return true;
}

function again(anchor: string, { timers, againMs }: Starting): Promise<void> {
  return new Promise((resolve) => timers.after(againMs(anchor), resolve));
}
