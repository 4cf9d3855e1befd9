import { expect } from 'vitest';
import type { EngineCounters, LeftBehind } from '../../../src/datapath/engine-api.ts';
import type {
  FastAnchor,
  FastAnchorSpec,
  FastKey,
  FastListener,
  FastPath,
  FastSession,
  FastSessionFacts,
  FastSessionSpec,
  FastWay,
} from '../../../src/datapath/fast-path.ts';
import type { SocketAddress } from '../../../src/protocol/address.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { peekIndex, peekType } from '../../../src/tunnel/control.ts';
import { openData, sealData, sequenceOf } from '../../../src/tunnel/data.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { ReplayWindow, type WindowState } from '../../../src/tunnel/window.ts';
import { DATA, TYPE } from '../../../src/tunnel/wire.ts';
import type { Sent } from './engine-rig.ts';

/** Every (key, lane, sequence) that was ever used in a test: none may come twice, whoever uses it. */
export class UsedNumbers {
  readonly #used = new Set<string>();

  use(key: FastKey, lane: number, sequence: number): void {
    const name = `${Buffer.from(key.octets).toString('hex')} ${lane} ${sequence}`;
    expect(this.#used.has(name), `${name} is used twice`).toBe(false);
    this.#used.add(name);
  }
}

interface ModelLease {
  readonly lease: Lease;
  session: ModelSession;
  untilMs: number;
}

/**
 * A fast engine in memory that really forwards: UDP to leased ports, and DATA from devices. What it is told wrongly, or
 * too late, shows as a packet lost, doubled, out of order, or under a number used twice.
 */
export class FastModel implements FastPath {
  readonly anchors = new Map<string, ModelAnchor>();
  readonly sessions = new Set<ModelSession>();
  readonly leases = new Map<string, ModelLease>();
  host: readonly Uint8Array[] = [];
  settled = 0;
  readonly #sent: (sent: Sent) => void;
  readonly #numbers: UsedNumbers;

  constructor(sent: (sent: Sent) => void, numbers = new UsedNumbers()) {
    this.#sent = sent;
    this.#numbers = numbers;
  }

  hostAddresses(addresses: readonly Uint8Array[]): void {
    this.host = addresses;
  }

  anchor(spec: FastAnchorSpec): FastAnchor {
    expect(this.anchors.has(spec.id), `anchor ${spec.id} is there`).toBe(false);
    const anchor = new ModelAnchor(spec, () => {
      for (const session of this.sessions) expect(session.anchor).not.toBe(anchor);
      this.anchors.delete(spec.id);
    });
    this.anchors.set(spec.id, anchor);
    return anchor;
  }

  session(anchor: FastAnchor, spec: FastSessionSpec, listener: FastListener): FastSession {
    for (const other of this.sessions) {
      const same = other.anchor === anchor && other.spec.index === spec.index;
      expect(same, `index ${spec.index} is another session's`).toBe(false);
    }
    const session = new ModelSession(anchor as ModelAnchor, spec, listener, () => {
      this.sessions.delete(session);
      for (const [id, { session: holder }] of this.leases) if (holder === session) this.leases.delete(id);
    });
    this.sessions.add(session);
    return session;
  }

  lease(lease: Lease, session: FastSession, untilMs: number): void {
    expect(this.sessions.has(session as ModelSession), 'the session of a lease is there').toBe(true);
    this.leases.set(lease.id, { lease, session: session as ModelSession, untilMs });
  }

  dropLease(id: string): void {
    this.leases.delete(id);
  }

  settle(): void {
    this.settled += 1;
  }

  leftBehind(): readonly LeftBehind[] {
    return [];
  }

  dropUnclaimed(): void {}

  counters(): EngineCounters {
    return { downlink: {}, uplink: {}, control: {} };
  }

  /** A UDP packet over IPv4 from the public side: true when it left, or was dropped, here. */
  downlink(inner: Uint8Array, nowMs: number): boolean {
    const address = inner.subarray(16, 20).join('.');
    const port = (inner[22]! << 8) | inner[23]!;
    for (const { lease, session, untilMs } of this.leases.values()) {
      const { ports } = lease;
      if (session.anchor.epoch === null || lease.address !== address) continue;
      if (ports !== null && (port < ports.first || port >= ports.first + ports.count)) continue;
      if (nowMs >= untilMs || nowMs >= session.anchor.untilMs) return true;
      const { current } = session;
      if (current === null || (current.heldUntilMs !== null && nowMs < current.heldUntilMs)) return false;
      const { keyNumber } = current.key.name;
      const sequence = session.sequences.get(keyNumber)!.next;
      session.sequences.get(keyNumber)!.next += 1;
      this.#numbers.use(current.key, 1, sequence);
      const octets = new Uint8Array(DATA.inner + inner.length);
      octets.set(inner, DATA.inner);
      const header = { index: session.spec.index, keyNumber, lane: 1, sequence } as const;
      sealData(sipKey(current.key.octets), header, octets, 0, inner.length);
      this.#sent({ endpoint: current.endpoint, to: current.path, octets, octet: 0 });
      return true;
    }
    return false;
  }

