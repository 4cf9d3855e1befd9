import type { Device, Lease, LeaseEvent, LeaseKind, PathHint, Remote, Session } from '../protocol/lease.ts';
import type { Wished } from '../protocol/signalling.ts';
import type { PoolTurns } from './pool-turn.ts';
import type { Pools } from './pools.ts';
import type { Registrations } from './registration.ts';

/** What an operator's configuration says of an anchor. */
export interface AnchorDeclaration {
  readonly id: string;
  readonly pool: string;
  /** `whole`: one address a lease. `shared`: an address, a port block and, for RSIPSEC, blocks of SPIs and IKE SPIs. */
  readonly sharing: 'whole' | 'shared';
  /** Leasable prefixes, every address of them, first and last included; host bits zero, no overlap. */
  readonly prefixes: readonly string[];
  /** Tunnel endpoint addresses: one of each family at most, outside every prefix. */
  readonly endpoints: readonly string[];
  /** Ports a lease on a shared address, a power of two; default 64. */
  readonly portBlock?: number;
  /** Ports that a lease's block may double to, a power of two; default: it does not double. */
  readonly maxPortBlock?: number;
  /** SPIs a lease on a shared address, a power of two; default 64. */
  readonly spiBlock?: number;
  /** How long freed resources rest before another device gets them, milliseconds; default 2 min (RFC 6887 §15). */
  readonly coolingMs?: number;
  /** How long SPIs rest where that is possible, milliseconds; default 1 h. */
  readonly spiCoolingMs?: number;
  /** A lease ends at the latest so long after it began or was extended, milliseconds; default 366 days. */
  readonly longestLeaseMs?: number;
  /** Down to this the limit falls from half of the anchor leased on; default: it does not fall. */
  readonly shortestLeaseMs?: number;
  /** Leases that the devices of one tenant may hold in all anchors of the pool; default: any number. */
  readonly maxLeasesPerTenant?: number | null;
  /** All of its prefixes are taken out: it goes with its last lease; default false. */
  readonly retiring?: boolean;
  /** The relay that may claim it first. */
  readonly home: string;
}

/** A declared anchor with its defaults filled in. */
export interface Anchor extends Required<AnchorDeclaration> {
  /** Leases it can hold: at most 4,096. */
  readonly capacity: number;
  /** Prefixes that are not declared any more and still leased; until when at the latest, by the registry's clock. */
  readonly draining: readonly { readonly prefix: string; readonly untilMs: number }[];
}

/** A relay, and which start of it. */
export interface Incarnation {
  readonly id: string;
  /** 8 octets, hexadecimal. */
  readonly boot: string;
}

/** Who owns an anchor; `remainingMs` of zero or less: the claim has run out, nobody else has claimed. */
export interface Owner {
  readonly relay: string;
  /** 8 octets, hexadecimal: the incarnation. */
  readonly boot: string;
  readonly epoch: bigint;
  readonly remainingMs: number;
  /** The incarnation that may claim when this claim has run out; default: none. */
  readonly standby?: Incarnation;
}

export interface GrantRequest {
  readonly pool: string;
  /** Only this anchor; default: the device's former one, else by free count. */
  readonly anchor?: string;
  readonly device: Device;
  /** RFC 7638 thumbprint of the device's key. */
  readonly thumbprint: string;
  readonly kind: LeaseKind;
  /** The one remote that the lease is for; default: any. */
  readonly remote?: Remote | null;
  readonly leaseMs: number;
  /** Resources that it is to have: taken is refused, never replaced; default: any. */
  readonly local?: Wished;
  /** Names the wish for ever (128 bits, hexadecimal): a retry returns the first answer. */
  readonly requestId: string;
  /** Leases the device may hold in this pool, this one included. */
  readonly quota: number;
}

export interface Granted {
  readonly lease: Lease;
  readonly session: Session;
  /** The session that this one replaced just now, because the device came with another key. */
  readonly replaced?: string;
}

export type ExtendedEvent = Extract<LeaseEvent, { type: 'extended' }>;
export type EndedEvent = Extract<LeaseEvent, { type: 'ended' }>;

export interface Snapshot {
  readonly anchor: Anchor;
  readonly epoch: bigint;
  /** Fence of the last event: `events(anchor, lastId)` continues from here. */
  readonly lastId: string;
  readonly leases: readonly Lease[];
  readonly sessions: readonly Session[];
  readonly hints: readonly PathHint[];
  readonly owner: Owner | null;
}

