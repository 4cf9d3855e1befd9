import type { RelaySettings } from '../../../src/config/schema.ts';
import type { Ownership } from '../../../src/ownership/ownership.ts';
import type { Pairing } from '../../../src/ownership/pair.ts';
import type { Standby } from '../../../src/ownership/standby.ts';
import { isGiven, isToBeClaimed } from '../../../src/ownership/unclaimed.ts';
import type { RelayPlane } from '../../../src/protocol/relay-plane.ts';
import type { Incarnation, Registry, RelayAnnouncement } from '../../../src/registry/registry.ts';
import type { Carrying } from '../../../src/relay/carrying.ts';
import type { RelayNode } from '../../../src/relay/node.ts';
import { silent } from '../../integration/registry/real-redis.ts';
import type { DataPath } from './data-path.ts';
import type { Disk } from './disk.ts';
import type { Product } from './product.ts';
import type { Process } from './scheduler.ts';
import { ALONE_MS, EMPTIED_CLAIM_MS, PAIRED_MS, QUARANTINE_MS } from './shape.ts';

const ASK_EVERY_MS = 200;
const REMIND_EVERY_MS = 1_000;
const GO_ON_FOR_MS = 3_600_000;
/** An anchor that nobody has owned so far is watched so long. */
const FIRST_CLAIM_MS = 60;
/** The registry is tried again so often while a start goes on by its journal. */
const OPEN_EVERY_MS = 100;
const SITE_KEY = new Uint8Array(32).fill(7);

export interface RelayActor {
  readonly id: string;
  readonly boot: string;
  readonly process: Process;
  readonly node: RelayNode;
  readonly ownership: Ownership;
  readonly pairing: Pairing;
  readonly standby: Standby;
  stop(): void;
}

export interface RelayActorOptions {
  readonly product: Product;
  readonly id: string;
  readonly boot: string;
  readonly process: Process;
  readonly path: DataPath;
  readonly disk: Disk;
  readonly registry: Registry;
  readonly anchors: readonly string[];
  /** Whether the anchor is this relay's when nobody has it. */
  readonly isHome: (anchor: string) => boolean;
  readonly announcement: RelayAnnouncement;
  /** Nothing can have been promised before. */
  readonly first: boolean;
  /** Resolves when the registry has answered; rejects at once when it is away. */
  open(): Promise<void>;
  wallMs(): number;
  /** The registry has come back empty some time. */
  isEmptied(): boolean;
  /** Goes on by its journal. */
  onCarriedOn(): void;
  planeFor(relay: string): Promise<RelayPlane>;
  candidates(): Promise<readonly Incarnation[]>;
  /** The program would end. */
  onGivenUp(error: Error): void;
}

