import type { Btf } from '../../linux/btf.ts';
import type { Elements } from './elements.ts';
import type { Grace } from './grace.ts';
import { mappedAddress } from './index-map.ts';
import type { PlacedLease } from './leases.ts';

/** Where the members of one lease in a session's element are, and what its flags mean. */
export interface LeaseLayout {
  readonly places: readonly { readonly at: number; readonly flagsAt: number }[];
  readonly address: number;
  readonly untilNs: number;
  readonly firstSpi: number;
  readonly firstPort: number;
  readonly portShift: number;
  readonly spiShift: number;
  readonly flag: Readonly<Record<'HELD' | 'WHOLE' | 'PORTS' | 'SPIS' | 'SLOW', number>>;
}

export function leaseLayout(btf: Btf): LeaseLayout {
  const session = btf.struct('session');
  const lease = btf.struct('lease');
  const flags = btf.enumeration('lease_flag');
  const flag = (name: string) => flags.get(`LEASE_${name}`)!;
  const count = session.at('leases').count;
  return {
    places: Array.from({ length: count }, (_, place) => ({
      at: session.at(`leases[${place}]`).offset,
      flagsAt: session.at(`lease_flags[${place}]`).offset,
    })),
    address: lease.at('address').offset,
    untilNs: lease.at('until_ns').offset,
    firstSpi: lease.at('first_spi').offset,
    firstPort: lease.at('first_port').offset,
    portShift: lease.at('port_shift').offset,
    spiShift: lease.at('spi_shift').offset,
    flag: {
      HELD: flag('HELD'),
      WHOLE: flag('WHOLE'),
      PORTS: flag('PORTS'),
      SPIS: flag('SPIS'),
      SLOW: flag('SLOW'),
    },
  };
}

/** The places for leases in one session's element. What the program may be reading is not written to. */
export class LeasePlaces {
  readonly #sessions: Elements;
  readonly #layout: LeaseLayout;
  readonly #slot: number;
  readonly #grace: Grace;
  readonly #freed: () => void;
  readonly #use: ('free' | 'used' | 'left' | 'ending')[];

  /** `freed` is called when a place can be used again. Places that are held already were left by a former process. */
  constructor(sessions: Elements, layout: LeaseLayout, slot: number, grace: Grace, freed: () => void) {
    this.#sessions = sessions;
    this.#layout = layout;
    this.#slot = slot;
    this.#grace = grace;
    this.#freed = freed;
    this.#use = layout.places.map(({ flagsAt }) =>
      sessions.octets[sessions.base(slot) + flagsAt] === 0 ? 'free' : 'left',
    );
  }

  /** A place for the lease, written; null when there is none. */
  take(lease: PlacedLease, untilNs: bigint): number | null {
    const left = this.#use.findIndex((use, place) => use === 'left' && this.#holds(place, lease));
    const place = left >= 0 ? left : this.#use.indexOf('free');
    if (place < 0) return null;
    if (left < 0) this.#write(place, lease);
    this.#use[place] = 'used';
    this.setUntil(place, untilNs);
    this.#setFlags(place, this.#flagsOf(lease));
    return place;
  }

  setUntil(place: number, untilNs: bigint): void {
    this.#sessions.storeU64(this.#at(place) + this.#layout.untilNs, untilNs);
  }

  /** Nobody's any more; taken again when no packet can be reading it. */
  give(place: number): void {
    this.#use[place] = 'ending';
    this.#setFlags(place, 0);
    this.#grace.after(() => {
      this.#use[place] = 'free';
      this.#freed();
    });
  }

  /** Gives back what a former process left and no lease took. */
  dropLeft(): void {
    for (const [place, use] of this.#use.entries()) if (use === 'left') this.give(place);
  }

  #at(place: number): number {
    return this.#sessions.base(this.#slot) + this.#layout.places[place]!.at;
  }

  #setFlags(place: number, flags: number): void {
    const at = this.#sessions.base(this.#slot) + this.#layout.places[place]!.flagsAt;
    this.#sessions.storeU8(at, flags);
  }

  #flagsOf(lease: PlacedLease): number {
    const { flag } = this.#layout;
    let flags = flag.HELD;
    if (lease.isWhole) flags |= flag.WHOLE;
    if (lease.ports !== null) flags |= flag.PORTS;
    if (lease.spis !== null) flags |= flag.SPIS;
    if (lease.isSlow) flags |= flag.SLOW;
    return flags;
  }

  #write(place: number, lease: PlacedLease): void {
    const { view } = this.#sessions;
    const { address, firstSpi, firstPort, portShift, spiShift } = this.#layout;
    const at = this.#at(place);
    this.#sessions.set(at + address, mappedAddress(lease.address));
    view.setUint32(at + firstSpi, lease.spis?.first ?? 0, true);
    view.setUint16(at + firstPort, lease.ports?.first ?? 0, true);
    view.setUint8(at + portShift, lease.portShift);
    view.setUint8(at + spiShift, lease.spiShift);
  }

  #holds(place: number, lease: PlacedLease): boolean {
    const { view, octets } = this.#sessions;
    const base = this.#at(place);
    const { address, firstSpi, firstPort, portShift, spiShift, places } = this.#layout;
    const flags = octets[this.#sessions.base(this.#slot) + places[place]!.flagsAt];
    return (
      flags === this.#flagsOf(lease) &&
      mappedAddress(lease.address).every((octet, i) => octets[base + address + i] === octet) &&
      view.getUint32(base + firstSpi, true) === (lease.spis?.first ?? 0) &&
      view.getUint16(base + firstPort, true) === (lease.ports?.first ?? 0) &&
      view.getUint8(base + portShift) === lease.portShift &&
      view.getUint8(base + spiShift) === lease.spiShift
    );
  }
}
