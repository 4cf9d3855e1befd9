import { parseAddress } from '../../protocol/address.ts';
import type { Block, Lease } from '../../protocol/lease.ts';
import { Addresses, type AddressState } from './addresses.ts';
import { boottimeOf } from './clock.ts';
import type { IndexMap } from './index-map.ts';
import type { LeasePlaces } from './lease-places.ts';

/** A lease as the program is to know it; without a place, the userspace engine alone knows it. */
export class PlacedLease {
  readonly id: string;
  readonly address: Uint8Array;
  readonly isWhole: boolean;
  /** May double while it is held. */
  ports: Block | null;
  readonly spis: Block | null;
  /** It has a rule that only the userspace engine holds. */
  readonly isSlow: boolean;
  session: LeaseHolder;
  untilMs: number;
  /** Which of the session's leases it is. */
  place: number | null = null;
  /** The program finds it by its numbers. */
  isIndexed = false;
  /** What its address means to the program; null: it has been dropped. */
  at: AddressState | null = null;

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
      this.#change(known, wanted, session, untilMs);
      return;
    }
    const lease = new PlacedLease(wanted, session, untilMs);
    this.#dropRivals(lease);
    this.#byId.set(lease.id, lease);
    session.leases.add(lease);
    this.addresses.addLease(lease);
    this.#fitPortShift(lease.address, lease.ports);
    this.#place(lease);
  }

  #change(known: PlacedLease, { ports }: Lease, session: LeaseHolder, untilMs: number): void {
    const { session: before, place, ports: former } = known;
    const isResized =
      former !== null && ports !== null && (former.first !== ports.first || former.count !== ports.count);
    known.untilMs = untilMs;
    if (before === session && !isResized) {
      if (place !== null) session.places?.setUntil(place, boottimeOf(untilMs));
      return;
    }
    before.waiting.delete(known);
    before.leases.delete(known);
    known.session = session;
    session.leases.add(known);
    if (isResized) {
      this.#fitPortShift(known.address, ports);
      known.ports = ports;
      this.#dropRivals(known);
    }
    // In another place: the program may be reading this one.
    this.#place(known);
    if (isResized) this.#removePorts(known, former, ports);
    if (place !== null) before.places?.give(place);
  }

  /** The userspace engine has decided that their time is over. */
  #dropRivals(lease: PlacedLease): void {
    for (const rival of this.addresses.leasesOn(lease.address)) {
      if (rival !== lease && excludes(lease, rival)) this.drop(rival.id);
    }
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
    // Thousands of leases lie on a few addresses.
    const on = new Set<AddressState>();
    for (const { leases } of sessions) for (const { at } of leases) if (at !== null) on.add(at);
    for (const { octets } of on) this.addresses.refresh(octets);
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
      lease.isIndexed = false;
      // From here on a miss is no drop.
      this.addresses.refresh(lease.address);
      this.#unindex(lease);
      return;
    }
    session.waiting.delete(lease);
    lease.isIndexed = this.#putIndex(lease, lease.place);
    this.addresses.refresh(lease.address);
  }

  /** Where a port block is smaller than all of its address so far, they are found under its shift from now on. */
  #fitPortShift(address: Uint8Array, ports: Block | null): void {
    const former = this.addresses.portShift(address);
    const shift = shiftOf(ports);
    if (ports === null || (former !== null && former <= shift)) return;
    const placed = this.addresses.leasesOn(address).filter(({ place }) => place !== null);
    for (const one of placed) one.isIndexed = false;
    // From here on a miss is no drop.
    this.addresses.refresh(address);
    for (const one of placed) this.#removePorts(one, one.ports);
    this.addresses.setPortShift(address, shift);
    for (const one of placed) one.isIndexed = this.#putIndex(one, one.place ?? 0);
  }

  #putIndex(lease: PlacedLease, place: number): boolean {
    const { address, spis, spiShift } = lease;
    const value = { slot: lease.session.slot, lease: place };
    const hasPorts = this.#portKeys(lease, lease.ports).every((key) =>
      this.#index.put('PORTS', address, key, value),
    );
    const hasSpis = spis === null || this.#index.put('SPIS', address, spis.first >>> spiShift, value);
    return hasPorts && hasSpis;
  }

  #unindex(lease: PlacedLease): void {
    const { address, spis, spiShift } = lease;
    lease.isIndexed = false;
    this.#removePorts(lease, lease.ports);
    if (spis !== null) this.#index.remove('SPIS', address, spis.first >>> spiShift);
  }

  /** Removes the entries of a block, but for those of another. */
  #removePorts(lease: PlacedLease, ports: Block | null, but: Block | null = null): void {
    const kept = new Set(this.#portKeys(lease, but));
    for (const key of this.#portKeys(lease, ports)) {
      if (!kept.has(key)) this.#index.remove('PORTS', lease.address, key);
    }
  }

  #portKeys({ address }: PlacedLease, ports: Block | null): number[] {
    const shift = this.addresses.portShift(address);
    if (ports === null || shift === null) return [];
    const from = ports.first >>> shift;
    return Array.from({ length: Math.max(1, ports.count >>> shift) }, (_, at) => from + at);
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
