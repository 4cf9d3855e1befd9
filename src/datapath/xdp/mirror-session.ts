import type { WindowState } from '../../tunnel/window.ts';
import type { Policing } from '../decision/policing.ts';
import type {
  FastAnchor,
  FastKey,
  FastListener,
  FastSession,
  FastSessionFacts,
  FastSessionSpec,
  FastWay,
} from '../fast-path.ts';
import type { Elements } from './elements.ts';
import type { LeasePlaces } from './lease-places.ts';
import type { LeaseHolder, PlacedLease } from './leases.ts';
import type { ReceiveKeys } from './receive-keys.ts';
import type { SessionLayout } from './session-layout.ts';
import type { MeterDirection, SessionMeter } from './session-meter.ts';
import type { WayWriter } from './ways.ts';

/** What an anchor is in the program. */
export interface MirrorAnchor extends FastAnchor {
  readonly id: string;
  /** Null when there is no room for it. */
  readonly slot: number | null;
  readonly endpoints: readonly Uint8Array[];
  readonly sessions: Set<LeaseHolder>;
  isBegun: boolean;
}

/** A session in the program: one slot of each array. */
export class MirrorSession implements FastSession, LeaseHolder {
  readonly slot: number;
  readonly spec: FastSessionSpec;
  readonly anchor: MirrorAnchor;
  readonly listener: FastListener;
  readonly leases = new Set<PlacedLease>();
  readonly waiting = new Set<PlacedLease>();
  readonly places: LeasePlaces;
  readonly keys: ReceiveKeys;
  readonly ways: WayWriter;
  /** What a former process left in the slot has been taken over, or was not there. */
  settled = true;
  /** The program finds it by its number. */
  isIndexed = false;
  readonly #sessions: Elements;
  readonly #layout: SessionLayout;
  readonly #meter: SessionMeter;
  readonly #index: (session: MirrorSession) => void;
  readonly #drop: (session: MirrorSession) => void;

  get isBegun(): boolean {
    return this.anchor.isBegun;
  }

  constructor(options: {
    readonly slot: number;
    readonly spec: FastSessionSpec;
    readonly anchor: MirrorAnchor;
    readonly listener: FastListener;
    readonly places: LeasePlaces;
    readonly keys: ReceiveKeys;
    readonly ways: WayWriter;
    readonly sessions: Elements;
    readonly layout: SessionLayout;
    readonly meter: SessionMeter;
    readonly index: (session: MirrorSession) => void;
    readonly drop: (session: MirrorSession) => void;
  }) {
    this.slot = options.slot;
    this.spec = options.spec;
    this.anchor = options.anchor;
    this.listener = options.listener;
    this.places = options.places;
    this.keys = options.keys;
    this.ways = options.ways;
    this.#sessions = options.sessions;
    this.#layout = options.layout;
    this.#meter = options.meter;
    this.#index = options.index;
    this.#drop = options.drop;
  }

  get forwards(): boolean {
    return this.ways.forwards;
  }

  /** The program finds it from now on. */
  index(): void {
    if (this.isIndexed) return;
    this.isIndexed = true;
    this.#index(this);
  }

  /**
   * Before its device can send under the first key: what either engine received under one, the other has to know of.
   */
  receive(key: FastKey, previousUntilMs: number, window: WindowState | null): void {
    this.index();
    this.keys.add(key, previousUntilMs, window);
  }

  stopReceiving(): void {
    this.keys.clear();
  }

  way(way: FastWay | null): void {
    this.settled = true;
    if (way !== null) {
      const { name } = way.key;
      this.#sessions.setU64(this.#at('relayBoot'), name.relayBoot);
      this.#sessions.setU64(this.#at('epoch'), name.epoch);
    }
    this.ways.set(way);
  }

  facts({ deviceBoot, generation, rttMs }: FastSessionFacts): void {
    this.#sessions.setU64(this.#at('deviceBoot'), deviceBoot);
    this.#sessions.setU32(this.#at('generation'), generation);
    this.#sessions.setU32(this.#at('rttUs'), Math.min(Math.round(rttMs * 1000), 0xffff_ffff));
  }

  reserve(sequence: number): void {
    this.#sessions.setU32(this.#at('slowSequence'), sequence);
  }

  window(keyNumber: number): WindowState | null {
    return this.keys.window(keyNumber);
  }

  nextSequence(keyNumber: number): number | null {
    return this.ways.nextSequence(keyNumber);
  }

  charge(direction: MeterDirection, rate: Policing, octets: number, nowMs: number): boolean {
    return this.#meter.charge(direction, rate, octets, nowMs);
  }

  drop(): void {
    this.#drop(this);
  }

  #at(member: keyof SessionLayout['session']): number {
    return this.#sessions.base(this.slot) + this.#layout.session[member];
  }
}

/** A session for which the program has no room: the userspace engine carries it alone. */
export class UnmirroredSession implements FastSession, LeaseHolder {
  readonly forwards = false;
  readonly slot = 0;
  readonly places = null;
  readonly leases = new Set<PlacedLease>();
  readonly waiting = new Set<PlacedLease>();
  readonly #anchor: MirrorAnchor;
  readonly #drop: (session: UnmirroredSession) => void;

  constructor(anchor: MirrorAnchor, drop: (session: UnmirroredSession) => void) {
    this.#anchor = anchor;
    this.#drop = drop;
  }

  get isBegun(): boolean {
    return this.#anchor.isBegun;
  }

  receive(): void {}

  stopReceiving(): void {}

  way(): void {}

  facts(): void {}

  reserve(): void {}

  window(): null {
    return null;
  }

  nextSequence(): null {
    return null;
  }

  charge(): null {
    return null;
  }

  drop(): void {
    this.#drop(this);
  }
}
