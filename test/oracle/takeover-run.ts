import { setImmediate as nextTurn } from 'node:timers/promises';
import { createOwnership, type Ownership } from '../../src/ownership/ownership.ts';
import { createPairing, type Pairing } from '../../src/ownership/pair.ts';
import { createStandby, type Standby } from '../../src/ownership/standby.ts';
import type { Timers } from '../../src/ownership/timers.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Connection } from '../../src/registry/connection.ts';
import { holdMs } from '../../src/registry/hold.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import type { Incarnation, Registry } from '../../src/registry/registry.ts';
import { createStore } from '../../src/registry/store.ts';
import { silent } from '../integration/registry/real-redis.ts';

/** The numbers that relays run with. */
export const PAIRED_MS = 450;
export const ALONE_MS = 10_000;
export const BEGINNING_MS = 2_000;
const ASK_EVERY_MS = 100;
/** How long the data path of a relay may go on after its deadline. */
const LATE_MS = 50;
const TICK_MS = 10;

export interface WorldOptions {
  /** How long a promise lasts; default: as long as relays make them. */
  readonly promiseMs?: number;
  /** How long a claim without a standby lasts; default: as with relays. */
  readonly aloneMs?: number;
  /** Milliseconds of a relay's clock in a millisecond of the registry's; default 1. */
  readonly rates?: Readonly<Record<string, number>>;
  /** What a start knows of former promises; default: that they may still hold. */
  readonly forgetful?: boolean;
}

interface Node {
  readonly id: string;
  boot: string;
  ownership: Ownership;
  pairing: Pairing;
  standby: Standby;
  /** Anchor → by the relay's own clock, when its data path stops. */
  readonly deadlines: Map<string, { epoch: bigint; untilMs: number }>;
  due: Map<symbol, { atMs: number; run: () => void }>;
  paused: boolean;
}

/** What is cut at present: `r1 registry`, `r1 r2`. */
export type Link = string;

/**
 * Relays over real scripts in a real Redis, on one clock that the test turns: nothing moves between two ticks. Throws
 * from `advance` when two relays forward for one anchor.
 */
export class World {
  readonly cuts = new Set<Link>();
  readonly nodes = new Map<string, Node>();
  nowMs = 1_700_000_000_000;
  /** The highest epoch under which anybody has forwarded, and who that was. */
  private highest = { epoch: 0n, relay: '' };
  private broken: string | undefined;
  private servers = 0;
  private replica: (Buffer | null)[] = [];
  private pending = 0;
  private starts = 0;
  private readonly connection: Connection;
  private readonly registry: Registry;
  private readonly options: WorldOptions;
  readonly anchor: string;

  constructor(connection: Connection, anchor: string, options: WorldOptions = {}) {
    this.connection = connection;
    this.anchor = anchor;
    this.options = options;
    this.registry = createStore(connection, silent, async () => undefined);
  }

  async begin(ids: readonly string[]): Promise<void> {
    await this.setClock();
    await this.connection.redis.set('test:server', `${this.anchor} 0`);
    await this.registry.declareAnchor({
      id: this.anchor,
      pool: 'p',
      sharing: 'whole',
      prefixes: ['192.0.2.8/30'],
      endpoints: ['198.51.100.1'],
      home: ids[0]!,
    });
    for (const id of ids) this.start(id);
    await this.cutReplica();
  }

  private get keys(): string[] {
    return anchorKeys(this.anchor).slice(0, -1);
  }

  /** What the registry is told from here on does not reach its replica. */
  async cutReplica(): Promise<void> {
    this.replica = await Promise.all(this.keys.map((key) => this.connection.redis.dumpBuffer(key)));
  }

  /** The replica answers from now on, and nobody else. */
  async failOver(): Promise<void> {
    const { redis } = this.connection;
    this.servers += 1;
    await redis.del(...this.keys);
    await Promise.all(
      this.keys.map((key, i) => {
        const value = this.replica[i];
        return value == null ? undefined : redis.restore(key, 0, value);
      }),
    );
    await redis.set('test:server', `${this.anchor} ${this.servers}`);
  }

