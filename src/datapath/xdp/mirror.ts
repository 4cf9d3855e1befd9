import type { BpfMap } from '../../linux/bpf-map.ts';
import type { Btf } from '../../linux/btf.ts';
import { openRingBuffer, type RingBuffer } from '../../linux/ring-buffer.ts';
import type { Lease } from '../../protocol/lease.ts';
import type { SessionState } from '../../protocol/relay-plane.ts';
import { monotonicMs } from '../../telemetry/clock.ts';
import type { WindowState } from '../../tunnel/window.ts';
import type { EngineCounters, LeftBehind } from '../engine-api.ts';
import type {
  FastAnchor,
  FastAnchorSpec,
  FastListener,
  FastPath,
  FastSession,
  FastSessionSpec,
} from '../fast-path.ts';
import { Anchors, anchorLayout } from './anchors.ts';
import { Counts } from './counts.ts';
import { Elements } from './elements.ts';
import { Events } from './events.ts';
import { type AskGrace, Grace } from './grace.ts';
import { IndexMap } from './index-map.ts';
import { LeasePlaces } from './lease-places.ts';
import { type LeaseHolder, Leases } from './leases.ts';
import { stateOf } from './left-behind.ts';
import { type MirrorAnchor, MirrorSession, UnmirroredSession } from './mirror-session.ts';
import { ReceiveKeys } from './receive-keys.ts';
import { ReplayWindows } from './replay-windows.ts';
import { type SessionLayout, sessionLayout } from './session-layout.ts';
import { SessionMeter } from './session-meter.ts';
import { Slots } from './slots.ts';
import { WayWriter } from './ways.ts';

/** A rate as the program has it; see decision/policing.ts. */
export interface ProgramRate {
  readonly nsPerOctetQ16: number;
  readonly burstNs: number;
}

export interface MirrorOptions {
  readonly maps: Readonly<Record<string, BpfMap>>;
  readonly btf: Btf;
  /** Asks for a grace period without waiting for it. */
  readonly askGrace: AskGrace;
  /** Waits for one. */
  readonly waitGrace: () => void;
  /** Of every session; null: unlimited. */
  readonly rates?: { readonly uplink: ProgramRate | null; readonly downlink: ProgramRate | null };
}

/** Events taken at a time: what a flood of them reports is told again. */
const EVENTS_AT_A_TIME = 256;

/** What a former process left is kept this long after its deadline, in case the anchor is claimed again. */
const KEEP_LEFT_NS = 30_000_000_000n;

/**
 * The userspace engine's decisions in the maps of the XDP program. The maps hold nothing that this cannot write anew but
 * the windows, numbers, meters and counters of what the program itself forwarded.
 */
export class XdpMirror implements FastPath {
  /** Readable when the program has something to report: `takeEvents`. */
  readonly events: RingBuffer;
  readonly counts: Counts;
  readonly #grace: Grace;
  readonly #waitGrace: () => void;
  readonly #layout: SessionLayout;
  readonly #sessions: Elements;
  readonly #ways: Elements;
  readonly #meters: Elements;
  readonly #windows: ReplayWindows;
  readonly #index: IndexMap;
  readonly #leases: Leases;
  readonly #anchors: Anchors;
  readonly #slots: Slots;
  readonly #windowSlots: Slots;
  readonly #reader: Events;
  readonly #bySlot = new Map<number, MirrorSession>();
  /** Sessions of a former process that were not claimed since: slot by id. */
  readonly #left = new Map<string, number>();
  readonly #rates: NonNullable<MirrorOptions['rates']>;

  constructor({ maps, btf, askGrace, waitGrace, rates }: MirrorOptions) {
    const map = (name: string): BpfMap => {
      const found = maps[name];
      if (found === undefined) throw new Error(`there is no map ${name}`);
      return found;
    };
    this.#grace = new Grace(askGrace);
    this.#waitGrace = waitGrace;
    this.#rates = rates ?? { uplink: null, downlink: null };
    this.#layout = sessionLayout(btf);
    this.#sessions = new Elements(map('sessions'), btf.struct('session'));
    this.#ways = new Elements(map('ways'), btf.struct('way'));
    this.#meters = new Elements(map('meters'), btf.struct('meter'));
    this.#windows = new ReplayWindows(map('windows'), btf);
    this.#index = new IndexMap(
      map('index'),
      btf,
      indexGeneration(new Elements(map('config'), btf.struct('config'))),
    );
    this.#leases = new Leases(this.#index);
    this.counts = new Counts(map('counters'), btf);
    this.events = openRingBuffer(map('events'));
    this.#reader = new Events(btf, (slot) => this.#bySlot.get(slot));

