import { parseAddress } from '../../protocol/address.ts';
import { MooringError } from '../../protocol/errors.ts';
import type { Lease, PathHint } from '../../protocol/lease.ts';
import { type LeaseEntry, LeaseTables } from '../decision/tables.ts';
import type { EngineAnchor, EngineEvent, EngineSession } from '../engine-api.ts';
import type { FastFlow } from '../fast-path.ts';
import { type Anchor, begin, freeze, newAnchor, setDeadline, thaw } from './anchor.ts';
import { RelaySession, type SessionHost } from './session.ts';

/** Expired leases are looked for at most this often: packets are checked one by one anyway. */
const EXPIRY_SWEEP_MS = 250;

/**
 * Of an anchor that was taken over, so many silent sessions begin at a time, after a while in which those that have something to
 * say are alone: each of their devices answers, and must not keep others waiting. A turn that comes late says that there is much
 * else to do: the next one is put off by several times as much.
 */
const BEGINNING = { afterMs: 300, sessions: 10, everyMs: 10, putOff: 4 } as const;
/** How soon the sessions of an anchor past its deadline are looked at again: the deadline may be moved. */
const SUSPENDED_MS = 250;

/** What the engine forwards or stands by for: anchors by endpoint, sessions by index, leases by address. */
export class Installation {
  readonly tables = new LeaseTables<RelaySession>();
  readonly #host: SessionHost;
  readonly #event: (event: EngineEvent) => void;
  readonly #anchors = new Map<string, Anchor>();
  readonly #byEndpoint = new Map<string, Anchor>();
  /** Anchors that were taken over, with sessions that have not begun. */
  readonly #beginning = new Set<Anchor>();
  #beginMs = Number.POSITIVE_INFINITY;
  /** Sessions that stood by and have begun, by anchor, as far as nobody was told. */
  readonly #begun = new Map<string, string[]>();
  /** Expired leases that the relay node has been told of. */
  readonly #reported = new WeakSet<LeaseEntry<RelaySession>>();
  #sweepMs = Number.POSITIVE_INFINITY;

  constructor(host: SessionHost, event: (event: EngineEvent) => void) {
    this.#host = host;
    this.#event = event;
  }

  /** The anchor whose tunnel endpoint is `address` (canonical text). */
  atEndpoint(address: string): Anchor | undefined {
    return this.#byEndpoint.get(address);
  }