/** What an owner has in its memory. */
export interface OwnersReport {
  readonly relay: string;
  readonly boot: string;
  /** Of the last fence that it has seen: whoever has seen more outdoes it. */
  readonly epoch: bigint;
  readonly counter: bigint;
  /** It has, or had under its claim, a standby. */
  readonly hasStandby: boolean;
  /**
   * As what it knows this: `former`, the anchor has gone to another since; `standby`, it has only followed, and is outdone by an
   * owner that has seen as high an epoch (default: owner).
   */
  readonly as?: 'owner' | 'former' | 'standby';
  readonly leases: readonly Lease[];
  readonly sessions: readonly Session[];
  /** What their resources follow, as the registry had it: see `Registry.plan` (default: not known). */
  readonly plan?: string;
}

/** Events after an id, in order; `reload`: some are no longer there, take a snapshot. */
export type EventPage =
  | { readonly reload: false; readonly events: readonly LeaseEvent[]; readonly lastId: string }
  | { readonly reload: true };

export interface Swept {
  /** When, by the registry's clock, milliseconds. */
  readonly atMs: number;
  readonly ended: readonly EndedEvent[];
  /** True when the limit was reached: sweep again. */
  readonly more: boolean;
  /** Slots that a stranger could get now. */
  readonly free: number;
}

export interface RelayAnnouncement {
  readonly id: string;
  /** 8 octets, hexadecimal. */
  readonly boot: string;
  /** Where its relay plane listens. */
  readonly planeUrl: string;
  readonly site: string;
}

/**
 * Leases and ownership in Redis. Every mutation is one script in one slot and safe to send twice. Failures are
 * `MooringError`; when Redis cannot be reached they are ERR_MOORING_REGISTRY_UNAVAILABLE, temporary.
 */
export interface Registry extends Pools, PoolTurns, Registrations {
  /**
   * Makes an anchor known, or lease other prefixes, idempotently: what is taken out is drained. Refuses
   * (ERR_MOORING_ANCHOR_IN_USE) other block sizes, sharing or pool while a lease is held or cooling. `draining`: what was drained
   * when the registry still knew it (default: nothing); it counts where the registry has forgotten the anchor.
   */
  declareAnchor(declaration: AnchorDeclaration & Partial<Pick<Anchor, 'draining'>>): Promise<Anchor>;
  anchor(id: string): Promise<Anchor | null>;
  poolAnchors(pool: string): Promise<readonly string[]>;

  /**
   * Makes (relay, boot) the owner. The same incarnation gets the same epoch again, a new incarnation of the
   * owner's relay the next one. An anchor without owner is its home relay's. Another relay gets it only once the
   * owner's claim has run out, and only as the standby or with `force` (an operator's word).
   *
   * Here and below: the caller has the anchor for `ttlMs` from when it *sent* this, by its own clock; the registry
   * holds it somewhat longer (`holdMs`), so that clocks may drift.
   */
  claim(
    anchor: string,
    relay: string,
    boot: string,
    ttlMs: number,
    force?: boolean,
    /** The highest epoch that the relay had it under; a registry with a lower one has lost something (QUARANTINED). */
    knownEpoch?: bigint,
  ): Promise<{ epoch: bigint }>;
  /** Holds the claim for `ttlMs` from now; ERR_MOORING_STALE_EPOCH when another epoch has begun. */
  renew(anchor: string, relay: string, epoch: bigint, ttlMs: number): Promise<{ remainingMs: number }>;
  /**
   * What an owner holds, for a registry that may have lost something (ERR_MOORING_QUARANTINED). Resolves with the epoch
   * under which it goes on; rejects with ERR_MOORING_QUARANTINED while it is to be said again, and with
   * ERR_MOORING_STALE_EPOCH when another relay owns the anchor.
   */
  report(anchor: string, report: OwnersReport, ttlMs: number): Promise<{ epoch: bigint }>;
  /**
   * What a former owner holds, after a quarantine has ended without its word: what was lost then comes back, where its resources
   * are nobody's since. Within an hour; ERR_MOORING_QUARANTINED while it is to report. False: nothing that it knows of is missing.
   */
  bringBack(
    anchor: string,
    known: Pick<OwnersReport, 'epoch' | 'counter' | 'leases' | 'sessions'>,
  ): Promise<boolean>;
  /** Names the standby, or that there is none; holds the claim as `renew` does. */
  appoint(
    anchor: string,
    relay: string,
    epoch: bigint,
    standby: Incarnation | null,
    ttlMs: number,
  ): Promise<void>;
  /** Planned hand-over: `toRelay` owns the anchor under the next epoch. */
  transfer(
    anchor: string,
    fromRelay: string,
    epoch: bigint,
    toRelay: string,
    toBoot: string,
    ttlMs: number,
  ): Promise<{ epoch: bigint }>;
  /** Gives the claim up; the anchor is without owner. */
  release(anchor: string, relay: string, epoch: bigint): Promise<void>;
  owner(anchor: string): Promise<Owner | null>;