    const { usedSlots, usedWindows } = this.#findLeft();
    this.#slots = new Slots(this.#sessions.capacity, this.#grace, usedSlots);
    this.#windowSlots = new Slots(this.#windows.capacity, this.#grace, usedWindows);
    const anchorElements = new Elements(map('anchors'), btf.struct('anchor'));
    const anchors = anchorLayout(btf);
    const usedAnchors: number[] = [];
    const anchorSlots = new Slots(anchorElements.capacity, this.#grace, usedAnchorSlots());
    this.#anchors = new Anchors(anchorElements, anchors, anchorSlots, this.#leases.addresses);
    for (const slot of usedAnchors) this.#anchors.left.set(this.#anchors.id(slot), slot);

    function usedAnchorSlots(): number[] {
      for (let slot = 0; slot < anchorElements.capacity; slot += 1) {
        if (anchorElements.octets[anchorElements.base(slot) + anchors.id] !== 0) usedAnchors.push(slot);
      }
      return usedAnchors;
    }
  }

  hostAddresses(addresses: readonly Uint8Array[]): void {
    this.#leases.addresses.setHost(addresses);
  }

  anchor(spec: FastAnchorSpec): FastAnchor {
    return this.#anchors.add(spec, ({ sessions }, resumes) => {
      this.#leases.begin(sessions);
      // Thousands of entries would keep packets waiting: without a key there is nothing to find but what the userspace engine is to see.
      if (!resumes) return;
      for (const session of sessions) if (session instanceof MirrorSession) session.index();
    });
  }

  session(anchor: FastAnchor, spec: FastSessionSpec, listener: FastListener): FastSession {
    const at = anchor as MirrorAnchor;
    const claimed = this.#left.get(spec.id);
    this.#left.delete(spec.id);
    const slot = at.slot === null ? null : (claimed ?? this.#slots.take());
    if (slot === null) {
      const unmirrored = new UnmirroredSession(at, (session) => {
        this.#dropLeases(session);
        at.sessions.delete(session);
      });
      at.sessions.add(unmirrored);
      return unmirrored;
    }
    if (claimed === undefined) this.#clear(slot);
    const session = new MirrorSession({
      slot,
      spec,
      anchor: at,
      listener,
      places: new LeasePlaces(this.#sessions, this.#layout.lease, slot, this.#grace, () =>
        this.#leases.placeFreed(session),
      ),
      keys: this.#receiveKeys(slot, (keyNumber, window) => listener.fastWindow(keyNumber, window)),
      ways: new WayWriter(this.#ways, this.#layout, slot, this.#grace, () =>
        listener.fastReady(monotonicMs()),
      ),
      sessions: this.#sessions,
      layout: this.#layout,
      meter: new SessionMeter(this.#meters, slot),
      index: ({ slot, spec }) => {
        for (const endpoint of at.endpoints) this.#index.put('SESSION', endpoint, spec.index, { slot });
      },
      drop: (gone) => this.#dropSession(gone),
    });
    if (claimed !== undefined) {
      session.settled = false;
      session.ways.takeOver(this.#deviceBootOf(slot));
    }
    this.#write(session);
    this.#bySlot.set(slot, session);
    at.sessions.add(session);
    if (at.isBegun) session.index();
    return session;
  }

  lease(lease: Lease, session: FastSession, untilMs: number): void {
    this.#leases.put(lease, session as MirrorSession | UnmirroredSession, untilMs);
  }

  dropLease(id: string): void {
    this.#leases.drop(id);
  }

  settle(): void {
    this.#waitGrace();
  }

  leftBehind(): readonly LeftBehind[] {
    const byAnchor = new Map<string, SessionState[]>();
    for (const slot of this.#left.values()) {
      const state = stateOf(slot, this.#layout, this.#sessions, this.#ways, this.#windows);
      if (state === null) continue;
      const anchor = this.#anchors.id(this.#anchorOf(slot));
      byAnchor.set(anchor, [...(byAnchor.get(anchor) ?? []), state]);
    }
    return [...byAnchor].map(([anchor, sessions]) => ({ anchor, sessions }));
  }

  dropUnclaimed(anchor: string): void {
    this.#endLeft((slot) => this.#anchors.id(this.#anchorOf(slot)) === anchor);
    for (const session of this.#bySlot.values()) {
      if (session.anchor.id !== anchor) continue;
      session.places.dropLeft();
      if (session.settled) continue;
      // Of a session that goes on, the device may have had the newest key of the process before.
      session.keys.dropLeft();
      session.way(null);
    }
    this.#endLeftAnchors();
  }

  counters(): EngineCounters {
    return this.counts.read();
  }

  /** Ends what a former process left on anchors that this one never installed, once their time is over. */
  sweep(nowNs: bigint): void {
    for (const slot of this.#anchors.left.values()) {
      if (nowNs < this.#anchors.deadlineNs(slot) + KEEP_LEFT_NS) continue;
      this.#endLeft((session) => this.#anchorOf(session) === slot);
    }
    if (this.#anchors.left.size > 0) this.#endLeftAnchors();
  }

  /** Tells each session what the program has to report of it. */
  takeEvents(nowMs: number): void {
    this.events.drain((record) => this.#reader.take(record, nowMs), EVENTS_AT_A_TIME);
  }

  /** Anchors that nobody claimed end with their deadlines, and when nothing is left, neither is any entry of it. */
  #endLeftAnchors(): void {
    for (const [id, slot] of [...this.#anchors.left]) {
      const isAlone = ![...this.#left.values()].some((session) => this.#anchorOf(session) === slot);
      if (!isAlone) continue;
      this.#anchors.left.delete(id);
      this.#anchors.end(slot);
    }
    if (this.#left.size === 0 && this.#anchors.left.size === 0) this.#index.dropLeft();
  }

  #endLeft(isOver: (slot: number) => boolean): void {
    const ending = [...this.#left].filter(([, slot]) => isOver(slot));
    if (ending.length === 0) return;
    this.#index.dropLeft(new Set(ending.map(([, slot]) => slot)));
    for (const [id, slot] of ending) {
      this.#left.delete(id);
      const keys = this.#receiveKeys(slot, () => undefined);
      new WayWriter(this.#ways, this.#layout, slot, this.#grace, () => undefined).set(null);
      keys.clear();
      this.#empty(slot);
    }
  }

  #receiveKeys(slot: number, tell: (keyNumber: number, window: WindowState) => void): ReceiveKeys {
    return new ReceiveKeys(this.#sessions, this.#layout, slot, this.#windows, this.#windowSlots, tell);
  }

  #dropSession(session: MirrorSession): void {
    const { slot, anchor, spec } = session;
    anchor.sessions.delete(session);
    for (const endpoint of session.isIndexed ? anchor.endpoints : []) {
      this.#index.remove('SESSION', endpoint, spec.index, slot);
    }
    this.#dropLeases(session);
    session.ways.set(null);
    session.keys.clear();
    this.#empty(slot);
  }

  #dropLeases(session: LeaseHolder): void {
    for (const lease of [...session.leases]) this.#leases.drop(lease.id);
  }

  /** Nothing finds the slot any more; it is used again when no packet can be under way to it. */
  #empty(slot: number): void {
    const { session, state } = this.#layout;
    this.#sessions.storeU32(this.#sessions.base(slot) + session.state, state.empty);
    this.#bySlot.delete(slot);
    this.#slots.giveBack(slot);
  }

  #clear(slot: number): void {
    this.#sessions.clear(slot);
    this.#meters.clear(slot);
    // `gen` goes on: a reader must not take two different ways for one.
    const { state, holdUntilNs, paths } = this.#layout.way;
    const at = this.#ways.base(slot);
    this.#ways.storeU32(at + state, this.#layout.wayState.none);
    this.#ways.setU64(at + holdUntilNs, 0n);
    for (const path of paths) this.#ways.octets.fill(0, at + path, at + path + this.#layout.path.size);
  }

  #write({ slot, spec, anchor }: MirrorSession): void {
    const { session, state } = this.#layout;
    const at = this.#sessions.base(slot);
    this.#sessions.set(at + session.id, Buffer.from(spec.id, 'hex'));
    this.#sessions.setU32(at + session.index, spec.index);
    this.#sessions.setU32(at + session.anchor, anchor.slot ?? 0);
    this.#sessions.set(at + session.controlKey, spec.controlTagKey);
    this.#writeRates(slot);
    this.#sessions.storeU32(at + session.state, state.live);
  }

  #writeRates(slot: number): void {
    for (const direction of ['uplink', 'downlink'] as const) {
      const rate = this.#rates[direction];
      const at = this.#meters.base(slot);
      const offset = (member: string) => at + this.#meters.offset(`${direction}.${member}`);
      this.#meters.setU64(offset('burst_ns'), BigInt(rate?.burstNs ?? 0));
      this.#meters.storeU64(offset('ns_per_octet_q16'), BigInt(rate?.nsPerOctetQ16 ?? 0));
    }
  }

  #deviceBootOf(slot: number): bigint {
    return this.#sessions.u64(this.#sessions.base(slot) + this.#layout.session.deviceBoot);
  }

  #anchorOf(slot: number): number {
    return this.#sessions.u32(this.#sessions.base(slot) + this.#layout.session.anchor);
  }

  #findLeft(): { usedSlots: number[]; usedWindows: number[] } {
    const { session, receive, state } = this.#layout;
    const usedSlots: number[] = [];
    const usedWindows: number[] = [];
    for (let slot = 0; slot < this.#sessions.capacity; slot += 1) {
      const at = this.#sessions.base(slot);
      if (this.#sessions.u32(at + session.state) !== state.live) continue;
      usedSlots.push(slot);
      this.#left.set(Buffer.from(this.#sessions.get(at + session.id, 16)).toString('hex'), slot);
      for (const place of receive.places) {
        const receiveAt = at + place;
        if (this.#sessions.u64(receiveAt + receive.untilNs) !== 0n) {
          usedWindows.push(this.#sessions.u32(receiveAt + receive.window));
        }
      }
    }
    return { usedSlots, usedWindows };
  }
}

/** Raises the number under which the program takes what it looked up for true; an older program has none. */
function indexGeneration(config: Elements): () => void {
  const at = config.struct.find('index_generation')?.offset;
  if (at === undefined) return () => {};
  return () => config.storeU32(at, (config.u32(at) + 1) >>> 0 || 1);
}
