import { formatAddress, parseAddress } from '../../protocol/address.ts';
import type { Block, Lease } from '../../protocol/lease.ts';
import { Addresses } from './addresses.ts';
import { boottimeOf } from './clock.ts';
import type { IndexMap } from './index-map.ts';
import type { LeasePlaces } from './lease-places.ts';

/** A lease as the program is to know it; without a place, the userspace engine alone knows it. */
export class PlacedLease {
  readonly id: string;
  readonly address: Uint8Array;
  readonly isWhole: boolean;
  readonly ports: Block | null;
  readonly spis: Block | null;
  /** It has a rule that only the userspace engine holds. */
  readonly isSlow: boolean;
  session: LeaseHolder;
  untilMs: number;
  /** Which of the session's leases it is. */
  place: number | null = null;
  /** The program finds it by its numbers. */
  isIndexed = false;

  constructor(lease: Lease, session: LeaseHolder, untilMs: number) {
    this.id = lease.id;
    this.address = parseAddress(lease.address, 'lease.address');
    this.isWhole = lease.kind === 'rsa-ip';
    this.ports = this.isWhole ? null : lease.ports;
    this.spis = lease.kind === 'rsipsec' ? lease.spis : null;
    this.isSlow = lease.remote != null;
    this.session = session;
    this.untilMs = untilMs;
  }

  get portShift(): number {
    return shiftOf(this.ports);
  }

  get spiShift(): number {
    return shiftOf(this.spis);
  }
}

/** The session's side of its leases. */
export interface LeaseHolder {
  readonly slot: number;
  /** Null for a session that the program does not know. */
  readonly places: LeasePlaces | null;
  readonly leases: Set<PlacedLease>;
  /** Those of them that have no place yet. */
  readonly waiting: Set<PlacedLease>;
  /** Its anchor is this relay's: before, nobody is to find its leases by their addresses. */
  readonly isBegun: boolean;
}

function shiftOf(block: Block | null): number {
  return block === null ? 0 : 31 - Math.clz32(block.count);
}

/** Puts leases into their sessions and into the index, in an order in which no packet finds a lease that is not there. */
export class Leases {
  readonly addresses: Addresses;
  readonly #index: IndexMap;
  readonly #byId = new Map<string, PlacedLease>();

  constructor(index: IndexMap) {
    this.#index = index;
    this.addresses = new Addresses(index);
  }

  put(wanted: Lease, session: LeaseHolder, untilMs: number): void {
    const known = this.#byId.get(wanted.id);
    if (known !== undefined) {
      known.untilMs = untilMs;
      if (known.session === session) {
        if (known.place !== null) session.places?.setUntil(known.place, boottimeOf(untilMs));
        return;
      }
      const { session: before, place } = known;
      known.session = session;
      before.waiting.delete(known);
      before.leases.delete(known);
      session.leases.add(known);
      this.#place(known);
      if (place !== null) before.places?.give(place);
      return;
    }
    const lease = new PlacedLease(wanted, session, untilMs);
    for (const rival of this.addresses.leasesOn(lease.address)) {
      // The userspace engine has decided that its time is over.
      if (excludes(lease, rival)) this.drop(rival.id);
    }
    this.#byId.set(lease.id, lease);
    session.leases.add(lease);
    this.addresses.addLease(lease);
    this.#place(lease);
  }

  drop(id: string): void {
    const lease = this.#byId.get(id);
    if (lease === undefined) return;
    this.#byId.delete(id);
    lease.session.waiting.delete(lease);
    lease.session.leases.delete(lease);
    this.#unindex(lease);
    this.addresses.removeLease(lease);
    if (lease.place !== null) lease.session.places?.give(lease.place);
    lease.place = null;
  }

  /** Their anchor begins: they are found from now on. */
  begin(sessions: Iterable<LeaseHolder>): void {
    const addresses = new Map<string, Uint8Array>();
    for (const { leases } of sessions) {
      for (const { address } of leases) addresses.set(formatAddress(address), address);
    }
    for (const address of addresses.values()) this.addresses.refresh(address);
  }

  /** A place of the session can be used again. */
  placeFreed(session: LeaseHolder): void {
    const [next] = session.waiting;
    if (next !== undefined) this.#place(next);
  }

  #place(lease: PlacedLease): void {
    const { session } = lease;
    lease.place = session.places?.take(lease, boottimeOf(lease.untilMs)) ?? null;
    if (lease.place === null) {
      session.waiting.add(lease);
      this.#unindex(lease);
    } else {
      session.waiting.delete(lease);
      lease.isIndexed = this.#putIndex(lease, lease.place);
    }
    this.addresses.refresh(lease.address);
  }

  #putIndex(lease: PlacedLease, place: number): boolean {
    const { address, ports, spis, portShift, spiShift } = lease;
    const value = { slot: lease.session.slot, lease: place };
    const hasPorts = ports === null || this.#index.put('PORTS', address, ports.first >>> portShift, value);
    const hasSpis = spis === null || this.#index.put('SPIS', address, spis.first >>> spiShift, value);
    return hasPorts && hasSpis;
  }

  #unindex(lease: PlacedLease): void {
    const { address, ports, spis, portShift, spiShift } = lease;
    lease.isIndexed = false;
    if (ports !== null) this.#index.remove('PORTS', address, ports.first >>> portShift);
    if (spis !== null) this.#index.remove('SPIS', address, spis.first >>> spiShift);
  }
}

function excludes(one: PlacedLease, other: PlacedLease): boolean {
  if (one.isWhole || other.isWhole) return true;
  return overlaps(one.ports, other.ports) || overlaps(one.spis, other.spis);
}

function overlaps(one: Block | null, other: Block | null): boolean {
  if (one === null || other === null) return false;
  return one.first < other.first + other.count && other.first < one.first + one.count;
}
