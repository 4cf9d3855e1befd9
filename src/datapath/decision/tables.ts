import { parseAddress } from '../../protocol/address.ts';
import { badInput, MooringError } from '../../protocol/errors.ts';
import type { Block, Lease, LeaseKind } from '../../protocol/lease.ts';
import { AddressTable } from './address-table.ts';
import { FRAGMENTS } from './fragments.ts';
import { Learned, type LearningLimit } from './learned.ts';

/** The one remote that a lease is for; `port` null: any port of it. */
export interface DeclaredRemote {
  readonly address: Uint8Array;
  readonly port: number | null;
}

/** A lease as the packet decision sees it. `S` is whatever the caller hangs its sessions on. */
export interface LeaseEntry<S> {
  readonly id: string;
  readonly kind: LeaseKind;
  readonly address: Uint8Array;
  /** May double while it is held. */
  ports: Block | null;
  readonly spis: Block | null;
  /** First 32 bits of the IKE SPIs that are the device's. */
  readonly ikeSpis: Block | null;
  /** Null: any. */
  readonly remote: DeclaredRemote | null;
  readonly at: AddressEntry<S>;
  session: S;
  /** A packet at or after this moment is not forwarded for the lease. */
  untilMs: number;
}

/** Everything leased on one address: the whole of it, or shares. */
export interface AddressEntry<S> {
  whole: LeaseEntry<S> | null;
  readonly ports: BlockTable<S>;
  readonly spis: BlockTable<S>;
  /** By the first 32 bits of the device's half of the IKE SPIs. */
  readonly ikeSpis: BlockTable<S>;
  /** Query ids of echo requests that went out from here. */
  readonly queries: Learned<S>;
  /** SPIs of peers that ESP and AH went out to: what an ICMP error about them quotes. */
  readonly peerSpis: Learned<S>;
  /** The devices' halves of the SPIs (cookies), outside leased blocks, of their IKE associations on ports 500 and 4500. */
  readonly cookies: Learned<S>;
  /** Identifications of fragmented datagrams that went out: a peer that puts them together knows only the address. */
  readonly fragmentIds: Learned<S>;
  readonly leases: Set<LeaseEntry<S>>;
  /** The same by session: a session holds few of them. */
  readonly bySession: Map<S, Set<LeaseEntry<S>>>;
}

/** Limits of what is learned, per lease. */
export const LEARNING = {
  queries: { perLease: 256, keepMs: 30_000 },
  peerSpis: { perLease: 256, keepMs: 600_000, gives: 'oldest' },
  /** An association may be silent for long; liveness checks and rekeys teach it again. */
  cookies: { perLease: 64, keepMs: 3_600_000, gives: 'oldest' },
  /** As long as a peer may keep a fragment. */
  fragmentIds: { perLease: 256, keepMs: FRAGMENTS.keepMs, gives: 'oldest' },
} as const satisfies Record<string, LearningLimit>;

/** A block holds so many of the smallest ones beside it at most: what one lease takes of a table is bounded. */
const MOST_ENTRIES = 4096;

/**
 * Blocks on one address, so that a number finds its block by one shift and one look-up: the shift of the smallest block there, under
 * which a larger one has several entries.
 */
export class BlockTable<S> {
  readonly #blocks = new Map<number, LeaseEntry<S>>();
  readonly #sizes: 'one' | 'several';
  #shift = 0;

  constructor(sizes: 'one' | 'several') {
    this.#sizes = sizes;
  }

  /** The lease whose block holds `number`. */
  get(number: number): LeaseEntry<S> | undefined {
    return this.#blocks.get(number >>> this.#shift);
  }