  /**
   * Grants a lease: pending, useless until its owner relay has installed it and said `activate`; withdrawn when
   * that takes 10 s. RSIP 308/309 when the pool is exhausted, otherwise temporary when no anchor could be asked.
   */
  grant(request: GrantRequest): Promise<Granted>;
  /** The owner has installed the lease: it forwards from now on. */
  activate(anchor: string, leaseId: string, epoch: bigint): Promise<Lease>;
  /** Takes a pending lease back; null when it is already gone. Refused when it is active. */
  withdraw(leaseId: string): Promise<EndedEvent | null>;
  /**
   * The lease now lasts `leaseMs` from now, and has at least so many `ports` (default: those that it has): its block doubles in place,
   * and nothing else of it changes. RSIP 306 when it is not the device's; 309 when it cannot have all of them: nothing has changed.
   */
  extend(params: {
    leaseId: string;
    device: Device;
    leaseMs: number;
    ports?: number | undefined;
    requestId: string;
  }): Promise<ExtendedEvent>;
  /** Ends the device's lease. RSIP 306 when it is not the device's. */
  free(params: { leaseId: string; device: Device; requestId: string }): Promise<EndedEvent>;
  /**
   * Ends a lease by an operator's word; `tenant`: only if it is this tenant's. Said again within an hour it answers the
   * same. RSIP 306 when there is no such lease.
   */
  revoke(params: { leaseId: string; tenant?: string }): Promise<EndedEvent>;
  /**
   * The session that carries the device's lease. With the key (thumbprint) it began with it stays; with another
   * one it is replaced. RSIP 306 when the lease is not the device's.
   */
  attach(params: { leaseId: string; device: Device; thumbprint: string }): Promise<Granted>;
  /**
   * Ends what has expired, by the owner of `epoch` only, at most `limit` leases: what had run out at `latestMs` by the registry's clock
   * (default: by now). However late it arrives, it ends nothing else.
   */
  sweep(anchor: string, epoch: bigint, limit: number, latestMs?: number): Promise<Swept>;
  /** Puts the ends of active leases off, by the owner of `epoch` only; those that are gone, or end later, stay as they are. */
  stretch(
    anchor: string,
    epoch: bigint,
    leases: readonly { readonly id: string; readonly remainingMs: number }[],
  ): Promise<void>;

  snapshot(anchor: string): Promise<Snapshot>;
  /** What the anchor's slots stand for: given back as it is by an owner whose registry was emptied. '' when undeclared. */
  plan(anchor: string): Promise<string>;
  events(anchor: string, afterId: string, limit: number): Promise<EventPage>;
  /** Calls `wake` when an anchor may have new events. Wakes get lost: poll as well. Returns how to stop. */
  watch(anchor: string, wake: () => void): Promise<() => Promise<void>>;
  /** Keeps the last proven path of a device's session; ignored when the session is gone or the hint is older. */
  putHint(anchor: string, epoch: bigint, device: Device, hint: PathHint): Promise<void>;
  /** The last proven paths of those of the sessions that have one. */
  hints(anchor: string, sessions: readonly string[]): Promise<readonly PathHint[]>;

  /**
   * What the device holds, read from the anchors that its index names, and from `alsoAt`: an index may have been lost.
   * Repairs the index on the way.
   */
  deviceLeases(device: Device, alsoAt?: string): Promise<readonly Lease[]>;

  /**
   * Tells the devices of an anchor's leases that they hold them, for an index that was lost or damaged: its owner's task,
   * again and again.
   */
  reindex(anchor: string): Promise<void>;

  announceRelay(announcement: RelayAnnouncement, ttlMs: number): Promise<void>;
  relay(id: string): Promise<RelayAnnouncement | null>;
  /** Every relay that has announced itself and not fallen silent since. */
  relays(): Promise<readonly RelayAnnouncement[]>;

  /** Ends the connection, and the private server when this process was its last user. */
  close(): Promise<void>;
}

/** Prefixes that the network is to deliver to an anchor's relay: those declared, and those that are still leased. */
export function deliveredPrefixes({
  prefixes,
  draining,
}: Pick<Anchor, 'prefixes' | 'draining'>): readonly string[] {
  return [...prefixes, ...draining.map(({ prefix }) => prefix)];
}

/** The anchor that a lease id names. */
export function anchorOf(leaseId: string): string {
  return leaseId.slice(0, leaseId.indexOf('.'));
}
