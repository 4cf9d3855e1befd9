import type { Btf } from '../../linux/btf.ts';
import { parseAddress } from '../../protocol/address.ts';
import type { FastAnchorSpec } from '../fast-path.ts';
import type { Addresses } from './addresses.ts';
import { boottimeOf } from './clock.ts';
import type { Elements } from './elements.ts';
import { mappedAddress } from './index-map.ts';
import type { MirrorAnchor } from './mirror-session.ts';
import type { Slots } from './slots.ts';

export interface AnchorLayout {
  readonly deadlineNs: number;
  readonly epoch: number;
  readonly endpointV4: number;
  readonly endpointV6: number;
  readonly id: number;
  readonly idOctets: number;
}

export function anchorLayout(btf: Btf): AnchorLayout {
  const anchor = btf.struct('anchor');
  return {
    deadlineNs: anchor.at('deadline_ns').offset,
    epoch: anchor.at('epoch').offset,
    endpointV4: anchor.at('endpoint_v4').offset,
    endpointV6: anchor.at('endpoint_v6').offset,
    id: anchor.at('id').offset,
    idOctets: anchor.at('id').size,
  };
}

/** The anchor's name in an element; empty for a place that nobody uses. */
export function anchorId(anchors: Elements, layout: AnchorLayout, slot: number): string {
  const octets = anchors.get(anchors.base(slot) + layout.id, layout.idOctets);
  const end = octets.indexOf(0);
  return Buffer.from(end < 0 ? octets : octets.subarray(0, end)).toString('latin1');
}

/** The anchors in the program: who forwards, until when. */
export class Anchors {
  /** Anchors of a former process that were not claimed since, by id. */
  readonly left = new Map<string, number>();
  readonly #anchors: Elements;
  readonly #layout: AnchorLayout;
  readonly #slots: Slots;
  readonly #addresses: Addresses;

  constructor(anchors: Elements, layout: AnchorLayout, slots: Slots, addresses: Addresses) {
    this.#anchors = anchors;
    this.#layout = layout;
    this.#slots = slots;
    this.#addresses = addresses;
  }

  /** `begins` is called when the anchor begins, before it forwards. */
  add(spec: FastAnchorSpec, begins: (anchor: MirrorAnchor, resumes: boolean) => void): MirrorAnchor {
    const claimed = this.left.get(spec.id);
    this.left.delete(spec.id);
    const slot = claimed ?? this.#slots.take();
    const endpoints = spec.endpoints.map((text) => parseAddress(text));
    if (slot !== null) this.#write(slot, spec.id, endpoints, claimed === undefined);
    const anchor: MirrorAnchor = {
      id: spec.id,
      slot,
      endpoints,
      sessions: new Set(),
      isBegun: false,
      begin: (epoch, untilMs, resumes) => {
        anchor.isBegun = true;
        begins(anchor, resumes);
        if (slot === null) return;
        this.#anchors.setU64(this.#anchors.base(slot) + this.#layout.epoch, epoch);
        anchor.deadline(untilMs);
        for (const endpoint of endpoints) this.#addresses.setEndpoint(endpoint, slot);
      },
      deadline: (untilMs) => {
        if (slot === null) return;
        this.#anchors.storeU64(this.#anchors.base(slot) + this.#layout.deadlineNs, boottimeOf(untilMs));
      },
      drop: () => {
        if (slot === null) return;
        for (const endpoint of anchor.isBegun ? endpoints : []) this.#addresses.setEndpoint(endpoint, null);
        this.end(slot);
      },
    };
    return anchor;
  }

  #write(slot: number, id: string, endpoints: readonly Uint8Array[], isFresh: boolean): void {
    const at = this.#anchors.base(slot);
    if (isFresh) {
      this.#anchors.clear(slot);
      this.#anchors.set(at + this.#layout.id, Buffer.from(id, 'latin1'));
    }
    const { endpointV4, endpointV6 } = this.#layout;
    for (const endpoint of endpoints) {
      this.#anchors.set(at + (endpoint.length === 4 ? endpointV4 : endpointV6), mappedAddress(endpoint));
    }
  }

  /** Nothing is forwarded for it any more; its place is used again when no packet can be under way. */
  end(slot: number): void {
    const at = this.#anchors.base(slot);
    this.#anchors.storeU64(at + this.#layout.deadlineNs, 0n);
    this.#slots.giveBack(slot, () => this.#anchors.clear(slot));
  }

  deadlineNs(slot: number): bigint {
    return this.#anchors.u64(this.#anchors.base(slot) + this.#layout.deadlineNs);
  }

  id(slot: number): string {
    return anchorId(this.#anchors, this.#layout, slot);
  }
}