/** A relay as the program starts it, on simulated time, network and data path. */
export function startRelay(options: RelayActorOptions): RelayActor {
  const { product, id, boot, process, path, disk, registry, anchors } = options;
  const log = silent;
  let carrying: Carrying | undefined;
  const journal = disk.journalOf(process);
  const former = new Map(disk.read());
  const node = product.createRelayNode({
    settings: { id, port: 4556, innerMtu: 1280, outageGraceMs: 0 } as RelaySettings,
    boot,
    siteKey: SITE_KEY,
    registry,
    engine: path,
    announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
    planeFor: options.planeFor,
    onEnded: () => undefined,
    ...{ journal, former, aside: disk.readAside() },
    carrying: {
      get anchors() {
        return carrying?.anchors ?? new Set<string>();
      },
      end: async (anchor) => (await carrying?.end(anchor)) ?? [],
    },
    log,
    timers: process,
  });
  const standby: Standby = product.createStandby({
    registry,
    relay: id,
    boot,
    promiseMs: product.holdMs(PAIRED_MS),
    ...(options.first ? { startedMs: Number.NEGATIVE_INFINITY } : {}),
    log,
    timers: process,
    owns: (anchor) => ownership.owned().has(anchor),
    claim: (anchor) => ownership.claim(anchor),
    onFollow: (anchor) => void node.follow(anchor).catch(() => undefined),
    onUnfollow: (anchor) => node.unfollow(anchor),
  });
  const pairing: Pairing = product.createPairing({
    registry,
    relay: id,
    ownership: {
      owned: () => ownership.owned(),
      extend: (...args) => ownership.extend(...args),
    },
    wants: () => true,
    candidates: options.candidates,
    async reach(other) {
      const plane = await options.planeFor(other.id);
      return { promise: async (asked) => (await plane.promise({ anchors: [...asked] })).promised };
    },
    async note(anchor, named) {
      await node.noteStandby(anchor, named === null ? null : { ...named, planeUrl: 'x' });
    },
    ttlMs: { paired: PAIRED_MS, alone: ALONE_MS, beginning: ALONE_MS },
    unsureMs: QUARANTINE_MS,
    askEveryMs: ASK_EVERY_MS,
    log,
    timers: process,
  });
  const ownership: Ownership = product.createOwnership({
    registry,
    relay: id,
    boot,
    ttlMs: ALONE_MS,
    ttlOf: pairing.ttlOf,
    mayBegin: standby.mayBegin,
    report: (anchor, epoch, ttlMs) => {
      const hadStandby = former.get(anchor)?.epoch === epoch && former.get(anchor)?.standby !== null;
      const hasStandby = hadStandby || pairing.hadStandby(anchor, epoch);
      return registry.report(anchor, { relay: id, boot, hasStandby, ...node.held(anchor) }, ttlMs);
    },
    nobodyElse: (anchor, epoch) => !pairing.hadStandby(anchor, epoch) && options.isHome(anchor),
    standbyOf: (anchor) => pairing.standbyOf(anchor),
    firstClaimMs: () => (options.isEmptied() ? EMPTIED_CLAIM_MS : FIRST_CLAIM_MS),
    knownEpoch: node.knownEpoch,
    followedEpoch: node.followedEpoch,
    redeclare: (anchor) => node.redeclare(anchor),
    onAdopted: (anchor, epoch) => pairing.adopted(anchor, epoch),
    log,
    timers: process,
    onOwned: (anchor, epoch, untilMs) =>
      node.serve(anchor, epoch, untilMs).then(() => void former.delete(anchor)),
    onDeadline: (anchor, untilMs) => node.deadline(anchor, untilMs),
    onLapsed: (anchor, lapsed) => node.lapse(anchor, lapsed),
    onLost: (anchor) => void node.forsake(anchor).catch(() => undefined),
  });
  node.useOwnership(ownership, standby);

  // A hand-over whose last message was lost, or that came to a former start, left an anchor ours without our knowing.
  const remind = () => {
    process.after(REMIND_EVERY_MS, remind);
    for (const anchor of anchors) {
      if (ownership.owned().has(anchor)) continue;
      registry
        .owner(anchor)
        .then(async (owner) => {
          // Who is not its home is refused.
          if (isToBeClaimed(owner, { id, boot }, true, node.knownEpoch(anchor))) {
            const epoch = await ownership.claim(anchor);
            if (isGiven(owner, { id, boot })) pairing.adopted(anchor, epoch);
          }
          if (owner?.standby?.id === id) await standby.look(anchor);
          if (owner !== null) await node.othersEpoch(anchor, owner.epoch);
        })
        .catch(() => undefined);
    }
  };
  const announce = () => {
    process.after(ALONE_MS, announce);
    registry.announceRelay(options.announcement, ALONE_MS * 2.2).catch(() => undefined);
  };
  const carryOn = (): Promise<Carrying> => {
    options.onCarriedOn();
    return product.carryOn({
      ...{ former, siteKey: SITE_KEY, engine: path, leftBehind: [], log, timers: process },
      announcer: { announce: () => undefined, withdraw: () => undefined },
      promise: async (to, asked) =>
        to.planeUrl === ''
          ? []
          : (await (await options.planeFor(to.id)).promise({ anchors: [...asked] })).promised,
      ...{ promisedMs: PAIRED_MS, askEveryMs: ASK_EVERY_MS, graceMs: GO_ON_FOR_MS, outageGraceMs: 0 },
      wallMs: options.wallMs,
    });
  };
  const opened = async (): Promise<void> => {
    for (;;) {
      try {
        return await options.open();
      } catch {
        if (former.size > 0) carrying ??= await carryOn();
        await new Promise<void>((resolve) => process.after(OPEN_EVERY_MS, resolve));
      }
    }
  };
  const begin = async (): Promise<void> => {
    await opened();
    announce();
    await ownership.start(anchors);
    for (const anchor of carrying?.anchors ?? []) {
      await carrying?.letGo(anchor);
      await journal.end(anchor);
    }
    carrying?.stop();
    remind();
    pairing.start();
  };
  begin().catch(options.onGivenUp);

  return {
    ...{ id, boot, process, node, ownership, pairing, standby },
    stop() {
      process.alive = false;
      carrying?.stop();
      ownership.stop();
      standby.stop();
      pairing.stop();
      void node.close();
    },
  };
}
