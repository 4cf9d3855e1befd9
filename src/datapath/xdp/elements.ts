import { type BpfMap, elementBytes } from '../../linux/bpf-map.ts';
import type { BtfStruct } from '../../linux/btf.ts';

/**
 * The elements of a mapped array, shared with the program on every CPU. Offsets come from the program's own types.
 * Plain writes go through `view`; what publishes them is stored by `storeU8`, `storeU32` and `storeU64`, which no write before
 * them can pass.
 */
export class Elements {
  readonly struct: BtfStruct;
  readonly capacity: number;
  readonly view: DataView;
  readonly octets: Uint8Array;
  readonly #stride: number;
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;

  constructor(map: BpfMap, struct: BtfStruct) {
    const memory = map.mapped();
    this.struct = struct;
    this.capacity = map.info.maxEntries;
    this.#stride = elementBytes(map.info);
    this.view = new DataView(memory);
    this.octets = new Uint8Array(memory);
    this.#words = new Int32Array(memory);
    this.#longs = new BigInt64Array(memory);
  }

  /** Offset of a member, by its path, inside an element. */
  offset(path: string): number {
    return this.struct.at(path).offset;
  }

  /** Where element `slot` begins. */
  base(slot: number): number {
    return slot * this.#stride;
  }

  clear(slot: number): void {
    const at = this.base(slot);
    this.octets.fill(0, at, at + this.struct.size);
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  u64(at: number): bigint {
    return this.view.getBigUint64(at, true);
  }

  setU32(at: number, value: number): void {
    this.view.setUint32(at, value, true);
  }

  setU64(at: number, value: bigint): void {
    this.view.setBigUint64(at, value, true);
  }

  set(at: number, octets: Uint8Array): void {
    this.octets.set(octets, at);
  }

  get(at: number, length: number): Uint8Array {
    return this.octets.slice(at, at + length);
  }

  storeU32(at: number, value: number): void {
    Atomics.store(this.#words, at >> 2, value | 0);
  }

  storeU8(at: number, value: number): void {
    Atomics.store(this.octets, at, value);
  }

  storeU64(at: number, value: bigint): void {
    Atomics.store(this.#longs, at >> 3, BigInt.asIntN(64, value));
  }

  /** Stores a value if the expected one is there still; false when another has come. */
  exchangeU64(at: number, expected: bigint, value: bigint): boolean {
    const wanted = BigInt.asIntN(64, expected);
    return Atomics.compareExchange(this.#longs, at >> 3, wanted, BigInt.asIntN(64, value)) === wanted;
  }
}
