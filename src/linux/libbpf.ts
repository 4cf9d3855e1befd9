import koffi from 'koffi';
import { MooringError } from '../protocol/errors.ts';
import { ERRNO, lastErrno, syscallError } from './errno.ts';

/**
 * libbpf 1.x as far as it is used here. Opaque objects are addresses. Cold calls take a `Uint8Array` for a
 * pointer, hot ones its address as a number.
 */
export interface LibBpf {
  objectOpenMemory(octets: Uint8Array, size: number, options: null): number;
  objectLoad(object: number): number;
  objectClose(object: number): void;
  objectFindMap(object: number, name: string): number;
  objectNextMap(object: number, previous: number): number;
  objectFindProgram(object: number, name: string): number;
  mapName(map: number): string;
  mapFd(map: number): number;
  mapSetMaxEntries(map: number, entries: number): number;
  mapSetFlags(map: number, flags: number): number;
  mapGetFlags(map: number): number;
  mapReuseFd(map: number, fd: number): number;
  programFd(program: number): number;
  programSetLogLevel(program: number, level: number): number;
  programSetLogBuffer(program: number, buffer: Uint8Array, size: number): number;
  mapLookup(fd: number, key: number, value: number, flags: number): number;
  mapUpdate(fd: number, key: number, value: number, flags: number): number;
  mapDelete(fd: number, key: number): number;
  mapNextKey(fd: number, key: number, next: number): number;
  objectPin(fd: number, path: string): number;
  objectGet(path: string): number;
  objectInfo(fd: number, info: Uint8Array, length: Uint8Array): number;
  btfFdById(id: number): number;
  linkCreate(programFd: number, target: number, type: number, options: Uint8Array | null): number;
  linkUpdate(linkFd: number, programFd: number, options: null): number;
  linkDetach(linkFd: number): number;
  programTestRun(programFd: number, options: Uint8Array): number;
  setPrint(callback: null): number;
}

let loaded: LibBpf | MooringError | null = null;

/** libbpf.so.1, loaded once. Throws ERR_MOORING_XDP_UNAVAILABLE where it is not installed. */
export function libbpf(): LibBpf {
  loaded ??= load();
  if (loaded instanceof MooringError) throw loaded;
  return loaded;
}

function load(): LibBpf | MooringError {
  let library: ReturnType<typeof koffi.load>;
  try {
    library = koffi.load('libbpf.so.1');
  } catch (cause) {
    return new MooringError(
      'ERR_MOORING_XDP_UNAVAILABLE',
      'libbpf.so.1 cannot be loaded; install Debian package libbpf1, or use the userspace engine',
      { cause },
    );
  }
  const entry = (name: string, result: string, parameters: readonly string[]) =>
    library.func(name, result, [...parameters]) as never;
  const functions: LibBpf = {
    objectOpenMemory: entry('bpf_object__open_mem', 'uintptr_t', ['void *', 'size_t', 'void *']),
    objectLoad: entry('bpf_object__load', 'int', ['uintptr_t']),
    objectClose: entry('bpf_object__close', 'void', ['uintptr_t']),
    objectFindMap: entry('bpf_object__find_map_by_name', 'uintptr_t', ['uintptr_t', 'const char *']),
    objectNextMap: entry('bpf_object__next_map', 'uintptr_t', ['uintptr_t', 'uintptr_t']),
    objectFindProgram: entry('bpf_object__find_program_by_name', 'uintptr_t', ['uintptr_t', 'const char *']),
    mapName: entry('bpf_map__name', 'const char *', ['uintptr_t']),
    mapFd: entry('bpf_map__fd', 'int', ['uintptr_t']),
    mapSetMaxEntries: entry('bpf_map__set_max_entries', 'int', ['uintptr_t', 'uint32_t']),
    mapSetFlags: entry('bpf_map__set_map_flags', 'int', ['uintptr_t', 'uint32_t']),
    mapGetFlags: entry('bpf_map__map_flags', 'uint32_t', ['uintptr_t']),
    mapReuseFd: entry('bpf_map__reuse_fd', 'int', ['uintptr_t', 'int']),
    programFd: entry('bpf_program__fd', 'int', ['uintptr_t']),
    programSetLogLevel: entry('bpf_program__set_log_level', 'int', ['uintptr_t', 'uint32_t']),
    programSetLogBuffer: entry('bpf_program__set_log_buf', 'int', ['uintptr_t', 'void *', 'size_t']),
    mapLookup: entry('bpf_map_lookup_elem_flags', 'int', ['int', 'uintptr_t', 'uintptr_t', 'uint64_t']),
    mapUpdate: entry('bpf_map_update_elem', 'int', ['int', 'uintptr_t', 'uintptr_t', 'uint64_t']),
    mapDelete: entry('bpf_map_delete_elem', 'int', ['int', 'uintptr_t']),
    mapNextKey: entry('bpf_map_get_next_key', 'int', ['int', 'uintptr_t', 'uintptr_t']),
    objectPin: entry('bpf_obj_pin', 'int', ['int', 'const char *']),
    objectGet: entry('bpf_obj_get', 'int', ['const char *']),
    objectInfo: entry('bpf_obj_get_info_by_fd', 'int', ['int', 'void *', 'void *']),
    btfFdById: entry('bpf_btf_get_fd_by_id', 'int', ['uint32_t']),
    linkCreate: entry('bpf_link_create', 'int', ['int', 'int', 'int', 'void *']),
    linkUpdate: entry('bpf_link_update', 'int', ['int', 'int', 'void *']),
    linkDetach: entry('bpf_link_detach', 'int', ['int']),
    programTestRun: entry('bpf_prog_test_run_opts', 'int', ['int', 'void *']),
    setPrint: entry('libbpf_set_print', 'uintptr_t', ['void *']),
  };
  // Its messages go to stderr otherwise; what matters of them is in the errors thrown here.
  functions.setPrint(null);
  return functions;
}

/** `result` of a libbpf call (−errno when it failed) if it is not negative, else ERR_MOORING_SYSCALL about `object`. */
export function checkBpf(call: string, object: string, result: number, remedy?: string): number {
  if (result >= 0) return result;
  throw syscallError(call, object, -result, remedy ?? remedyFor(-result));
}

/** The same for calls that return an address: 0 when they failed. */
export function checkBpfAddress(call: string, object: string, address: number): number {
  if (address !== 0) return address;
  throw syscallError(call, object, lastErrno(), remedyFor(lastErrno()));
}

function remedyFor(errno: number): string | undefined {
  if (errno !== ERRNO.EPERM && errno !== ERRNO.EACCES) return undefined;
  return 'run as root or grant CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON';
}
