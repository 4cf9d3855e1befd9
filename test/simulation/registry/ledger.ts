import type { Lease, LeaseEvent } from '../../../src/protocol/lease.ts';
import { type DataPath, LATE_MS } from './data-path.ts';

/** By how much two clocks may differ in what they make of a lease's time. */
const DRIFT = 0.01;
/** What servers' clocks may differ by, and an answer's way. */
const SKEW_MS = 1_800;

interface Known {
  readonly lease: string;
  readonly device: string;
  readonly resource: string;
  readonly request: string | undefined;
  /** True time. */
  expiresAtMs: number;
  state: Lease['state'];
  changedAtMs: number;
}

/** What one incarnation of a server has said of an anchor. */
interface Page {
  lastId: string;
  /** Which beginning of the registry it goes on from: one that was emptied counts from nothing, until it is told what was. */
  readonly life: string;
  /** Somebody owns the anchor by the word of this incarnation, not only by what it took over. */
  settled: boolean;
  /** A quarantine is being ended. */
  isRestoring: boolean;
  readonly leases: Map<string, Known>;
  /** Leases that it has seen end by somebody's word. */
  readonly over: Set<string>;
}

/** By more than this an epoch rises only at the end of a quarantine. */
const RAISED = 60_000n;

/** Only by these a quarantine comes to its end. */
const ENDING: ReadonlySet<string> = new Set(['claim', 'report', 'restore']);

/** A rule was broken. */
export class Broken extends Error {}

/**
 * Sees everything that any incarnation of the registry says and any data path does, lost or not, and judges it in true
 * time.
 */
export class Ledger {
  readonly counts = {
    events: 0,
    grants: 0,
    takeovers: 0,
    handOvers: 0,
    settledByReport: 0,
    settledByClaim: 0,
    restored: 0,
    expired: 0,
    withdrawn: 0,
    freed: 0,
    extended: 0,
  };
  /** A fail-over has lost something: an intent whose lease went with it is pursued again beside the quota that it has left. */
  lostSome = false;
  /** The server of the devices' index has failed over. */
  indexForgot = false;
  private readonly pages = new Map<string, Page>();
  private readonly fences = new Set<string>();
  private readonly epochs = new Set<string>();
  private readonly began = new Map<string, { epoch: bigint; relay: string; startedAnew?: true }>();
  /** Resource → device → when its last lease of it ended, true time. */
  private readonly ends = new Map<string, Map<string, number>>();
  private readonly expiries = new Map<string, number>();
  /** Leases that some incarnation has said to be over. A fail-over that lost that word brings them back, and no device's index knows. */
  private readonly ended = new Set<string>();
  private readonly owners = new Map<string, string>();
  private readonly paths: readonly DataPath[];
  private readonly nowMs: () => number;
  private readonly coolingMs: number;
  private readonly quota: number;

  constructor(paths: readonly DataPath[], nowMs: () => number, coolingMs: number, quota: number) {
    this.paths = paths;
    this.nowMs = nowMs;
    this.coolingMs = coolingMs;
    this.quota = quota;
  }

  page(anchor: string, database: number): Page {
    const key = `${anchor} ${database}`;
    let page = this.pages.get(key);
    if (page === undefined) {
      page = emptyPage('', true);
      this.pages.set(key, page);
    }
    return page;
  }

  /** The replica has what the primary has. */
  copy(anchor: string, from: number, to: number): void {
    const { lastId, life, leases, over } = this.page(anchor, from);
    const copied = new Map([...leases].map(([id, known]) => [id, { ...known }]));
    this.pages.set(`${anchor} ${to}`, {
      ...{ lastId, life, settled: false, isRestoring: false, leases: copied, over: new Set(over) },
    });
  }

  /** A server that has nothing of the anchor answers for it from now on. `isTold`: by somebody, what was. */
  empty(anchor: string, database: number, isTold: boolean): void {
    if (!isTold) this.began.delete(anchor);
    this.pages.set(`${anchor} ${database}`, emptyPage(`emptied ${database} `, false));
  }

  /** True time at which the lease ends by the latest word that anybody was given. */
  expiryOf(lease: string): number | undefined {
    return this.expiries.get(lease);
  }

  /** Some incarnation has said that the lease is over. */
  hasEnded(lease: string): boolean {
    return this.ended.has(lease);
  }

