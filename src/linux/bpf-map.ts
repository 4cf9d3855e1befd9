import { readFileSync } from 'node:fs';
import koffi from 'koffi';
import { ERRNO, lastErrno, syscallError } from './errno.ts';
import { checkBpf, libbpf } from './libbpf.ts';
import { allocate, closeFd, memoryAddress } from './libc.ts';

const BPF_EXIST = 2;
const BPF_NOEXIST = 1;
const BPF_F_LOCK = 4;
const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_SHARED = 1;

/** `BPF_MAP_TYPE_…` of the maps that are used here. */
export const MAP_TYPE = {
  hash: 1,
  array: 2,
  percpuHash: 5,
  percpuArray: 6,
  lruHash: 9,
  ringBuffer: 27,
} as const;

/** The kernel's word about a map. */
export interface MapInfo {
  readonly id: number;
  /** Of `MAP_TYPE`. */
  readonly type: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly maxEntries: number;
  readonly flags: number;
  readonly name: string;
  /** What `readBtf` takes; 0 when the map was made without. */
  readonly btfId: number;
}

/**
 * One BPF map. Keys and values are octets of exactly the map's sizes. All calls are synchronous system calls of
 * about a microsecond; `mapped` memory is as fast as any.
 */
export interface BpfMap {
  readonly fd: number;
  readonly info: MapInfo;
  /**
   * Copies the value of `key` to `into`; false when there is none. `locked`: under the value's bpf_spin_lock, so that
   * it is never half of one and half of another. A per-CPU map gives `possibleCpus()` values, each padded to 8 octets.
   */
  lookup(key: Uint8Array, into: Uint8Array, options?: { readonly locked?: boolean }): boolean;
  /**
   * Puts a value. `only: 'new'` answers false when the key is there already, `only: 'existing'` when it is not.
   * Throws ERR_MOORING_SYSCALL, for a full map with E2BIG or ENOSPC.
   */
  update(
    key: Uint8Array,
    value: Uint8Array,
    options?: { readonly locked?: boolean; readonly only?: 'new' | 'existing' },
  ): boolean;
  /** Removes a key; false when it was not there. */
  delete(key: Uint8Array): boolean;
  /** All keys, each a copy. Entries that change meanwhile may be missed or seen twice. */
  keys(): Iterable<Uint8Array>;
  /** `lookup`, `update`, `delete` of an array by its number. */
  lookupAt(number: number, into: Uint8Array, options?: { readonly locked?: boolean }): boolean;
  updateAt(number: number, value: Uint8Array, options?: { readonly locked?: boolean }): void;
  /**
   * The memory of an array that was made BPF_F_MMAPABLE: element n lies at n × `elementBytes(info)`. Shared with the
   * program on every CPU, and valid as long as the process lives (it is never unmapped: a view on memory that is gone
   * would end the process). The same buffer at every call.
   */
  mapped(): ArrayBuffer;
  /** Pins it; the folder exists and lies in a bpffs. */
  pin(path: string): void;
  /** Closes the descriptor. The map lives on while it is pinned, mapped or used by a program. */
  close(): void;
}

/** Octets from one element of a mapped array to the next. */
export function elementBytes(info: MapInfo): number {
  return (info.valueBytes + 7) & ~7;
}

const mmap = koffi
  .load(null)
  .func('mmap', 'uintptr_t', ['uintptr_t', 'size_t', 'int', 'int', 'int', 'long']) as (
  address: number,
  length: number,
  protection: number,
  flags: number,
  fd: number,
  offset: number,
) => number;

/** MAP_FAILED as an unsigned number. */
const FAILED = 2 ** 53;

/** Maps `length` octets of a descriptor from `offset`, shared. Never unmapped: see `BpfMap.mapped`. */
export function mapMemory(
  fd: number,
  length: number,
  object: string,
  options: { readonly readOnly?: boolean; readonly offset?: number } = {},
): ArrayBuffer {
  const protection = options.readOnly === true ? PROT_READ : PROT_READ | PROT_WRITE;
  const address = mmap(0, length, protection, MAP_SHARED, fd, options.offset ?? 0);
  if (Number(address) >= FAILED) throw syscallError('mmap', object, lastErrno());
  return koffi.view(BigInt(address), length);
}

/** Opens a pinned map; null when nothing is pinned at `path`. */
export function openPinnedMap(path: string): BpfMap | null {
  const fd = openPinned(path);
  return fd === null ? null : bpfMap(fd);
}

/** Descriptor of whatever is pinned at `path`; null when nothing is. */
export function openPinned(path: string): number | null {
  const fd = libbpf().objectGet(path);
  return fd === -ERRNO.ENOENT ? null : checkBpf('bpf_obj_get', path, fd);
}

/** Pins a map, program or link by its descriptor. */
export function pinBpf(fd: number, path: string): void {
  checkBpf('bpf_obj_pin', path, libbpf().objectPin(fd, path));
}

