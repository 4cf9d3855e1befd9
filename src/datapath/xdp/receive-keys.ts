import type { WindowState } from '../../tunnel/window.ts';
import type { FastKey } from '../fast-path.ts';
import { boottimeOf, NEVER_NS } from './clock.ts';
import type { Elements } from './elements.ts';
import type { ReplayWindows } from './replay-windows.ts';
import type { SessionLayout } from './session-layout.ts';
import type { Slots } from './slots.ts';

interface Place {
  /** Offset in the sessions' memory. */
  readonly at: number;
  keyNumber: number;
  /** Hexadecimal; empty: no key. */
  key: string;
  window: number;
  /** Rises with every key. */
  order: number;
}

const EMPTY: WindowState = { highest: 0, bitmap: '' };
const PHASES = 3;

/** The DATA keys that the program receives one session's uplink under: the one in force and the one before it. */
export class ReceiveKeys {
  readonly #sessions: Elements;
  readonly #layout: SessionLayout;
  readonly #windows: ReplayWindows;
  readonly #windowSlots: Slots;
  readonly #tell: (keyNumber: number, window: WindowState) => void;
  readonly #places: readonly Place[];
  /** Windows of keys that had to give way, until their slots are given out again. */
  readonly #ending = new Map<number, number>();
  #order = 0;

  /** `tell`: see `FastListener.fastWindow`. */
  constructor(
    sessions: Elements,
    layout: SessionLayout,
    slot: number,
    windows: ReplayWindows,
    windowSlots: Slots,
    tell: (keyNumber: number, window: WindowState) => void,
  ) {
    this.#tell = tell;
    this.#sessions = sessions;
    this.#layout = layout;
    this.#windows = windows;
    this.#windowSlots = windowSlots;
    const { receive } = layout;
    this.#places = receive.places.map((offset) => {
      const at = sessions.base(slot) + offset;
      const isLeft = sessions.u64(at + receive.untilNs) !== 0n;
      return {
        at,
        keyNumber: sessions.u32(at + receive.keyNumber),
        key: isLeft ? hex(sessions.get(at + receive.key, 16)) : '',
        window: sessions.u32(at + receive.window),
        order: 0,
      };
    });
  }

  /** See `FastSession.receive`. */
  add({ octets, name }: FastKey, previousUntilMs: number, window: WindowState | null): void {
    const { keyNumber } = name;
    const key = hex(octets);
    this.#order += 1;
    const known = this.#places.find((place) => place.key === key && place.keyNumber === keyNumber);
    const phase = keyNumber & PHASES;
    // The wire tells keys apart by their phase alone: of two with the same, the older one gives way.
    const place =
      known ??
      this.#places.find((one) => one.key !== '' && (one.keyNumber & PHASES) === phase) ??
      this.#places.reduce((oldest, one) => (rank(one) < rank(oldest) ? one : oldest));
    for (const other of this.#places) {
      if (other !== place && other.key !== '') this.#setUntil(other, boottimeOf(previousUntilMs));
    }
    place.order = this.#order;
    if (known !== undefined) {
      this.#setUntil(place, NEVER_NS);
      return;
    }
    this.#clear(place);
    const slot = this.#windowSlots.take();
    // Without a window nothing may be admitted: the userspace engine receives under it alone.
    if (slot === null) return;
    this.#windows.write(slot, window ?? EMPTY);
    this.#write(place, octets, keyNumber, slot);
  }

  window(keyNumber: number): WindowState | null {
    const slot =
      this.#places.find((place) => place.key !== '' && place.keyNumber === keyNumber)?.window ??
      this.#ending.get(keyNumber);
    return slot === undefined ? null : this.#windows.read(slot);
  }

  clear(): void {
    for (const place of this.#places) this.#clear(place);
  }

  /** Ends what a former process received under and this one has not taken over. */
  dropLeft(): void {
    for (const place of this.#places) if (place.order === 0) this.#clear(place);
  }

  #clear(place: Place): void {
    if (place.key === '') return;
    const { receive } = this.#layout;
    const { keyNumber, window } = place;
    this.#sessions.storeU64(place.at + receive.untilNs, 0n);
    place.key = '';
    place.order = 0;
    this.#ending.set(keyNumber, window);
    this.#tell(keyNumber, this.#windows.read(window));
    this.#windowSlots.giveBack(window, () => {
      this.#tell(keyNumber, this.#windows.read(window));
      if (this.#ending.get(keyNumber) === window) this.#ending.delete(keyNumber);
    });
  }

  #setUntil(place: Place, untilNs: bigint): void {
    this.#sessions.storeU64(place.at + this.#layout.receive.untilNs, untilNs);
  }

  #write(place: Place, octets: Uint8Array, keyNumber: number, window: number): void {
    const { receive } = this.#layout;
    const { at } = place;
    const version = this.#sessions.u32(at + receive.version) | 1;
    this.#sessions.storeU32(at + receive.version, version);
    this.#sessions.setU32(at + receive.keyNumber, keyNumber);
    this.#sessions.set(at + receive.key, octets);
    this.#sessions.setU32(at + receive.window, window);
    this.#sessions.storeU64(at + receive.untilNs, NEVER_NS);
    this.#sessions.storeU32(at + receive.version, version + 1);
    place.keyNumber = keyNumber;
    place.key = hex(octets);
    place.window = window;
  }
}

function rank(place: Place): number {
  return place.key === '' ? -1 : place.order;
}

function hex(octets: Uint8Array): string {
  return Buffer.from(octets).toString('hex');
}