  /** An incarnation of the registry has changed something. */
  heard(anchor: string, database: number, event: LeaseEvent, command: string, request?: string): void {
    const page = this.page(anchor, database);
    this.counts.events += 1;
    const [epoch, counter] = parts(event.fence);
    const fence = `${lifeOf(page, epoch)}${anchor} ${event.fence}`;
    if (this.fences.has(fence)) this.broken(`fence ${event.fence} of ${anchor} twice`);
    this.fences.add(fence);
    const [lastEpoch, lastCounter] = parts(page.lastId);
    if (epoch < lastEpoch || counter <= lastCounter) {
      this.broken(`fence ${event.fence} of ${anchor} after ${page.lastId}`);
    }
    const jumped = epoch - lastEpoch > RAISED;
    if (!jumped && counter !== lastCounter + 1n) {
      this.broken(`fence ${event.fence} of ${anchor} leaves a gap after ${page.lastId}`);
    }
    if (jumped && !ENDING.has(command)) {
      this.broken(`nobody has said that the quarantine of ${anchor} is over before fence ${event.fence}`);
    }
    page.lastId = event.fence;
    if (jumped) page.isRestoring = true;
    if (event.type === 'owned') this.owned(anchor, database, epoch, event.relay, command);
    if (!('lease' in event)) return;
    const { lease } = event;
    const device = lease.device.id;
    const resource = resourceOf(lease);
    const expiresAtMs = this.nowMs() + lease.remainingMs;
    if (event.type === 'ended') {
      page.leases.delete(lease.id);
      if (event.reason === 'freed' || event.reason === 'revoked') page.over.add(lease.id);
      this.ended.add(lease.id);
      const ended = this.ends.get(resource) ?? new Map<string, number>();
      this.ends.set(resource, ended.set(device, this.nowMs()));
      if (event.reason in this.counts) this.counts[event.reason as 'expired'] += 1;
      return;
    }
    if (page.over.has(lease.id)) this.broken(`${lease.id} comes back to whom its end was said`);
    this.expiries.set(lease.id, Math.max(expiresAtMs, this.expiries.get(lease.id) ?? 0));
    const known = page.leases.get(lease.id);
    if (event.type === 'extended') this.counts.extended += 1;
    if (command === 'restore' && known === undefined) this.counts.restored += 1;
    if (event.type === 'granted') {
      this.counts.grants += 1;
      // Who follows a deposed primary will not install it: that is judged by what is acknowledged.
      this.granted(anchor, lease, resource, this.current.get(anchor) === database ? request : undefined);
    }
    const changed = { expiresAtMs, state: lease.state, changedAtMs: this.nowMs() };
    for (const other of page.leases.values()) {
      if (other.lease !== lease.id && other.resource === resource) {
        this.broken(`${resource} is leased as ${lease.id} and as ${other.lease}`);
      }
    }
    page.leases.set(lease.id, {
      ...{ lease: lease.id, device, resource, request: known?.request ?? request },
      ...changed,
    });
  }

  private owned(anchor: string, database: number, epoch: bigint, relay: string, command: string): void {
    const page = this.page(anchor, database);
    const begun = `${lifeOf(page, epoch)}${anchor} ${epoch}`;
    if (this.epochs.has(begun)) this.broken(`epoch ${epoch} of ${anchor} begins twice`);
    this.epochs.add(begun);
    const former = this.owners.get(anchor);
    this.owners.set(anchor, relay);
    if (command === 'transfer') this.counts.handOvers += 1;
    if (command === 'claim' && former !== undefined && former !== relay) this.counts.takeovers += 1;
    if (page.life !== '') page.settled = true;
    if (!page.isRestoring) return;
    page.isRestoring = false;
    page.settled = true;
    if (command === 'report') this.counts.settledByReport += 1;
    else this.counts.settledByClaim += 1;
  }

