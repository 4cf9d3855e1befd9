import { parseAddress } from '../../protocol/address.ts';
import { MooringError } from '../../protocol/errors.ts';
import type { Lease } from '../../protocol/lease.ts';
import { deriveControlKeys } from '../../tunnel/control.ts';
import { type LeaseEntry, LeaseTables } from '../decision/tables.ts';
import type { EngineAnchor, EngineEvent, EngineSession } from '../engine-api.ts';
import type { FastFlow } from '../fast-path.ts';
import { type Anchor, newAnchor, setDeadline, thaw } from './anchor.ts';
import { FollowedAnchor, type FollowedSession } from './followed-anchor.ts';
import { RelaySession, type SessionHost } from './session.ts';

/** Expired leases are looked for at most this often: packets are checked one by one anyway. */
const EXPIRY_SWEEP_MS = 250;

/** Sessions that were followed and are installed in one round: packets come in between. */
const SESSIONS_TAKEN_A_TICK = 64;

/** What the engine forwards for: anchors by endpoint, sessions by index, leases by address. */
export class Installation {
  readonly tables = new LeaseTables<RelaySession>();
  readonly #host: SessionHost;
  readonly #event: (event: EngineEvent) => void;
  readonly #anchors = new Map<string, Anchor>();
  readonly #byEndpoint = new Map<string, Anchor>();
  /** Anchors of which something is still to be installed. */
  readonly #taking = new Set<Anchor>();
  readonly #followed = new Map<string, FollowedAnchor>();
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

  anchor(id: string): Anchor | undefined {
    return this.#anchors.get(id);
  }

  /** An anchor that another relay owns. */
  followed(id: string): FollowedAnchor | undefined {
    return this.#followed.get(id);
  }

