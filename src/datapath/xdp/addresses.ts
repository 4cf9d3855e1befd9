import { formatAddress } from '../../protocol/address.ts';
import type { IndexMap } from './index-map.ts';
import type { PlacedLease } from './leases.ts';

export interface AddressState {
  readonly octets: Uint8Array;
  readonly leases: Set<PlacedLease>;
  /** Of its port blocks: that of the smallest, under which a larger one has several entries; null: there was none. */
  portShift: number | null;
  /** It was larger once. */
  isNarrowed: boolean;
  /** It has an entry that was written here. */
  isWritten: boolean;
  /** Slot of the anchor whose tunnel endpoint it is. */
  endpoint: number | null;
  isHost: boolean;
}

/** What every address means to the program: one entry each, written anew whenever something about it changes. */
export class Addresses {
  readonly #index: IndexMap;
  readonly #states = new Map<string, AddressState>();
  #host = new Set<string>();

  constructor(index: IndexMap) {
    this.#index = index;
  }

  leasesOn(address: Uint8Array): readonly PlacedLease[] {
    return [...(this.#states.get(formatAddress(address))?.leases ?? [])];
  }

  addLease(lease: PlacedLease): void {
    const state = this.#state(lease.address);
    state.leases.add(lease);
    lease.at = state;
    // Under the shift of a former process the program finds what that has written, until it is written again.
    state.portShift ??= this.#index.leftPortShift(lease.address);
    this.refresh(lease.address);
  }

  /** The shift that port blocks of the address are in the index under; null: there is none. */
  portShift(address: Uint8Array): number | null {
    return this.#states.get(formatAddress(address))?.portShift ?? null;
  }

  /** Nothing may be in the index under a former one. */
  setPortShift(address: Uint8Array, portShift: number): void {
    const state = this.#state(address);
    state.isNarrowed ||= state.portShift !== null;
    state.portShift = portShift;
  }

  removeLease(lease: PlacedLease): void {
    const state = this.#states.get(formatAddress(lease.address));
    if (state === undefined) return;
    state.leases.delete(lease);
    lease.at = null;
    if (state.leases.size === 0) {
      state.portShift = null;
      state.isNarrowed = false;
    }
    this.refresh(lease.address);
  }

  setEndpoint(address: Uint8Array, anchorSlot: number | null): void {
    this.#state(address).endpoint = anchorSlot;
    this.refresh(address);
  }

  setHost(addresses: readonly Uint8Array[]): void {
    const host = new Set(addresses.map(formatAddress));
    for (const address of addresses) this.#state(address).isHost = true;
    for (const former of this.#host) {
      const state = this.#states.get(former);
      if (state === undefined || host.has(former)) continue;
      state.isHost = false;
      this.refresh(state.octets);
    }
    this.#host = host;
    for (const address of addresses) this.refresh(address);
  }

  /** Writes the address's entry as it is now. */
  refresh(address: Uint8Array): void {
    const name = formatAddress(address);
    const state = this.#states.get(name);
    if (state === undefined) return;
    const { flag, noBlocks } = this.#index;
    const leases = [...state.leases].filter(({ session }) => session.isBegun);
    const whole = leases.find((lease) => lease.isWhole);
    let flags = (state.isHost ? flag.HOST : 0) | (state.endpoint === null ? 0 : flag.ENDPOINT);
    let slot = state.endpoint ?? 0;
    let lease = 0;
    let portShift = noBlocks;
    let spiShift = noBlocks;
    if (whole?.place != null) {
      flags |= flag.WHOLE;
      slot = whole.session.slot;
      lease = whole.place;
    } else if (leases.length > 0 && whole === undefined) {
      flags |= flag.SHARED;
      // What a former process left under a larger shift is not found under this one.
      const isHidden = state.isNarrowed && this.#index.hasLeft;
      if (!isHidden && leases.every(({ isIndexed }) => isIndexed)) flags |= flag.COMPLETE;
      for (const one of leases) {
        if (one.ports !== null) portShift = state.portShift ?? one.portShift;
        if (one.spis !== null) spiShift = one.spiShift;
      }
    }
    if (flags !== 0) {
      state.isWritten = true;
      this.#index.put('ADDRESS', address, 0, { slot, flags, portShift, spiShift, lease });
      return;
    }
    if (state.isWritten) this.#index.remove('ADDRESS', address, 0);
    state.isWritten = false;
    if (state.leases.size === 0) this.#states.delete(name);
  }

  #state(address: Uint8Array): AddressState {
    const name = formatAddress(address);
    const known = this.#states.get(name);
    if (known !== undefined) return known;
    const state: AddressState = {
      ...{ octets: address, leases: new Set<PlacedLease>(), isWritten: false },
      ...{ portShift: null, isNarrowed: false, endpoint: null, isHost: false },
    };
    this.#states.set(name, state);
    return state;
  }
}