  private granted(anchor: string, lease: Lease, resource: string, request?: string): void {
    const device = lease.device.id;
    for (const [other, endedAtMs] of this.ends.get(resource) ?? []) {
      if (other !== device && this.nowMs() - endedAtMs < this.coolingMs - SKEW_MS) {
        this.broken(
          `${resource} of ${other} rested ${Math.round(this.nowMs() - endedAtMs)} ms before ${device} got it`,
        );
      }
    }
    for (const path of this.paths) {
      for (const { lease: held, untilMs } of path.anchors.get(anchor)?.leases.values() ?? []) {
        const passes = path.forwards(anchor) && path.host.clockMs() < untilMs;
        if (passes && resourceOf(held) === resource && held.device.id !== device) {
          this.broken(`${resource} goes to ${device} while ${path.host.id} forwards it to ${held.device.id}`);
        }
      }
    }
    if (request === undefined) return;
    let sameDevice = 1;
    for (const other of this.currentLeases()) {
      if (other.lease === lease.id || this.isOver(other)) continue;
      if (other.request === request) this.broken(`request ${request} has ${lease.id} and ${other.lease}`);
      if (other.device === device && !this.ended.has(other.lease)) sameDevice += 1;
    }
    // An index that has lost what it was told does not know what is being granted.
    if (sameDevice > this.quota && !this.indexForgot && !this.lostSome)
      this.broken(`${device} has ${sameDevice} leases, its quota is ${this.quota}`);
  }

  /** Anchor → database that answers for it now. */
  current: ReadonlyMap<string, number> = new Map();

  *currentLeases(): Generator<Known> {
    for (const [anchor, database] of this.current) yield* this.page(anchor, database).leases.values();
  }

  private isOver(known: Known): boolean {
    return known.expiresAtMs <= this.nowMs() || known.state === 'pending';
  }

  startsAnew(relay: string): void {
    for (const began of this.began.values()) if (began.relay === relay) began.startedAnew = true;
  }

  /** A relay begins to serve an anchor. */
  begins(anchor: string, relay: string, epoch: bigint): void {
    const former = this.began.get(anchor);
    const isOlder = former !== undefined && epoch < former.epoch;
    // Its last epoch may not have been on its disk.
    const isByJournal = former?.relay === relay && former.startedAnew === true;
    const isEqual = epoch === former?.epoch && relay !== former.relay;
    if ((isOlder && !isByJournal) || isEqual) {
      this.broken(
        `${relay} serves ${anchor} under epoch ${epoch} after ${former!.relay} under ${former!.epoch}`,
      );
    }
    this.began.set(anchor, { epoch, relay });
  }

  /** A lease was given to a data path. */
  installed(path: DataPath, lease: Lease, untilMs: number): void {
    const expiresAtMs = this.expiries.get(lease.id);
    if (expiresAtMs === undefined) this.broken(`${path.host.id} installs ${lease.id}, which nobody granted`);
    const endsMs = path.host.trueMs(untilMs);
    const allowedMs = SKEW_MS + LATE_MS + DRIFT * Math.max(0, lease.remainingMs);
    if (endsMs > expiresAtMs! + allowedMs) {
      this.broken(
        `${path.host.id} forwards ${lease.id} for ${Math.round(endsMs - expiresAtMs!)} ms after it is over`,
      );
    }
    for (const { lease: other, untilMs: otherMs } of path.leasesOf(lease.anchor)?.values() ?? []) {
      if (other.id === lease.id || otherMs <= path.host.clockMs()) continue;
      if (resourceOf(other) === resourceOf(lease)) {
        this.broken(`${path.host.id} forwards ${resourceOf(lease)} to ${other.id} and ${lease.id}`);
      }
    }
  }

  /** One relay at most forwards for an anchor. */
  oneForwarder(anchor: string): void {
    const forwarding = this.paths.filter((path) => path.forwards(anchor)).map(({ host }) => host.id);
    if (forwarding.length > 1) this.broken(`${forwarding.join(' and ')} forward for ${anchor} at once`);
  }

  broken(what: string): void {
    throw new Broken(`${what}, at ${Math.round(this.nowMs())} ms`);
  }
}

export function resourceOf({ address, ports }: Pick<Lease, 'address' | 'ports'>): string {
  return `${address} ${ports?.first ?? '-'}`;
}

function emptyPage(life: string, settled: boolean): Page {
  return { lastId: '0-0', life, settled, isRestoring: false, leases: new Map(), over: new Set() };
}

/** A registry that has heard of epochs before goes on above all of them. */
function lifeOf({ life }: Page, epoch: bigint): string {
  return epoch > RAISED ? '' : life;
}

function parts(fence: string): [bigint, bigint] {
  const [epoch, counter] = fence.split('-');
  return [BigInt(epoch!), BigInt(counter!)];
}
