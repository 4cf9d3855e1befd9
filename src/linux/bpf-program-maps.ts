import koffi from 'koffi';
import { checkBpf, libbpf } from './libbpf.ts';
import { allocate, closeFd, memoryAddress } from './libc.ts';

const INFO_BYTES = 232;
const MOST_MAPS = 64;
/** struct bpf_prog_info: nr_map_ids (4) at 52, map_ids (8) at 56. */
const COUNT_AT = 52;
const IDS_AT = 56;

/** Ids of the maps that the loaded program of that id uses. */
export function programMapIds(programId: number): number[] {
  const fd = checkBpf('bpf_prog_get_fd_by_id', `program ${programId}`, programFdById()(programId));
  try {
    const ids = allocate(4 * MOST_MAPS);
    const info = allocate(INFO_BYTES);
    const view = new DataView(info.buffer);
    view.setUint32(COUNT_AT, MOST_MAPS, true);
    view.setBigUint64(IDS_AT, BigInt(memoryAddress(ids)), true);
    const length = Uint8Array.of(INFO_BYTES, 0, 0, 0);
    checkBpf('bpf_obj_get_info_by_fd', `program ${programId}`, libbpf().objectInfo(fd, info, length));
    const count = Math.min(view.getUint32(COUNT_AT, true), MOST_MAPS);
    const found = new DataView(ids.buffer);
    return Array.from({ length: count }, (_, i) => found.getUint32(4 * i, true));
  } finally {
    closeFd(fd);
  }
}

let found: ((id: number) => number) | null = null;

function programFdById(): (id: number) => number {
  // Where libbpf is missing, `libbpf()` says so.
  libbpf();
  found ??= koffi.load('libbpf.so.1').func('int bpf_prog_get_fd_by_id(uint32_t id)') as (
    id: number,
  ) => number;
  return found;
}