  /** Stands by for an anchor from now on; one that is known stays as it is. */
  follow(id: string, endpoints: readonly string[]): void {
    if (this.#anchors.has(id)) return;
    const anchor = newAnchor({ id, endpoints }, this.#host.fast);
    // A former process may have owned it, and have left it open.
    freeze(anchor);
    this.#anchors.set(id, anchor);
  }

  unfollow(id: string): void {
    const anchor = this.#anchors.get(id);
    if (anchor?.epoch === 0n) this.#drop(anchor);
  }

  /** Begins a few of the sessions that stood by. */
  beginSome(nowMs: number): void {
    if (nowMs < this.#beginMs) return;
    const lateMs = nowMs - this.#beginMs;
    let left: number = BEGINNING.sessions;
    for (const anchor of this.#beginning) {
      if (nowMs >= anchor.untilMs) continue;
      for (const session of anchor.waiting) {
        if (left === 0) break;
        left -= 1;
        this.wake(session, nowMs);
      }
      if (anchor.waiting.size === 0) this.#beginning.delete(anchor);
    }
    const isSuspended = left === BEGINNING.sessions;
    if (this.#beginning.size === 0) this.#beginMs = Number.POSITIVE_INFINITY;
    else if (isSuspended) this.#beginMs = nowMs + SUSPENDED_MS;
    else this.#beginMs = nowMs + BEGINNING.everyMs + BEGINNING.putOff * lateMs;
  }

  /** Somebody speaks to the session, or its turn has come: if it stood by, it begins. */
  wake(session: RelaySession, nowMs: number): void {
    const { anchor } = session;
    if (!anchor.waiting.delete(session)) return;
    const begun = this.#begun.get(anchor.id) ?? [];
    this.#begun.set(anchor.id, begun);
    begun.push(session.id);
    session.tick(nowMs);
  }

  /** Tells who has begun since the last time. */
  tellBegun(): void {
    for (const [anchor, sessions] of this.#begun) this.#event({ type: 'begun', anchor, sessions });
    this.#begun.clear();
  }

  /** Where sessions were last proven; those that are gone, or of an anchor that is, do not need it any more. */
  putHints(anchorId: string, hints: readonly PathHint[], nowMs: number): void {
    const anchor = this.#anchors.get(anchorId);
    for (const hint of hints) anchor?.byId.get(hint.session)?.putHint(hint, nowMs);
  }

  /** Throws ERR_MOORING_UNKNOWN_ANCHOR. */
  expectAnchor(id: string): Anchor {
    const anchor = this.#known(id);
    if (anchor.epoch > 0n) return anchor;
    throw unknownAnchor(id);
  }

  /** An anchor to forward for, or to stand by for. Throws ERR_MOORING_UNKNOWN_ANCHOR. */
  #known(id: string): Anchor {
    const anchor = this.#anchors.get(id);
    if (anchor !== undefined) return anchor;
    throw unknownAnchor(id);
  }

  /**
   * Installs an anchor, begins one that was stood by for, or moves its deadline. Another epoch or endpoint is another anchor: what
   * was on it is forgotten.
   */
  putAnchor(wanted: EngineAnchor, nowMs: number): void {
    const known = this.#anchors.get(wanted.id);
    const endpoints = wanted.endpoints.map((text) => ({
      text,
      octets: parseAddress(text, 'anchor.endpoints'),
    }));
    for (const { text, octets } of endpoints) {
      const rival = this.#byEndpoint.get(text);
      if (rival !== undefined && rival !== known) throw endpointTaken(text, `anchor ${rival.id} has it`);
      if (this.tables.at(octets, 0, octets.length === 4 ? 4 : 16) !== undefined) {
        throw endpointTaken(text, 'it is leased, and an endpoint is never leased');
      }
    }
    const isSame = known !== undefined && sameTexts(known.endpoints, wanted.endpoints);
    if (isSame && known.epoch === wanted.epoch) {
      setDeadline(known, wanted.untilMs);
      if (wanted.resumes !== true) thaw(known);
      return;
    }
    if (known !== undefined && !(isSame && known.epoch === 0n)) this.#drop(known);
    const anchor = this.#anchors.get(wanted.id) ?? newAnchor(wanted, this.#host.fast);
    this.#anchors.set(anchor.id, anchor);
    begin(anchor, wanted);
    for (const { text, octets } of endpoints) {
      this.#byEndpoint.set(text, anchor);
      this.tables.addEndpoint(octets);
    }
    if (anchor.waiting.size === 0) return;
    this.#beginning.add(anchor);
    this.#beginMs = nowMs + BEGINNING.afterMs;
    this.#sweepMs = nowMs;
  }

  /** Forgets an anchor that is forwarded for, and everything on it. */
  dropAnchor(id: string): void {
    const anchor = this.#anchors.get(id);
    if (anchor !== undefined && anchor.epoch > 0n) this.#drop(anchor);
  }

  #drop(anchor: Anchor): void {
    for (const session of [...anchor.byId.values()]) this.dropSession(session);
    if (anchor.epoch > 0n) {
      for (const endpoint of anchor.endpoints) {
        this.#byEndpoint.delete(endpoint);
        this.tables.removeEndpoint(parseAddress(endpoint));
      }
    }
    anchor.fast?.drop();
    this.#beginning.delete(anchor);
    this.#anchors.delete(anchor.id);
  }

  /** Installs a session; one that is there goes on untouched. Throws ERR_MOORING_UNKNOWN_ANCHOR. */
  putSession(anchorId: string, wanted: EngineSession, nowMs: number): void {
    const anchor = this.#known(anchorId);
    const { byId, byIndex } = anchor;
    const { id, index } = wanted;
    if (byId.get(id)?.index === index) return;
    // The registry has given the index to a newer session: the old one carries nothing any more.
    for (const old of [byId.get(id), byIndex.get(index)]) if (old !== undefined) this.dropSession(old);
    const session = new RelaySession(this.#host, anchor, wanted);
    byId.set(id, session);
    byIndex.set(index, session);
    if (this.#host.fast !== null) session.mirror(this.#host.fast);
    if (anchor.epoch === 0n) anchor.waiting.add(session);
    // The first tick comes with the next turn of the loop: an import in between replaces the state machine.
    else this.#host.due.schedule(session, nowMs);
  }

  /** Ends the session of that id, if there is one. */
  endSession(anchorId: string, id: string): void {
    const session = this.#anchors.get(anchorId)?.byId.get(id);
    if (session !== undefined) this.dropSession(session);
  }

  /** Ends a session and its leases here. */
  dropSession(session: RelaySession): void {
    const { byId, byIndex, waiting } = session.anchor;
    for (const id of session.leases) this.dropLease(id);
    session.retire();
    byId.delete(session.id);
    byIndex.delete(session.index);
    waiting.delete(session);
  }

  /**
   * Installs a lease, moves its deadline, or gives it to another session of the anchor or another port block. Throws when it cannot; of an anchor that is
   * stood by for, a lease whose resources are another's is told as an event instead, and the others stand by.
   */
  putLease(anchorId: string, lease: Lease, untilMs: number, nowMs: number): void {
    const anchor = this.#known(anchorId);
    const session = anchor.byId.get(lease.session);
    if (session === undefined) throw sessionMissing(lease);
    try {
      this.#putLease(session, lease, untilMs, nowMs);
    } catch (error) {
      if (anchor.epoch > 0n || !(error instanceof MooringError)) throw error;
      this.#event({ type: 'lease-refused', anchor: anchorId, lease: lease.id, reason: error.message });
    }
  }

  #putLease(session: RelaySession, lease: Lease, untilMs: number, nowMs: number): void {
    const before = this.tables.lease(lease.id)?.session;
    const entry = this.tables.put(lease, session, untilMs, nowMs);
    before?.leases.delete(lease.id);
    session.leases.add(lease.id);
    this.#reported.delete(entry);
    this.#sweepMs = Math.min(this.#sweepMs, Math.max(untilMs, nowMs));
    if (session.fast !== null) this.#host.fast?.lease(lease, session.fast, untilMs);
  }

  dropLease(id: string): void {
    this.tables.lease(id)?.session.leases.delete(id);
    this.tables.remove(id);
    this.#host.fast?.dropLease(id);
  }

  /** A packet of `session` that the engine in front let pass teaches what a reply without a leased number will need. */
  learn(session: RelaySession, flow: FastFlow, nowMs: number): void {
    const { address, peer, protocol, spi } = flow;
    const at = this.tables.at(address, 0, address.length === 4 ? 4 : 16);
    for (const lease of at?.bySession.get(session) ?? []) {
      // A lease for one remote is the slow path's own.
      if (nowMs >= lease.untilMs || lease.kind !== 'rsipsec' || lease.remote !== null) continue;
      at?.peerSpis.teach(spi, protocol, peer, 0, peer.length, lease, nowMs);
      return;
    }
  }

  /** When `beginSome`, `tellBegun` or `sweep` may have something to do. */
  get nextDueMs(): number {
    if (this.#begun.size > 0) return Number.NEGATIVE_INFINITY;
    return Math.min(this.#beginMs, this.#sweepMs);
  }

  /** Reports each lease that is over, once: its owner is to end it. It stays until then, and forwards nothing. */
  sweep(nowMs: number): void {
    if (nowMs < this.#sweepMs) return;
    let next = Number.POSITIVE_INFINITY;
    for (const lease of this.tables.leases()) {
      if (lease.session.anchor.epoch === 0n) continue;
      if (nowMs < lease.untilMs) next = Math.min(next, lease.untilMs);
      else if (!this.#reported.has(lease)) {
        this.#reported.add(lease);
        this.#event({ type: 'lease-expired', anchor: lease.session.anchor.id, lease: lease.id });
      }
    }
    this.#sweepMs = Math.max(next, nowMs + EXPIRY_SWEEP_MS);
  }
}

function unknownAnchor(id: string): MooringError {
  return new MooringError('ERR_MOORING_UNKNOWN_ANCHOR', `anchor ${id} is not installed; install it first`, {
    data: { anchor: id },
  });
}

function sessionMissing(lease: Lease): MooringError {
  return new MooringError(
    'ERR_MOORING_UNKNOWN_SESSION',
    `lease ${lease.id}: session ${lease.session} is not installed on anchor ${lease.anchor}; install it first`,
    { data: { lease: lease.id, session: lease.session } },
  );
}

function sameTexts(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text, i) => text === other[i]);
}

function endpointTaken(endpoint: string, why: string): MooringError {
  return new MooringError(
    'ERR_MOORING_ENDPOINT_TAKEN',
    `tunnel endpoint ${endpoint}: ${why}; choose another address`,
    { data: { endpoint } },
  );
}