  /** A new incarnation of a relay; the data path of the former one goes with it, or goes on when it is `pinned`. */
  start(id: string, { pinned = false } = {}): void {
    this.starts += 1;
    const boot = this.starts.toString(16).padStart(16, '0');
    const former = this.nodes.get(id);
    former?.ownership.stop();
    former?.standby.stop();
    former?.pairing.stop();
    const due: Node['due'] = new Map();
    const clock = () => this.clockOf(id);
    const timers: Timers = {
      nowMs: clock,
      after(delayMs, run) {
        const key = Symbol('timer');
        due.set(key, { atMs: clock() + delayMs, run });
        return () => void due.delete(key);
      },
    };
    const registry = this.seenBy(id);
    const deadlines = new Map(pinned ? former?.deadlines : []);
    const node = { id, boot, due, deadlines, paused: false } as unknown as Node;
    const alive = () => this.nodes.get(id) === node;
    node.standby = createStandby({
      registry,
      relay: id,
      boot,
      promiseMs: this.options.promiseMs ?? holdMs(PAIRED_MS),
      ...(this.options.forgetful === true ? { startedMs: Number.NEGATIVE_INFINITY } : {}),
      log: silent,
      timers,
      owns: (anchor) => node.ownership.owned().has(anchor),
      claim: (anchor) => node.ownership.claim(anchor),
      onFollow: () => undefined,
      onUnfollow: () => undefined,
    });
    node.pairing = createPairing({
      registry,
      relay: id,
      ownership: {
        owned: () => node.ownership.owned(),
        extend: (...args) => node.ownership.extend(...args),
      },
      wants: () => true,
      candidates: async () => this.others(id),
      reach: async (standby) => ({
        promise: (anchors) =>
          this.call([id, standby.id].sort().join(' '), async () => {
            const other = this.nodes.get(standby.id)!;
            if (other.paused || other.boot !== standby.boot) throw unavailable();
            return anchors
              .filter(({ anchor, epoch }) => other.standby.promise(anchor, BigInt(epoch)))
              .map(({ anchor }) => anchor);
          }),
      }),
      ttlMs: {
        paired: PAIRED_MS,
        alone: this.options.aloneMs ?? ALONE_MS,
        beginning: Math.min(BEGINNING_MS, this.options.aloneMs ?? ALONE_MS),
      },
      askEveryMs: ASK_EVERY_MS,
      log: silent,
      timers,
    });
    node.ownership = createOwnership({
      registry,
      relay: id,
      boot,
      ttlMs: this.options.aloneMs ?? ALONE_MS,
      ttlOf: node.pairing.ttlOf,
      mayBegin: node.standby.mayBegin,
      report: (anchor, epoch, ttlMs) => {
        const hasStandby = node.pairing.hadStandby(anchor, epoch);
        const nothing = { counter: 0n, leases: [], sessions: [] };
        return registry.report(anchor, { relay: id, boot, epoch, hasStandby, ...nothing }, ttlMs);
      },
      log: silent,
      timers,
      onOwned: (anchor, epoch, untilMs) => {
        if (!alive()) return;
        this.judge(id, epoch);
        node.deadlines.set(anchor, { epoch, untilMs });
      },
      onDeadline: (anchor, untilMs) => {
        const held = node.deadlines.get(anchor);
        if (alive() && held !== undefined) held.untilMs = untilMs;
      },
      onLost: (anchor) => {
        if (alive()) node.deadlines.delete(anchor);
      },
    });
    this.nodes.set(id, node);
    node.ownership.start([this.anchor]).catch(() => undefined);
    node.pairing.start();
  }

  /** Everything that a relay does stops, and its packets too, as with its host. */
  lose(id: string): void {
    const node = this.nodes.get(id)!;
    node.paused = true;
    node.deadlines.clear();
  }

  /** It computes nothing for a while, but its data path goes on to its deadline. */
  pause(id: string, paused: boolean): void {
    this.nodes.get(id)!.paused = paused;
  }

  forwarders(): string[] {
    return [...this.nodes.values()]
      .filter(({ id, deadlines }) => {
        const held = deadlines.get(this.anchor);
        return held !== undefined && held.untilMs + LATE_MS > this.clockOf(id);
      })
      .map(({ id }) => id);
  }

  async advance(ms: number): Promise<void> {
    for (const endMs = this.nowMs + ms; this.nowMs < endMs; ) {
      this.nowMs += TICK_MS;
      await this.setClock();
      for (const { id, due, paused } of this.nodes.values()) {
        if (paused) continue;
        for (const [key, { atMs, run }] of [...due]) if (atMs <= this.clockOf(id) && due.delete(key)) run();
      }
      await this.quiet();
      if (this.broken !== undefined) throw new Error(this.broken);
      const forwarding = this.forwarders();
      if (forwarding.length > 1) {
        throw new Error(`${forwarding.join(' and ')} forward at once, ${this.nowMs % 1_000_000} ms`);
      }
    }
  }

  /** Advances until `holds`, at most `withinMs`; resolves with how long it took. */
  async until(holds: () => boolean, withinMs: number): Promise<number> {
    const beganMs = this.nowMs;
    while (!holds()) {
      if (this.nowMs - beganMs > withinMs) throw new Error(`did not come to hold within ${withinMs} ms`);
      await this.advance(TICK_MS);
    }
    return this.nowMs - beganMs;
  }

  stop(): void {
    for (const node of this.nodes.values()) {
      node.ownership.stop();
      node.standby.stop();
      node.pairing.stop();
    }
  }

  /** Epochs only rise, and two relays never have one. */
  private judge(id: string, epoch: bigint): void {
    const { epoch: highest, relay } = this.highest;
    if (epoch < highest || (epoch === highest && relay !== id)) {
      this.broken = `${id} begins under epoch ${epoch}, ${relay} had ${highest}`;
    }
    this.highest = { epoch, relay: id };
  }

  private others(id: string): Incarnation[] {
    return [...this.nodes.values()]
      .filter((one) => one.id !== id)
      .map(({ id: other, boot }) => ({ id: other, boot }));
  }

  private clockOf(id: string): number {
    return Math.floor((this.nowMs - 1_700_000_000_000) * (this.options.rates?.[id] ?? 1));
  }

  private async setClock(): Promise<void> {
    await this.connection.redis.set('test:now', this.nowMs);
  }

  /** Until nobody waits for an answer any more. */
  private async quiet(): Promise<void> {
    for (let calm = 0; calm < 3; ) {
      await nextTurn();
      calm = this.pending === 0 ? calm + 1 : 0;
    }
  }

  private async call<T>(link: Link, ask: () => Promise<T>): Promise<T> {
    if (this.cuts.has(link)) throw unavailable();
    this.pending += 1;
    try {
      return await ask();
    } finally {
      this.pending -= 1;
    }
  }

  private seenBy(id: string): Registry {
    return new Proxy(this.registry, {
      get: (target, name) => {
        const method = target[name as keyof Registry] as (...args: unknown[]) => Promise<unknown>;
        return (...args: unknown[]) => this.call(`${id} registry`, () => method.apply(target, args));
      },
    });
  }
}

function unavailable(): MooringError {
  return new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'cut off; mend the link', { temporary: true });
}
