import { parseAddress } from '../../protocol/address.ts';
import type { FastWay } from '../fast-path.ts';
import { boottimeOf } from './clock.ts';
import type { Elements } from './elements.ts';
import type { Grace } from './grace.ts';
import { mappedAddress } from './index-map.ts';
import type { SessionLayout } from './session-layout.ts';

interface Phase {
  /** Hexadecimal; empty: no key was sent under in this phase yet. */
  key: string;
  keyNumber: number;
  /** Above zero while a packet may be under way with a key of this phase that is not in use any more. */
  ending: number;
}

/** A key that packets go under. */
interface UsedKey {
  readonly phase: Phase;
  readonly octets: Uint8Array;
  readonly keyNumber: number;
  readonly deviceBoot: bigint;
}

/**
 * Where one session's downlink goes. A way is written beside the one that packets read, and then becomes the way by one
 * store. The number of a packet is fetched by the phase of its key, so a phase goes to another key only when no packet
 * can be under way with the key before: until then packets go under the former key, or there is no way.
 */
export class WayWriter {
  readonly #ways: Elements;
  readonly #layout: SessionLayout;
  readonly #base: number;
  readonly #grace: Grace;
  readonly #phases: readonly Phase[];
  readonly #ready: () => void;
  #wanted: FastWay | null = null;
  /** What the present path holds; empty: nothing of ours. */
  #written = '';
  #used: UsedKey | null = null;
  #forwards = false;

  /** `ready` is called when a way that could not be taken at once can be. */
  constructor(ways: Elements, layout: SessionLayout, slot: number, grace: Grace, ready: () => void) {
    this.#ready = ready;
    this.#ways = ways;
    this.#layout = layout;
    this.#base = ways.base(slot);
    this.#grace = grace;
    this.#phases = layout.way.lastSequence.map(() => ({ key: '', keyNumber: 0, ending: 0 }));
  }

  /** Takes over the way that a former process left: its key is in use, and every other phase may be. */
  takeOver(deviceBoot: bigint): void {
    const { way, path } = this.#layout;
    const at = this.#presentPath();
    const octets = this.#ways.get(at, path.size);
    const keyNumber = this.#ways.u32(at + path.keyNumber);
    for (const phase of this.#phases) this.#retire(phase);
    if (octets[path.family] === 0) return;
    const phase = this.#phaseOf(keyNumber);
    const key = octets.slice(path.key, path.key + 16);
    phase.key = hex(key);
    phase.keyNumber = keyNumber;
    this.#used = { phase, octets: key, keyNumber, deviceBoot };
    this.#written = hex(octets);
    this.#forwards = this.#ways.u32(this.#base + way.state) !== this.#layout.wayState.none;
  }

  /** It forwards, or will at the end of a hold. */
  get forwards(): boolean {
    return this.#forwards;
  }

  set(way: FastWay | null): void {
    this.#wanted = way;
    this.#apply();
  }

  nextSequence(keyNumber: number): number | null {
    const phase = this.#phaseOf(keyNumber);
    if (phase.key === '' || phase.keyNumber !== keyNumber) return null;
    return this.#ways.u32(this.#sequenceAt(phase)) + 1;
  }

  #apply(): void {
    const way = this.#wanted;
    const { wayState } = this.#layout;
    if (way === null) {
      this.#setState(wayState.none);
      return;
    }
    const key = this.#keyFor(way);
    if (key === null) {
      this.#setState(wayState.none);
      return;
    }
    if (way.heldUntilMs !== null) {
      this.#ways.storeU64(this.#base + this.#layout.way.holdUntilNs, boottimeOf(way.heldUntilMs));
      this.#setState(wayState.hold);
    }
    const former = this.#used;
    this.#flip(this.#encode(way, key));
    this.#used = key;
    if (former !== null && former.phase !== key.phase) this.#retire(former.phase);
    if (way.heldUntilMs === null) this.#setState(wayState.active);
  }

  /** The key that a way goes under now: its own, or the one in use while its own must wait; null when neither can be. */
  #keyFor({ key, nextSequence }: FastWay): UsedKey | null {
    const { octets } = key;
    const { keyNumber, deviceBoot } = key.name;
    const text = hex(octets);
    const phase = this.#phaseOf(keyNumber);
    if (phase.key !== text || phase.keyNumber !== keyNumber) {
      const used = this.#used;
      if (used?.phase === phase) {
        this.#used = null;
        this.#retire(phase);
        return null;
      }
      // The device goes on receiving under the key before; another incarnation of it never had that.
      if (phase.ending > 0) return used !== null && used.deviceBoot === deviceBoot ? used : null;
      phase.key = text;
      phase.keyNumber = keyNumber;
      this.#ways.storeU32(this.#sequenceAt(phase), nextSequence - 1);
    }
    return { phase, octets, keyNumber, deviceBoot };
  }

  /** A phase that packets may still be under way with; its key's number is kept for whoever asks. */
  #retire(phase: Phase): void {
    phase.ending += 1;
    this.#grace.after(() => {
      phase.ending -= 1;
      const wanted = this.#wanted;
      if (phase.ending > 0 || wanted === null || this.#phaseOf(wanted.key.name.keyNumber) !== phase) return;
      if (this.#used === null) this.#ready();
      else this.#apply();
    });
  }

  #flip(octets: Uint8Array): void {
    const text = hex(octets);
    if (text === this.#written) return;
    const { gen, paths } = this.#layout.way;
    const present = this.#ways.u64(this.#base + gen);
    this.#ways.set(this.#base + paths[Number((present + 1n) & 1n) as 0 | 1], octets);
    this.#ways.storeU64(this.#base + gen, present + 1n);
    this.#written = text;
  }

  #encode({ path: to }: FastWay, key: UsedKey): Uint8Array {
    const { path } = this.#layout;
    const octets = new Uint8Array(path.size);
    const view = new DataView(octets.buffer);
    const address = parseAddress(to.address);
    octets.set(mappedAddress(address), path.address);
    octets.set(key.octets, path.key);
    view.setUint32(path.keyNumber, key.keyNumber, true);
    view.setUint16(path.port, to.port, true);
    view.setUint8(path.family, address.length === 4 ? 4 : 6);
    return octets;
  }

  #setState(state: number): void {
    this.#ways.storeU32(this.#base + this.#layout.way.state, state);
    this.#forwards = state !== this.#layout.wayState.none;
  }

  #phaseOf(keyNumber: number): Phase {
    return this.#phases[keyNumber & (this.#phases.length - 1)]!;
  }

  #sequenceAt(phase: Phase): number {
    return this.#base + this.#layout.way.lastSequence[this.#phases.indexOf(phase)]!;
  }

  #presentPath(): number {
    const { gen, paths } = this.#layout.way;
    return this.#base + paths[Number(this.#ways.u64(this.#base + gen) & 1n) as 0 | 1];
  }
}

function hex(octets: Uint8Array): string {
  return Buffer.from(octets).toString('hex');
}
