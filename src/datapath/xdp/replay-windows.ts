import type { BpfMap } from '../../linux/bpf-map.ts';
import type { Btf } from '../../linux/btf.ts';
import type { WindowState } from '../../tunnel/window.ts';
import { WINDOW_SIZE } from '../../tunnel/wire.ts';

/** The program's replay windows. It writes them under a lock, so they are copied by system calls that take it. */
export class ReplayWindows {
  readonly capacity: number;
  readonly #map: BpfMap;
  readonly #value: Uint8Array;
  readonly #view: DataView;
  readonly #highestAt: number;
  readonly #ringAt: number;

  constructor(map: BpfMap, btf: Btf) {
    const window = btf.struct('window');
    this.#map = map;
    this.capacity = map.info.maxEntries;
    this.#value = new Uint8Array(new ArrayBuffer(map.info.valueBytes));
    this.#view = new DataView(this.#value.buffer);
    this.#highestAt = window.at('highest').offset;
    this.#ringAt = window.at('ring').offset;
  }

  read(slot: number): WindowState {
    if (!this.#map.lookupAt(slot, this.#value, { locked: true })) return { highest: 0, bitmap: '' };
    const highest = this.#view.getUint32(this.#highestAt, true);
    const octets: string[] = [];
    const oldest = Math.max(1, highest - WINDOW_SIZE + 1);
    for (let top = highest; top >= oldest; top -= 8) {
      let octet = 0;
      for (let bit = 0; bit < 8 && top - bit >= oldest; bit += 1) {
        const number = (top - bit) & (WINDOW_SIZE - 1);
        if ((this.#value[this.#ringAt + (number >> 3)]! >> (number & 7)) & 1) octet |= 1 << bit;
      }
      octets.push(octet.toString(16).padStart(2, '0'));
    }
    return { highest, bitmap: octets.join('').replace(/(00)+$/, '') };
  }

  /** Only for a window that no key uses yet. */
  write(slot: number, { highest, bitmap }: WindowState): void {
    this.#value.fill(0);
    this.#view.setUint32(this.#highestAt, highest, true);
    for (let at = 0; at < bitmap.length; at += 2) {
      const octet = Number.parseInt(bitmap.slice(at, at + 2), 16);
      for (let bit = 0; bit < 8; bit += 1) {
        const number = highest - (at * 4 + bit);
        if (((octet >> bit) & 1) === 0 || number < 1) continue;
        const place = number & (WINDOW_SIZE - 1);
        this.#value[this.#ringAt + (place >> 3)]! |= 1 << (place & 7);
      }
    }
    this.#map.updateAt(slot, this.#value, { locked: true });
  }
}
