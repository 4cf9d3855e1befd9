import { type PacketHeaders, sameOctets, u16, u32 } from './packet.ts';

/** Bounds of what waits for its other fragments. An owner is whom a flood may hurt besides the flooder: nobody. */
export const FRAGMENTS = {
  /** RFC 1122 §3.3.2, RFC 8200 §4.5. */
  keepMs: 60_000,
  perDatagram: 128,
  datagramsPerOwner: 64,
  octetsPerOwner: 512 * 1024,
  octets: 16 * 1024 * 1024,
} as const;

/** What a stored fragment costs beside its octets. */
const OVERHEAD_OCTETS = 128;
const MOST_OCTETS = 65_535;

interface Piece {
  readonly start: number;
  readonly end: number;
  /** The fragment as it came, behind the headroom. */
  readonly packet: Uint8Array;
}

interface Datagram<O> {
  readonly owner: O;
  readonly key: string;
  readonly untilMs: number;
  pieces: Piece[];
  /** Octets of payload here, and in all when the last fragment has come. */
  have: number;
  end: number | null;
  /** Memory that it is charged for. */
  charged: number;
  /** Overlapping fragments: nothing of it is used, nor what comes later (RFC 8200 §4.5). */
  spoilt: boolean;
}

interface Owned<O> {
  readonly datagrams: Map<string, Datagram<O>>;
  charged: number;
}

/** What became of a fragment: all of its datagram in order of offset, or why there is nothing to decide yet. */
export type FragmentOutcome =
  | readonly Uint8Array[]
  | 'fragment-waits'
  | 'fragment-repeated'
  | 'fragment-overlap'
  | 'fragment-malformed';

/**
 * Virtual reassembly: keeps fragments until their datagram is whole, in any order, so that the first one can speak for
 * all; they go on as they came. Bounded in time, and in memory for each owner (a shared address, a session) and for
 * all: the oldest datagram gives way.
 */
export class FragmentStore<O> {
  readonly #headroom: number;
  readonly #owners = new Map<O, Owned<O>>();
  /** Oldest first: all are kept equally long. */
  readonly #all = new Set<Datagram<O>>();
  #charged = 0;
  #evicted = 0;

  /** `headroom`: octets left free in front of every fragment that is given back. */
  constructor(headroom: number) {
    this.#headroom = headroom;
  }

  /** Datagrams that wait, and the memory they are charged for. */
  get load(): { readonly datagrams: number; readonly octets: number } {
    return { datagrams: this.#all.size, octets: this.#charged };
  }

  /** Datagrams that gave way to others since the last call. */
  takeEvicted(): number {
    const evicted = this.#evicted;
    this.#evicted = 0;
    return evicted;
  }

  /** When `expire` may have something to forget. */
  get nextMs(): number {
    const [oldest] = this.#all;
    return oldest?.untilMs ?? Number.POSITIVE_INFINITY;
  }

  /** Forgets what has waited for too long; how many datagrams. */
  expire(nowMs: number): number {
    let gone = 0;
    for (const datagram of this.#all) {
      if (nowMs < datagram.untilMs) break;
      this.#forget(datagram);
      gone += 1;
    }
    return gone;
  }

  /** Takes a copy of a fragment. `packet` is a `first` or `later` one. */
  add(owner: O, buffer: Uint8Array, packet: PacketHeaders, nowMs: number): FragmentOutcome {
    const range = rangeOf(buffer, packet);
    if (range === null) return 'fragment-malformed';
    const { start, end, more } = range;
    const datagram = this.#datagram(owner, keyOf(buffer, packet), nowMs);
    if (datagram.spoilt) return 'fragment-overlap';
    const { at, length } = packet;
    for (const piece of datagram.pieces) {
      if (end <= piece.start || piece.end <= start) continue;
      const repeated =
        piece.packet.length === this.#headroom + length &&
        start === piece.start &&
        sameOctets(
          piece.packet,
          this.#headroom + length - (end - start),
          buffer,
          at + length - (end - start),
          end - start,
        );
      return repeated ? 'fragment-repeated' : this.#spoil(datagram);
    }
    const last = more ? datagram.end : end;
    if (last !== null && (end > last || datagram.pieces.some((piece) => piece.end > last))) {
      return this.#spoil(datagram);
    }
    if (datagram.end !== null && !more) return this.#spoil(datagram);
    datagram.end = last;
    if (datagram.pieces.length >= FRAGMENTS.perDatagram) return this.#spoil(datagram);
    const copy = new Uint8Array(this.#headroom + length);
    copy.set(buffer.subarray(at, at + length), this.#headroom);
    datagram.pieces.push({ start, end, packet: copy });
    datagram.have += end - start;
    this.#charge(datagram, copy.length + OVERHEAD_OCTETS);
    if (datagram.have === datagram.end) {
      this.#forget(datagram);
      return datagram.pieces.sort((a, b) => a.start - b.start).map((piece) => piece.packet);
    }
    this.#makeRoom(datagram);
    return 'fragment-waits';
  }

  #datagram(owner: O, key: string, nowMs: number): Datagram<O> {
    let owned = this.#owners.get(owner);
    if (owned === undefined) {
      owned = { datagrams: new Map(), charged: 0 };
      this.#owners.set(owner, owned);
    }
    const known = owned.datagrams.get(key);
    if (known !== undefined && nowMs < known.untilMs) return known;
    if (known !== undefined) this.#forget(known);
    const untilMs = nowMs + FRAGMENTS.keepMs;
    const datagram: Datagram<O> = {
      owner,
      key,
      untilMs,
      pieces: [],
      have: 0,
      end: null,
      charged: 0,
      spoilt: false,
    };
    owned.datagrams.set(key, datagram);
    this.#owners.set(owner, owned);
    this.#all.add(datagram);
    this.#charge(datagram, OVERHEAD_OCTETS);
    return datagram;
  }

  #charge(datagram: Datagram<O>, octets: number): void {
    datagram.charged += octets;
    this.#charged += octets;
    this.#owners.get(datagram.owner)!.charged += octets;
  }

  /** Oldest first, of the owner and then of all; `newest` itself when it alone is too much. */
  #makeRoom(newest: Datagram<O>): void {
    const owned = this.#owners.get(newest.owner)!;
    for (const oldest of owned.datagrams.values()) {
      const fits = owned.charged <= FRAGMENTS.octetsPerOwner;
      if (fits && owned.datagrams.size <= FRAGMENTS.datagramsPerOwner) break;
      this.#evict(oldest);
    }
    for (const oldest of this.#all) {
      if (this.#charged <= FRAGMENTS.octets) break;
      this.#evict(oldest);
    }
  }

  #evict(datagram: Datagram<O>): void {
    this.#forget(datagram);
    this.#evicted += 1;
  }

