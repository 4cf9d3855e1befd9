import type { Timers } from '../ownership/timers.ts';
import type { SessionState } from '../protocol/relay-plane.ts';
import type { AnchorCopyOptions, Held } from './anchor-copy.ts';
import {
  type FollowedAnchor,
  followAnchor,
  type ServedAnchor,
  type ServedAnchorOptions,
} from './served-anchor.ts';

/** A follower that could not read the registry tries again so late, milliseconds. */
const AGAIN_MS = 1_000;

/** Why an anchor is followed: this relay is its standby, or it is about to be handed over to it. */
export type FollowReason = 'standby' | 'hand-over';

/** The anchors of other relays that this one has ready. */
export interface FollowedAnchors {
  /** Resolves when the anchor is ready, or at the first failure, which is logged and tried again. */
  begin(anchor: string, why: FollowReason): Promise<void>;
  /** Ends it when there is no other reason. */
  end(anchor: string, why: FollowReason): void;
  /** Takes an anchor that is followed, once it is ready; null when it is not followed, could not be read, or `options` are overtaken. */
  take(
    anchor: string,
    options: ServedAnchorOptions,
    resumed: readonly SessionState[],
  ): Promise<ServedAnchor | null>;
  /** What was read of an anchor; undefined: it is not ready. */
  held(anchor: string): Held | undefined;
  /** Those that are ready. */
  ready(): readonly string[];
  close(): void;
}

interface Following {
  readonly reasons: Set<FollowReason>;
  ready: FollowedAnchor | null;
  begun: Promise<void>;
  cancel: () => void;
}

export function createFollowedAnchors(
  optionsOf: (anchor: string) => AnchorCopyOptions & { readonly timers: Timers },
): FollowedAnchors {
  const following = new Map<string, Following>();

  async function attempt(anchor: string, one: Following): Promise<void> {
    const options = optionsOf(anchor);
    try {
      const ready = await followAnchor(options);
      if (following.get(anchor) === one) {
        one.ready = ready;
        options.log.info({ anchor }, 'anchor followed: ready to take it over');
      } else await ready.stop();
    } catch (error) {
      options.log.warn({ anchor, error: (error as Error).message }, 'cannot follow the anchor yet');
      if (following.get(anchor) !== one) return;
      one.cancel = options.timers.after(AGAIN_MS, () => {
        one.begun = attempt(anchor, one);
      });
    }
  }

  function drop(anchor: string): void {
    const one = following.get(anchor);
    following.delete(anchor);
    one?.cancel();
    one?.ready
      ?.stop()
      .catch((error: Error) =>
        optionsOf(anchor).log.warn({ anchor, error: error.message }, 'anchor not let go cleanly'),
      );
  }

  return {
    begin(anchor, why) {
      const known = following.get(anchor);
      known?.reasons.add(why);
      if (known !== undefined) return known.begun;
      const one: Following = {
        reasons: new Set([why]),
        ready: null,
        begun: Promise.resolve(),
        cancel: () => undefined,
      };
      following.set(anchor, one);
      one.begun = attempt(anchor, one);
      return one.begun;
    },
    end(anchor, why) {
      const one = following.get(anchor);
      if (one?.reasons.delete(why) && one.reasons.size === 0) drop(anchor);
    },
    async take(anchor, options, resumed) {
      const one = following.get(anchor);
      if (one === undefined) return null;
      await one.begun;
      // Under another epoch by now: whoever serves that takes it.
      if (!options.isCurrent()) return null;
      if (following.get(anchor) === one) following.delete(anchor);
      one.cancel();
      return one.ready === null ? null : one.ready.take(options, resumed);
    },
    held: (anchor) => following.get(anchor)?.ready?.held(),
    ready: () => [...following].filter(([, one]) => one.ready !== null).map(([anchor]) => anchor),
    close() {
      for (const anchor of [...following.keys()]) drop(anchor);
    },
  };
}