/** CPUs that may ever be there: how many values a per-CPU map gives. */
export function possibleCpus(): number {
  const ranges = readFileSync('/sys/devices/system/cpu/possible', 'utf8').trim().split(',');
  return Number(ranges.at(-1)!.split('-').at(-1)) + 1;
}

/** The kernel's word about the map behind a descriptor. */
export function mapInfo(fd: number): MapInfo {
  const octets = allocate(88);
  const view = new DataView(octets.buffer);
  checkBpf(
    'bpf_obj_get_info_by_fd',
    `map ${fd}`,
    libbpf().objectInfo(fd, octets, Uint8Array.of(88, 0, 0, 0)),
  );
  // struct bpf_map_info: type id key_size value_size max_entries map_flags name[16] ifindex btf_vmlinux_value_type_id
  // netns_dev (8) netns_ino (8) btf_id …
  const word = (at: number) => view.getUint32(at, true);
  const name = Buffer.from(octets.buffer, 24, 16).toString('latin1');
  return {
    type: word(0),
    id: word(4),
    keyBytes: word(8),
    valueBytes: word(12),
    maxEntries: word(16),
    flags: word(20),
    name: name.slice(0, name.indexOf('\0')),
    btfId: word(64),
  };
}

/** The map behind a descriptor, which is the map's from here on. */
export function bpfMap(fd: number): BpfMap {
  const info = mapInfo(fd);
  const object = `BPF map ${info.name}`;
  const isPerCpu = info.type === MAP_TYPE.percpuHash || info.type === MAP_TYPE.percpuArray;
  const octetsOfValue = isPerCpu ? elementBytes(info) * possibleCpus() : info.valueBytes;
  // Keys and values pass through memory whose address is known: taking that of an array costs as much as the call.
  const keys = allocate(Math.max(2 * info.keyBytes, 8));
  const values = allocate(Math.max(octetsOfValue, 8));
  const keyAt = memoryAddress(keys);
  const nextAt = keyAt + info.keyBytes;
  const valueAt = memoryAddress(values);
  const keyView = new DataView(keys.buffer);
  const { mapLookup, mapUpdate, mapDelete, mapNextKey } = libbpf();
  let memory: ArrayBuffer | null = null;
  let open = true;

  const lookup = (into: Uint8Array, locked: boolean | undefined): boolean => {
    const result = mapLookup(fd, keyAt, valueAt, locked === true ? BPF_F_LOCK : 0);
    if (result === -ERRNO.ENOENT) return false;
    checkBpf('bpf_map_lookup_elem', object, result);
    into.set(values.length === octetsOfValue ? values : values.subarray(0, octetsOfValue));
    return true;
  };
  return {
    fd,
    info,
    lookup(key, into, options) {
      keys.set(key);
      return lookup(into, options?.locked);
    },
    lookupAt(number, into, options) {
      keyView.setUint32(0, number, true);
      return lookup(into, options?.locked);
    },
    update(key, value, options = {}) {
      const { only, locked } = options;
      keys.set(key);
      values.set(value);
      const when = only === undefined ? 0 : only === 'new' ? BPF_NOEXIST : BPF_EXIST;
      const result = mapUpdate(fd, keyAt, valueAt, when | (locked === true ? BPF_F_LOCK : 0));
      if (only === 'new' && result === -ERRNO.EEXIST) return false;
      if (only === 'existing' && result === -ERRNO.ENOENT) return false;
      checkBpf('bpf_map_update_elem', object, result, `it has room for ${info.maxEntries} entries`);
      return true;
    },
    updateAt(number, value, options) {
      keyView.setUint32(0, number, true);
      values.set(value);
      const result = mapUpdate(fd, keyAt, valueAt, options?.locked === true ? BPF_F_LOCK : 0);
      checkBpf('bpf_map_update_elem', object, result, `its elements are 0 to ${info.maxEntries - 1}`);
    },
    delete(key) {
      keys.set(key);
      const result = mapDelete(fd, keyAt);
      if (result === -ERRNO.ENOENT) return false;
      checkBpf('bpf_map_delete_elem', object, result);
      return true;
    },
    *keys() {
      let previous: Uint8Array | null = null;
      for (;;) {
        if (previous !== null) keys.set(previous);
        const result = mapNextKey(fd, previous === null ? 0 : keyAt, nextAt);
        if (result === -ERRNO.ENOENT) return;
        checkBpf('bpf_map_get_next_key', object, result);
        previous = keys.slice(info.keyBytes, 2 * info.keyBytes);
        yield previous;
      }
    },
    mapped() {
      memory ??= mapMemory(fd, wholePages(elementBytes(info) * info.maxEntries), object);
      return memory;
    },
    pin: (path) => pinBpf(fd, path),
    close() {
      if (!open) return;
      open = false;
      closeFd(fd);
    },
  };
}

const PAGE = 4096;

function wholePages(octets: number): number {
  return Math.ceil(octets / PAGE) * PAGE;
}
