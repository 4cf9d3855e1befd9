import type { Ownership } from '../ownership/ownership.ts';
import { createPairing, type Pairing } from '../ownership/pair.ts';
import { createStandby, type Standby } from '../ownership/standby.ts';
import { holdMs } from '../registry/hold.ts';
import type { Roster } from '../registry/pools.ts';
import type { Incarnation, Registry, RelayAnnouncement } from '../registry/registry.ts';
import { monotonicMs } from '../telemetry/clock.ts';
import type { Log } from '../telemetry/log.ts';
import type { Planes } from './planes.ts';

/** An anchor with a standby is forwarded for so long without a word of registry or standby, milliseconds. */
export const PAIRED_MS = 450;
/** An anchor that is to have a standby is claimed for so long at first, milliseconds: its relay finds one within a second. */
const BEGINNING_MS = 2_000;
/** The owner asks its standbys so often, milliseconds. */
export const ASK_EVERY_MS = 100;

/** This relay's part in taking anchors over: as owner, and as standby of others. */
export interface Takeover {
  readonly pairing: Pairing;
  readonly standby: Standby;
  /** These are the pools from now on. */
  usePools(roster: Roster): void;
  /** Whether the anchor is to have a standby. */
  isPaired(anchor: string): boolean;
  /** Resolves when this relay may begin to forward for the anchor unasked. */
  mayBegin(anchor: string, epoch?: bigint): Promise<void>;
  close(): void;
}

export function createTakeover(options: {
  readonly roster: Roster;
  readonly announcement: RelayAnnouncement;
  readonly aloneMs: number;
  readonly registry: Registry;
  readonly planes: Planes;
  readonly ownership: () => Ownership;
  /** An anchor of a lost owner is this relay's now. */
  readonly onTakenOver: () => void;
  readonly onFollow: (anchor: string) => void;
  readonly onUnfollow: (anchor: string) => void;
  /** See `PairingOptions.note`. */
  readonly note: (anchor: string, standby: Incarnation | null) => Promise<void>;
  readonly log: Log;
}): Takeover {
  const { announcement, registry, planes, ownership, log } = options;
  const { id: relay, boot, site } = announcement;
  let paired = new Set<string>();
  const usePools = ({ policies, anchors }: Roster) => {
    const pools = new Set(policies.filter(({ standby }) => standby === true).map(({ name }) => name));
    paired = new Set(anchors.filter(({ pool }) => pools.has(pool)).map(({ id }) => id));
  };
  usePools(options.roster);
  const standby = createStandby({
    registry,
    relay,
    boot,
    promiseMs: holdMs(PAIRED_MS),
    startedMs: monotonicMs() - process.uptime() * 1000,
    log,
    owns: (anchor) => ownership().owned().has(anchor),
    async claim(anchor) {
      const epoch = await ownership().claim(anchor);
      options.onTakenOver();
      return epoch;
    },
    onFollow: options.onFollow,
    onUnfollow: options.onUnfollow,
  });
  const pairing = createPairing({
    registry,
    relay,
    ownership: {
      owned: () => ownership().owned(),
      extend: (...args) => ownership().extend(...args),
    },
    wants: (anchor) => paired.has(anchor),
    async candidates() {
      const relays = await registry.relays();
      return relays.filter((one) => one.id !== relay && one.site === site && one.planeUrl !== '');
    },
    async reach(other) {
      const plane = await planes.for(other.id);
      return { promise: async (anchors) => (await plane.promise({ anchors: [...anchors] })).promised };
    },
    note: options.note,
    ttlMs: {
      paired: PAIRED_MS,
      alone: options.aloneMs,
      beginning: Math.min(BEGINNING_MS, options.aloneMs),
    },
    askEveryMs: ASK_EVERY_MS,
    log,
  });
  return {
    pairing,
    standby,
    usePools,
    isPaired: (anchor) => paired.has(anchor),
    mayBegin: async (anchor, epoch) => {
      if (paired.has(anchor)) await standby.mayBegin(anchor, epoch);
    },
    close() {
      pairing.stop();
      standby.stop();
    },
  };
}