  /** Follows an anchor from now on; one that is followed or installed stays as it is. */
  follow(id: string): void {
    if (this.#followed.has(id) || this.#anchors.has(id)) return;
    this.#followed.set(
      id,
      new FollowedAnchor((root) => deriveControlKeys(root, 'to-device', this.#host.relayBoot)),
    );
  }

  unfollow(id: string): void {
    this.#followed.delete(id);
  }

  /** Something that was followed is not installed yet. */
  get isTaking(): boolean {
    return this.#taking.size > 0;
  }

  /** Installs a few of the sessions that were followed, and their leases. */
  takeSome(nowMs: number): void {
    for (const anchor of this.#taking) this.#take(anchor, SESSIONS_TAKEN_A_TICK, nowMs);
  }

  #take(anchor: Anchor, limit: number, nowMs: number): void {
    const { toInstall } = anchor;
    if (toInstall === null) return;
    let taken = 0;
    for (const session of toInstall.sessions.values()) {
      if (taken >= limit) return;
      taken += 1;
      this.#takeSession(anchor, toInstall, session, nowMs);
    }
    anchor.toInstall = null;
    this.#taking.delete(anchor);
    this.#host.fast?.dropUnclaimed(anchor.id);
  }

  /** The session whose device speaks under `index`; installed now if it was followed. */
  sessionAt(anchor: Anchor, index: number, nowMs: number): RelaySession | undefined {
    const session = anchor.byIndex.get(index);
    if (session !== undefined || anchor.toInstall === null) return session;
    const followed = anchor.toInstall.byIndex.get(index);
    if (followed === undefined) return undefined;
    this.#takeSession(anchor, anchor.toInstall, followed, nowMs);
    return anchor.byIndex.get(index);
  }

  #takeSession(anchor: Anchor, from: FollowedAnchor, followed: FollowedSession, nowMs: number): void {
    from.dropSession(followed.session.id);
    this.#put(anchor, followed, nowMs);
    for (const { lease, untilMs } of followed.leases.values()) {
      try {
        this.#putLease(anchor, lease, untilMs, nowMs);
      } catch (error) {
        // No command to refuse: whoever has the anchor installed is told instead.
        if (!(error instanceof MooringError)) throw error;
        this.#event({ type: 'lease-refused', anchor: anchor.id, lease: lease.id, reason: error.message });
      }
    }
  }

  /** Throws ERR_MOORING_UNKNOWN_ANCHOR. */
  expectAnchor(id: string): Anchor {
    const anchor = this.#anchors.get(id);
    if (anchor !== undefined) return anchor;
    throw new MooringError('ERR_MOORING_UNKNOWN_ANCHOR', `anchor ${id} is not installed; install it first`, {
      data: { anchor: id },
    });
  }

  /** Installs an anchor or moves its deadline. Another epoch or endpoint is another anchor: what was on it is forgotten. */
  putAnchor(wanted: EngineAnchor): void {
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
    if (known !== undefined) {
      if (known.epoch === wanted.epoch && sameTexts(known.endpoints, wanted.endpoints)) {
        setDeadline(known, wanted.untilMs);
        if (wanted.resumes !== true) thaw(known);
        return;
      }
      this.dropAnchor(known.id);
    }
    const anchor = newAnchor(wanted, this.#host.fast);
    this.#anchors.set(anchor.id, anchor);
    anchor.toInstall = this.#followed.get(anchor.id) ?? null;
    anchor.toInstall?.putHints(wanted.hints ?? []);
    if (anchor.toInstall !== null) this.#taking.add(anchor);
    this.#followed.delete(anchor.id);
    for (const { text, octets } of endpoints) {
      this.#byEndpoint.set(text, anchor);
      this.tables.addEndpoint(octets);
    }
  }

  dropAnchor(id: string): void {
    const anchor = this.#anchors.get(id);
    if (anchor === undefined) return;
    for (const session of [...anchor.byId.values()]) this.dropSession(session);
    for (const endpoint of anchor.endpoints) {
      this.#byEndpoint.delete(endpoint);
      this.tables.removeEndpoint(parseAddress(endpoint));
    }
    anchor.fast?.drop();
    this.#taking.delete(anchor);
    this.#anchors.delete(id);
  }

  /** Installs a session; one that is there goes on untouched. Throws ERR_MOORING_UNKNOWN_ANCHOR. */
  putSession(anchorId: string, wanted: EngineSession, nowMs: number): void {
    const followed = this.#followed.get(anchorId);
    if (followed === undefined) this.#put(this.wholeAnchor(anchorId, nowMs), { session: wanted }, nowMs);
    else followed.putSession(wanted);
  }

  #put(
    anchor: Anchor,
    { session: wanted, keys }: Pick<FollowedSession, 'session'> & Partial<FollowedSession>,
    nowMs: number,
  ): void {
    const { byId, byIndex } = anchor;
    const { id, index } = wanted;
    if (byId.get(id)?.index === index) return;
    const session = new RelaySession(this.#host, anchor, wanted, nowMs, keys);
    // The registry has given the index to a newer session: the old one carries nothing any more.
    for (const old of [byId.get(id), byIndex.get(index)]) if (old !== undefined) this.dropSession(old);
    byId.set(id, session);
    byIndex.set(index, session);
    if (this.#host.fast !== null) session.mirror(this.#host.fast);
  }

  /** The anchor with everything installed that was followed before. Throws ERR_MOORING_UNKNOWN_ANCHOR. */
  wholeAnchor(id: string, nowMs: number): Anchor {
    const anchor = this.expectAnchor(id);
    this.#take(anchor, Number.POSITIVE_INFINITY, nowMs);
    return anchor;
  }

  /** Ends the session of that id, followed or installed, if there is one. */
  endSession(anchorId: string, id: string, nowMs: number): void {
    const followed = this.#followed.get(anchorId);
    followed?.dropSession(id);
    if (followed !== undefined || !this.#anchors.has(anchorId)) return;
    const session = this.wholeAnchor(anchorId, nowMs).byId.get(id);
    if (session !== undefined) this.dropSession(session);
  }

  endLease(anchorId: string, id: string, nowMs: number): void {
    const followed = this.#followed.get(anchorId);
    followed?.dropLease(id);
    if (followed !== undefined) return;
    if (this.#anchors.has(anchorId)) this.wholeAnchor(anchorId, nowMs);
    this.dropLease(id);
  }

  /** Ends a session and its leases here. */
  dropSession(session: RelaySession): void {
    const { byId, byIndex } = session.anchor;
    for (const id of session.leases) this.dropLease(id);
    session.retire();
    byId.delete(session.id);
    byIndex.delete(session.index);
  }

  /** Installs a lease, moves its deadline, or gives it to another session of the anchor. */
  putLease(anchorId: string, lease: Lease, untilMs: number, nowMs: number): void {
    const followed = this.#followed.get(anchorId);
    if (followed === undefined) this.#putLease(this.wholeAnchor(anchorId, nowMs), lease, untilMs, nowMs);
    else if (!followed.putLease(lease, untilMs)) throw sessionMissing(lease);
  }

  #putLease(anchor: Anchor, lease: Lease, untilMs: number, nowMs: number): void {
    const session = anchor.byId.get(lease.session);
    if (session === undefined) throw sessionMissing(lease);
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

  /** When `sweep` may have something to report. */
  get sweepMs(): number {
    return this.#sweepMs;
  }

  /** Reports each lease that is over, once. It stays until the relay node drops it, and forwards nothing. */
  sweep(nowMs: number): void {
    let next = Number.POSITIVE_INFINITY;
    for (const lease of this.tables.leases()) {
      if (nowMs < lease.untilMs) next = Math.min(next, lease.untilMs);
      else if (!this.#reported.has(lease)) {
        this.#reported.add(lease);
        this.#event({ type: 'lease-expired', anchor: lease.session.anchor.id, lease: lease.id });
      }
    }
    this.#sweepMs = Math.max(next, nowMs + EXPIRY_SWEEP_MS);
  }
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