  /** Throws ERR_MOORING_BLOCK_SIZE when other blocks of this address have another size that the block cannot be beside. */
  check({ count }: Block, field: string): void {
    if (this.#blocks.size === 0) return;
    const expected = 2 ** this.#shift;
    const most = this.#sizes === 'one' ? 1 : MOST_ENTRIES;
    if (count <= expected * most && expected <= count * most) return;
    throw new MooringError(
      'ERR_MOORING_BLOCK_SIZE',
      `${field}: a block of ${count} beside blocks of ${expected} on one address; give the address one block size`,
      { data: { field, count, expected } },
    );
  }

  /** Whoever has any of it. */
  holders(block: Block): ReadonlySet<LeaseEntry<S>> {
    const holders = new Set<LeaseEntry<S>>();
    const [from, to] = this.#range(block);
    if (to - from > this.#blocks.size) {
      for (const [key, holder] of this.#blocks) if (from <= key && key <= to) holders.add(holder);
      return holders;
    }
    for (let key = from; key <= to; key += 1) {
      const holder = this.#blocks.get(key);
      if (holder !== undefined) holders.add(holder);
    }
    return holders;
  }

  set(block: Block, lease: LeaseEntry<S>): void {
    const shift = 31 - Math.clz32(block.count);
    if (this.#blocks.size === 0) this.#shift = shift;
    else if (shift < this.#shift) this.#split(shift);
    const [from, to] = this.#range(block);
    for (let key = from; key <= to; key += 1) this.#blocks.set(key, lease);
  }

  delete(block: Block, lease: LeaseEntry<S>): void {
    const [from, to] = this.#range(block);
    for (let key = from; key <= to; key += 1) {
      if (this.#blocks.get(key) === lease) this.#blocks.delete(key);
    }
  }

  #split(shift: number): void {
    const parts = 2 ** (this.#shift - shift);
    const former = [...this.#blocks];
    this.#blocks.clear();
    for (const [key, lease] of former) {
      for (let part = 0; part < parts; part += 1) this.#blocks.set(key * parts + part, lease);
    }
    this.#shift = shift;
  }

  /** The first and the last of its entries. */
  #range({ first, count }: Block): readonly [from: number, to: number] {
    return [first >>> this.#shift, (first + count - 1) >>> this.#shift];
  }
}

/** Leases by address and number, and the addresses that nothing may be sent to from inside a tunnel. */
export class LeaseTables<S> {
  readonly #addresses = new AddressTable<AddressEntry<S>>();
  readonly #endpoints = new AddressTable<number>();
  #host = new AddressTable<true>();
  readonly #leases = new Map<string, LeaseEntry<S>>();

  /** What is leased on the address in `size` octets of `buffer` at `at`. */
  at(buffer: Uint8Array, at: number, size: 4 | 16): AddressEntry<S> | undefined {
    return this.#addresses.get(buffer, at, size);
  }

  lease(id: string): LeaseEntry<S> | undefined {
    return this.#leases.get(id);
  }

  leases(): IterableIterator<LeaseEntry<S>> {
    return this.#leases.values();
  }

  /**
   * Installs or renews a lease: the same id again moves its deadline, gives it to another session, or gives it another port block.
   * Throws ERR_MOORING_LEASE_CONFLICT when another lease that still runs holds any of it, and changes nothing then.
   */
  put(lease: Lease, session: S, untilMs: number, nowMs: number): LeaseEntry<S> {
    const known = this.#leases.get(lease.id);
    if (known !== undefined) {
      this.#resize(known, lease, nowMs);
      detach(known);
      known.session = session;
      attach(known);
      known.untilMs = untilMs;
      return known;
    }
    const address = parseAddress(lease.address, 'lease.address');
    const size = address.length === 4 ? 4 : 16;
    if (this.isEndpoint(address, 0, size)) {
      throw conflict(lease, 'it is a tunnel endpoint; an endpoint is never leased');
    }
    const entry = this.#addresses.get(address, 0, size) ?? newAddress<S>();
    const { id, kind, ports, spis, ikeSpis = null } = lease;
    if (kind !== 'rsa-ip') {
      for (const [field, block] of Object.entries({ ports, spis, ikeSpis }))
        checkBlock(block, `lease.${field}`);
    }
    this.#endRivals(rivals(entry, lease), lease, nowMs);
    const remote = remoteOf(lease, size);
    const added: LeaseEntry<S> = {
      id,
      kind,
      address,
      ports,
      spis,
      ikeSpis,
      remote,
      at: entry,
      session,
      untilMs,
    };
    if (kind === 'rsa-ip') entry.whole = added;
    else {
      if (ports !== null) entry.ports.check(ports, 'lease.ports');
      if (spis !== null) entry.spis.check(spis, 'lease.spis');
      if (ikeSpis !== null) entry.ikeSpis.check(ikeSpis, 'lease.ikeSpis');
      if (ports !== null) entry.ports.set(ports, added);
      if (spis !== null && kind === 'rsipsec') entry.spis.set(spis, added);
      if (ikeSpis !== null && kind === 'rsipsec') entry.ikeSpis.set(ikeSpis, added);
    }
    attach(added);
    this.#leases.set(id, added);
    this.#addresses.set(address, entry);
    return added;
  }

  /** Gives a lease that is held the port block that it has by now. */
  #resize(known: LeaseEntry<S>, lease: Lease, nowMs: number): void {
    const { ports: former, at } = known;
    const { ports } = lease;
    if (former === null || ports === null) return;
    if (former.first === ports.first && former.count === ports.count) return;
    checkBlock(ports, 'lease.ports');
    at.ports.check(ports, 'lease.ports');
    this.#endRivals(
      [...at.ports.holders(ports)].filter((holder) => holder !== known),
      lease,
      nowMs,
    );
    at.ports.delete(former, known);
    at.ports.set(ports, known);
    known.ports = ports;
  }

  /** Removes those whose time is over; throws when there is another. */
  #endRivals(rivals: readonly LeaseEntry<S>[], lease: Lease, nowMs: number): void {
    for (const rival of rivals) {
      if (nowMs < rival.untilMs) throw conflict(lease, `lease ${rival.id} holds it; free that one first`);
    }
    for (const rival of rivals) this.remove(rival.id);
  }

  /** Forgets a lease and what was learned for it; nothing happens when it is not there. */
  remove(id: string): void {
    const lease = this.#leases.get(id);
    if (lease === undefined) return;
    this.#leases.delete(id);
    const entry = lease.at;
    detach(lease);
    if (entry.whole === lease) entry.whole = null;
    if (lease.ports !== null) entry.ports.delete(lease.ports, lease);
    if (lease.spis !== null) entry.spis.delete(lease.spis, lease);
    if (lease.ikeSpis !== null) entry.ikeSpis.delete(lease.ikeSpis, lease);
    for (const learned of [entry.queries, entry.peerSpis, entry.cookies, entry.fragmentIds]) {
      learned.forget(lease);
    }
    if (entry.leases.size === 0) this.#addresses.delete(lease.address);
  }

  addEndpoint(address: Uint8Array): void {
    this.#endpoints.set(address, (this.#endpoints.get(address, 0, width(address)) ?? 0) + 1);
  }

  removeEndpoint(address: Uint8Array): void {
    const users = (this.#endpoints.get(address, 0, width(address)) ?? 0) - 1;
    if (users > 0) this.#endpoints.set(address, users);
    else this.#endpoints.delete(address);
  }

  /** The addresses that the relay's own host answers to, in place of those before. */
  setHost(addresses: readonly Uint8Array[]): void {
    const host = new AddressTable<true>();
    for (const address of addresses) host.set(address, true);
    this.#host = host;
  }

  /** True for the addresses of the relay's own host: its services are none of a device's business. */
  isHost(buffer: Uint8Array, at: number, size: 4 | 16): boolean {
    return this.#host.get(buffer, at, size) !== undefined;
  }

  /** True for the tunnel endpoints of this relay. */
  isEndpoint(buffer: Uint8Array, at: number, size: 4 | 16): boolean {
    return this.#endpoints.get(buffer, at, size) !== undefined;
  }
}

function newAddress<S>(): AddressEntry<S> {
  return {
    whole: null,
    ports: new BlockTable('several'),
    spis: new BlockTable('one'),
    ikeSpis: new BlockTable('one'),
    queries: new Learned(LEARNING.queries),
    peerSpis: new Learned(LEARNING.peerSpis),
    cookies: new Learned(LEARNING.cookies),
    fragmentIds: new Learned(LEARNING.fragmentIds),
    leases: new Set(),
    bySession: new Map(),
  };
}

function attach<S>(lease: LeaseEntry<S>): void {
  const { leases, bySession } = lease.at;
  leases.add(lease);
  bySession.set(lease.session, (bySession.get(lease.session) ?? new Set()).add(lease));
}

function detach<S>(lease: LeaseEntry<S>): void {
  const { leases, bySession } = lease.at;
  leases.delete(lease);
  const own = bySession.get(lease.session);
  own?.delete(lease);
  if (own?.size === 0) bySession.delete(lease.session);
}

/** The leases that exclude this one: the whole address excludes all, a share the whole and its own blocks. */
function rivals<S>(entry: AddressEntry<S>, lease: Lease): LeaseEntry<S>[] {
  if (lease.kind === 'rsa-ip') return [...entry.leases];
  const holders = new Set([
    ...(entry.whole === null ? [] : [entry.whole]),
    ...(lease.ports === null ? [] : entry.ports.holders(lease.ports)),
    ...(lease.spis === null ? [] : entry.spis.holders(lease.spis)),
    ...(lease.ikeSpis == null ? [] : entry.ikeSpis.holders(lease.ikeSpis)),
  ]);
  return [...holders];
}

/** Throws ERR_MOORING_BAD_INPUT for what is no block. */
function checkBlock(block: Block | null, field: string): void {
  if (block === null) return;
  const { first, count } = block;
  if (count >= 1 && count <= 2 ** 31 && (count & (count - 1)) === 0 && first % count === 0) return;
  throw badInput(field, `${first}+${count}`, 'use a power of two as count and a multiple of it as first');
}

/** Throws ERR_MOORING_BAD_INPUT for a remote that no packet of the lease can reach. */
function remoteOf({ remote }: Lease, size: 4 | 16): DeclaredRemote | null {
  if (remote == null) return null;
  const address = parseAddress(remote.address, 'lease.remote.address');
  if (address.length === size) return { address, port: remote.port };
  throw badInput('lease.remote.address', remote.address, 'use the family of the leased address');
}

/**
 * True when only the whole datagram says whether a fragment belongs to a lease on the address: where the address is
 * shared, and where a lease is for one port of its remote.
 */
export function needsWholeDatagram<S>({ whole }: AddressEntry<S>): boolean {
  return whole === null || (whole.remote !== null && whole.remote.port !== null);
}

function conflict(lease: Lease, why: string): MooringError {
  return new MooringError('ERR_MOORING_LEASE_CONFLICT', `lease ${lease.id} on ${lease.address}: ${why}`, {
    data: { lease: lease.id, address: lease.address },
  });
}

function width(address: Uint8Array): 4 | 16 {
  return address.length === 4 ? 4 : 16;
}
