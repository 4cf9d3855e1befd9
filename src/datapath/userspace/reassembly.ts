import { FragmentStore } from '../decision/fragments.ts';
import type { PacketHeaders } from '../decision/packet.ts';
import type { Counters } from './counters.ts';

export type Direction = 'uplink' | 'downlink';

/** Virtual reassembly of both directions: whole datagrams come out as the fragments that went in. */
export class Reassembly<Address, Session> {
  readonly #counters: Counters;
  readonly #stores: { readonly downlink: FragmentStore<Address>; readonly uplink: FragmentStore<Session> };

  constructor(counters: Counters, headroom: number) {
    this.#counters = counters;
    this.#stores = { downlink: new FragmentStore(headroom), uplink: new FragmentStore(headroom) };
  }

  /** The datagram's fragments, first one first, when this was what it lacked; otherwise null, counted by reason. */
  fromNetwork(to: Address, buffer: Uint8Array, packet: PacketHeaders, nowMs: number) {
    return this.#done('downlink', this.#stores.downlink.add(to, buffer, packet, nowMs));
  }

  /** The same for a fragment that a device sent. */
  fromDevice(from: Session, buffer: Uint8Array, packet: PacketHeaders, nowMs: number) {
    return this.#done('uplink', this.#stores.uplink.add(from, buffer, packet, nowMs));
  }

  get nextMs(): number {
    return Math.min(this.#stores.downlink.nextMs, this.#stores.uplink.nextMs);
  }

  expire(nowMs: number): void {
    for (const direction of ['downlink', 'uplink'] as const) {
      const gone = this.#stores[direction].expire(nowMs);
      if (gone > 0) this.#counters.count(direction, 'fragment-timeout', gone);
    }
  }

  #done(direction: Direction, outcome: ReturnType<FragmentStore<unknown>['add']>) {
    const evicted = this.#stores[direction].takeEvicted();
    if (evicted > 0) this.#counters.count(direction, 'fragment-evicted', evicted);
    if (typeof outcome !== 'string') return outcome;
    this.#counters.count(direction, outcome);
    return null;
  }
}
