import type { BpfMap } from '../../linux/bpf-map.ts';
import type { Btf } from '../../linux/btf.ts';
import { allocate } from '../../linux/libc.ts';
import { MooringError } from '../../protocol/errors.ts';

export type IndexKind = 'ADDRESS' | 'PORTS' | 'SPIS' | 'SESSION';

export interface IndexValue {
  readonly slot: number;
  readonly flags: number;
  readonly portShift: number;
  readonly spiShift: number;
  /** Which of the session's leases. */
  readonly lease: number;
}

const MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** 16 octets as the program has addresses: IPv4 as ::ffff:a.b.c.d. */
export function mappedAddress(address: Uint8Array): Uint8Array {
  if (address.length === 16) return address;
  const octets = new Uint8Array(16);
  octets.set(MAPPED);
  octets.set(address, 12);
  return octets;
}

/** The 4 or 16 octets that `mappedAddress` was made of. */
export function plainAddress(octets: Uint8Array): Uint8Array {
  return MAPPED.every((octet, at) => octets[at] === octet) ? octets.slice(12) : octets;
}

/**
 * The program's one look-up: whose an address, a block or a session index is. Entries that a former process left are
 * dropped by `dropLeft` unless they were written again.
 */
export class IndexMap {
  readonly flag: Readonly<Record<'WHOLE' | 'SHARED' | 'COMPLETE' | 'ENDPOINT' | 'HOST', number>>;
  readonly noBlocks = 0xff;
  readonly #map: BpfMap;
  readonly #kinds: Readonly<Record<IndexKind, number>>;
  readonly #key: Uint8Array;
  readonly #keyView: DataView;
  readonly #value: Uint8Array;
  readonly #valueView: DataView;
  readonly #at: Readonly<Record<'address' | 'number' | 'kind', number>>;
  readonly #in: Readonly<Record<'slot' | 'flags' | 'portShift' | 'spiShift' | 'lease', number>>;
  readonly #onAddress: () => void;
  /** Keys of a former process that were not written since. */
  readonly #left = new Set<string>();

  /** `onAddress` is called after every change of an ADDRESS. */
  constructor(map: BpfMap, btf: Btf, onAddress: () => void) {
    const [key, value] = [btf.struct('index_key'), btf.struct('index_value')];
    const [kinds, flags] = [btf.enumeration('index_kind'), btf.enumeration('index_flag')];
    const kind = (name: string) => kinds.get(`INDEX_${name}`)!;
    const flag = (name: string) => flags.get(`INDEX_${name}`)!;
    this.#map = map;
    this.#onAddress = onAddress;
    this.#kinds = {
      ADDRESS: kind('ADDRESS'),
      PORTS: kind('PORTS'),
      SPIS: kind('SPIS'),
      SESSION: kind('SESSION'),
    };
    this.flag = {
      WHOLE: flag('WHOLE'),
      SHARED: flag('SHARED'),
      COMPLETE: flag('COMPLETE'),
      ENDPOINT: flag('ENDPOINT'),
      HOST: flag('HOST'),
    };
    this.#key = allocate(map.info.keyBytes);
    this.#keyView = new DataView(this.#key.buffer);
    this.#value = allocate(map.info.valueBytes);
    this.#valueView = new DataView(this.#value.buffer);
    this.#at = {
      address: key.at('address').offset,
      number: key.at('number').offset,
      kind: key.at('kind').offset,
    };
    this.#in = {
      slot: value.at('slot').offset,
      flags: value.at('flags').offset,
      portShift: value.at('port_shift').offset,
      spiShift: value.at('spi_shift').offset,
      lease: value.at('lease').offset,
    };
    for (const left of map.keys()) this.#left.add(Buffer.from(left).toString('latin1'));
  }

  /** False when there is no room. */
  put(kind: IndexKind, address: Uint8Array, number: number, value: Partial<IndexValue>): boolean {
    this.#select(kind, address, number);
    const view = this.#valueView;
    view.setUint32(this.#in.slot, value.slot ?? 0, true);
    view.setUint8(this.#in.flags, value.flags ?? 0);
    view.setUint8(this.#in.portShift, value.portShift ?? this.noBlocks);
    view.setUint8(this.#in.spiShift, value.spiShift ?? this.noBlocks);
    view.setUint8(this.#in.lease, value.lease ?? 0);
    try {
      this.#map.update(this.#key, this.#value);
    } catch (error) {
      if (
        error instanceof MooringError &&
        ['E2BIG', 'ENOSPC', 'ENOMEM'].includes(String(error.data.errnoName))
      ) {
        return false;
      }
      throw error;
    }
    if (kind === 'ADDRESS') this.#onAddress();
    if (this.#left.size > 0) this.#left.delete(Buffer.from(this.#key).toString('latin1'));
    return true;
  }

  /** A former process wrote what this one has neither written again nor dropped. */
  get hasLeft(): boolean {
    return this.#left.size > 0;
  }

  /** The shift of an address's port blocks in what a former process wrote of it and this one has not written again. */
  leftPortShift(address: Uint8Array): number | null {
    this.#select('ADDRESS', address, 0);
    if (!this.#left.has(Buffer.from(this.#key).toString('latin1'))) return null;
    if (!this.#map.lookup(this.#key, this.#value)) return null;
    const portShift = this.#valueView.getUint8(this.#in.portShift);
    return portShift === this.noBlocks ? null : portShift;
  }

  /** Removes an entry; with `slot`, only when it names that one. */
  remove(kind: IndexKind, address: Uint8Array, number: number, slot?: number): void {
    this.#select(kind, address, number);
    if (slot !== undefined) {
      if (!this.#map.lookup(this.#key, this.#value)) return;
      if (this.#valueView.getUint32(this.#in.slot, true) !== slot) return;
    }
    this.#map.delete(this.#key);
    if (kind === 'ADDRESS') this.#onAddress();
    if (this.#left.size > 0) this.#left.delete(Buffer.from(this.#key).toString('latin1'));
  }

  /** Drops what a former process wrote for sessions by their slots, or everything of its, and this one did not write again. */
  dropLeft(slots?: ReadonlySet<number>): void {
    for (const left of [...this.#left]) {
      this.#key.set(Buffer.from(left, 'latin1'));
      if (slots !== undefined) {
        const isAddress = this.#keyView.getUint8(this.#at.kind) === this.#kinds.ADDRESS;
        if (!this.#map.lookup(this.#key, this.#value)) {
          this.#left.delete(left);
          continue;
        }
        const isWhole = (this.#valueView.getUint8(this.#in.flags) & this.flag.WHOLE) !== 0;
        if (!slots.has(this.#valueView.getUint32(this.#in.slot, true)) || (isAddress && !isWhole)) continue;
      }
      this.#map.delete(this.#key);
      this.#left.delete(left);
    }
    this.#onAddress();
  }

  #select(kind: IndexKind, address: Uint8Array, number: number): void {
    this.#key.fill(0);
    this.#key.set(mappedAddress(address), this.#at.address);
    this.#keyView.setUint32(this.#at.number, number);
    this.#keyView.setUint8(this.#at.kind, this.#kinds[kind]);
  }
}