  /** Keeps the name of the datagram, so that the rest of it is refused too. */
  #spoil(datagram: Datagram<O>): 'fragment-overlap' {
    datagram.spoilt = true;
    datagram.pieces = [];
    this.#charge(datagram, OVERHEAD_OCTETS - datagram.charged);
    this.#makeRoom(datagram);
    return 'fragment-overlap';
  }

  #forget(datagram: Datagram<O>): void {
    const owned = this.#owners.get(datagram.owner);
    if (owned === undefined || !this.#all.delete(datagram)) return;
    this.#charge(datagram, -datagram.charged);
    owned.datagrams.delete(datagram.key);
    if (owned.datagrams.size === 0) this.#owners.delete(datagram.owner);
  }
}

/** Octets of the datagram that the fragment carries; null when no honest fragment looks like this. */
function rangeOf(buffer: Uint8Array, packet: PacketHeaders) {
  const { at, version, fragmentAt } = packet;
  const field = version === 4 ? u16(buffer, at + 6) : u16(buffer, fragmentAt + 2);
  const start = version === 4 ? (field & 0x1fff) * 8 : field & 0xfff8;
  const more = (version === 4 ? field & 0x2000 : field & 1) !== 0;
  const dataAt = version === 4 ? packet.payloadAt : fragmentAt + 8;
  const octets = at + packet.length - dataAt;
  const end = start + octets;
  if (octets === 0 || end > MOST_OCTETS || (more && octets % 8 !== 0)) return null;
  return { start, end, more };
}

/** Source, destination and identification; with IPv4 the protocol too (RFC 791 §3.2, RFC 8200 §4.5). */
function keyOf(buffer: Uint8Array, packet: PacketHeaders): string {
  const { at, version, sourceAt, addressLength } = packet;
  const addresses = String.fromCharCode(...buffer.subarray(sourceAt, sourceAt + 2 * addressLength));
  const id = fragmentId(buffer, packet);
  const name = version === 4 ? id * 256 + buffer[at + 9]! : id;
  return `${version}${addresses}${name}`;
}

/** The identification by which a receiver knows the fragments of one datagram. */
export function fragmentId(buffer: Uint8Array, packet: PacketHeaders): number {
  return packet.version === 4 ? u16(buffer, packet.at + 4) : u32(buffer, packet.fragmentAt + 4);
}