  /** A datagram to a tunnel endpoint: the inner packet that goes on, null when it is the userspace engine's. */
  uplink(endpoint: string, from: SocketAddress, octets: Uint8Array, nowMs: number): Uint8Array | null {
    const type = peekType(octets, 0, octets.length);
    if (type !== TYPE.data && type !== TYPE.dataFull) return null;
    const index = peekIndex(octets, 0, octets.length);
    for (const session of this.sessions) {
      if (session.anchor.epoch === null || session.spec.index !== index) continue;
      if (!session.anchor.spec.endpoints.includes(endpoint)) continue;
      if (nowMs >= session.anchor.untilMs) return new Uint8Array(0);
      const phase = (octets[0]! & DATA.phaseMask) >> DATA.phaseShift;
      const receiving = session.keys.find(
        ({ key, untilMs }) => (key.name.keyNumber & 3) === phase && nowMs < untilMs,
      );
      if (receiving === undefined) return null;
      const { window } = receiving;
      const sequence = sequenceOf(octets, 0);
      if (!window.admits(sequence)) return new Uint8Array(0);
      const at = openData(sipKey(receiving.key.octets), octets, 0, octets.length);
      if (at < 0) return new Uint8Array(0);
      const fresh = receiving === session.keys[0] && sequence > window.highest;
      window.commit(sequence);
      const { keyNumber } = receiving.key.name;
      const isOther =
        session.current?.path.key !== from.key || session.current.key.name.keyNumber !== keyNumber;
      if (fresh && isOther) session.listener.fastData(from, keyNumber, octets.length, nowMs);
      return octets.slice(at);
    }
    return null;
  }
}

class ModelAnchor implements FastAnchor {
  readonly spec: FastAnchorSpec;
  /** Null before it begins: packets to its addresses are not looked at. */
  epoch: bigint | null = null;
  untilMs = Number.NEGATIVE_INFINITY;
  readonly drop: () => void;

  constructor(spec: FastAnchorSpec, drop: () => void) {
    this.spec = spec;
    this.drop = drop;
  }

  begin(epoch: bigint, untilMs: number): void {
    this.epoch = epoch;
    this.untilMs = untilMs;
  }

  deadline(untilMs: number): void {
    this.untilMs = untilMs;
  }
}

interface ModelKey {
  readonly key: FastKey;
  untilMs: number;
  readonly window: ReplayWindow;
}

const KEYS = 2;

class ModelSession implements FastSession {
  readonly forwards = false;
  readonly anchor: ModelAnchor;
  readonly spec: FastSessionSpec;
  readonly listener: FastListener;
  readonly drop: () => void;
  current: FastWay | null = null;
  known: FastSessionFacts | null = null;
  reserved = 0;
  /** Newest first. */
  keys: ModelKey[] = [];
  readonly sequences = new Map<number, { next: number }>();

  constructor(anchor: ModelAnchor, spec: FastSessionSpec, listener: FastListener, drop: () => void) {
    this.anchor = anchor;
    this.spec = spec;
    this.listener = listener;
    this.drop = drop;
  }

  receive(key: FastKey, previousUntilMs: number, window: WindowState | null): void {
    if (this.keys[0] !== undefined && same(this.keys[0].key, key)) return;
    if (this.keys[0] !== undefined) this.keys[0].untilMs = previousUntilMs;
    const opened = window === null ? new ReplayWindow() : ReplayWindow.import(window);
    this.keys = [{ key, untilMs: Number.POSITIVE_INFINITY, window: opened }, ...this.keys];
    const gone = this.keys[KEYS];
    if (gone === undefined) return;
    this.keys.length = KEYS;
    this.#give(gone);
  }

  stopReceiving(): void {
    for (const key of this.keys.splice(0)) this.#give(key);
  }

  #give({ key, window }: ModelKey): void {
    this.listener.fastWindow(key.name.keyNumber, window.export());
  }

  way(way: FastWay | null): void {
    this.current = way;
    if (way === null) return;
    expect(this.anchor.spec.endpoints).toContain(way.endpoint);
    const { keyNumber } = way.key.name;
    if (!this.sequences.has(keyNumber)) this.sequences.set(keyNumber, { next: way.nextSequence });
  }

  facts(facts: FastSessionFacts): void {
    this.known = facts;
  }

  reserve(sequence: number): void {
    this.reserved = sequence;
  }

  window(keyNumber: number): WindowState | null {
    const living = this.keys.find(({ key }) => key.name.keyNumber === keyNumber);
    return living?.window.export() ?? null;
  }

  nextSequence(keyNumber: number): number | null {
    return this.sequences.get(keyNumber)?.next ?? null;
  }

  charge(): null {
    return null;
  }
}

function same(one: FastKey, other: FastKey): boolean {
  return Buffer.compare(one.octets, other.octets) === 0;
}
