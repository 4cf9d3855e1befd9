import { MooringError } from '../protocol/errors.ts';
import { type BpfMap, bpfMap } from './bpf-map.ts';
import { type Btf, readBtf } from './btf.ts';
import { checkBpf, checkBpfAddress, libbpf } from './libbpf.ts';
import { allocate, libc } from './libc.ts';

/** How an object is to be loaded. */
export interface LoadOptions {
  /** Entries of maps by name; the others keep those of the object. */
  readonly entries?: Readonly<Record<string, number>>;
  /** Further BPF_F_ flags of maps by name. */
  readonly flags?: Readonly<Record<string, number>>;
  /**
   * Maps, by name, to use in place of new ones: those that an earlier program left pinned. Their type and sizes must be
   * the object's, after `entries`. They stay the caller's to close.
   */
  readonly reuse?: Readonly<Record<string, BpfMap>>;
  /** The program that `verifierLog` is about (default: relay). */
  readonly program?: string;
}

/** A loaded BPF object: programs and maps live while this is open, something is pinned, or an interface uses them. */
export interface BpfObject {
  /** The maps by name; those without BTF of their own (`.rodata`) left out. */
  readonly maps: Readonly<Record<string, BpfMap>>;
  /** The object's types. */
  readonly btf: Btf;
  /** Descriptor of a program by its function's name. Throws ERR_MOORING_XDP_UNAVAILABLE when there is none. */
  program(name: string): number;
  /** What the verifier said about all programs (statistics at log level 4). */
  readonly verifierLog: string;
  close(): void;
}

/** BPF_LOG_STATS: instructions, states and stack, without the trace. */
const LOG_STATISTICS = 4;
const LOG_OCTETS = 64 * 1024;

/**
 * Loads an object file's octets into the kernel: creates its maps, has its programs verified. Throws
 * ERR_MOORING_XDP_UNAVAILABLE with the reason, and for a program that the verifier refuses with the end of its log;
 * ERR_MOORING_SYSCALL for octets that are no object.
 */
export function loadBpfObject(file: Uint8Array, options: LoadOptions = {}): BpfObject {
  const bpf = libbpf();
  const handle = checkBpfAddress(
    'bpf_object__open',
    'the XDP object',
    bpf.objectOpenMemory(file, file.length, null),
  );
  const log = allocate(LOG_OCTETS);
  try {
    const named = new Map<string, number>();
    for (let map = bpf.objectNextMap(handle, 0); map !== 0; map = bpf.objectNextMap(handle, map)) {
      const name = bpf.mapName(map);
      if (name.includes('.')) continue;
      named.set(name, map);
      const entries = options.entries?.[name];
      if (entries !== undefined) {
        checkBpf('bpf_map__set_max_entries', `map ${name}`, bpf.mapSetMaxEntries(map, entries));
      }
      const flags = options.flags?.[name];
      if (flags !== undefined) {
        checkBpf('bpf_map__set_map_flags', `map ${name}`, bpf.mapSetFlags(map, bpf.mapGetFlags(map) | flags));
      }
      const reused = options.reuse?.[name];
      if (reused !== undefined) {
        checkBpf('bpf_map__reuse_fd', `map ${name}`, bpf.mapReuseFd(map, reused.fd));
      }
    }
    for (const name of Object.keys({ ...options.entries, ...options.flags, ...options.reuse })) {
      if (!named.has(name)) throw unavailable(`the object has no map ${name}; build it anew`);
    }
    const programs = new Map<string, number>();
    const findProgram = (name: string): number => {
      const program = programs.get(name) ?? bpf.objectFindProgram(handle, name);
      if (program === 0) throw unavailable(`the object has no program ${name}; build it anew`);
      programs.set(name, program);
      return program;
    };
    const relay = findProgram(options.program ?? 'relay');
    bpf.programSetLogLevel(relay, LOG_STATISTICS);
    bpf.programSetLogBuffer(relay, log, log.length);
    const result = bpf.objectLoad(handle);
    if (result < 0) throw refused(result, textOf(log));

    const maps: Record<string, BpfMap> = {};
    for (const [name, map] of named) maps[name] = bpfMap(duplicate(bpf.mapFd(map)));
    const { info } = Object.values(maps)[0]!;
    const btf = readBtf(info.btfId);
    let open = true;
    return {
      maps,
      btf,
      verifierLog: textOf(log),
      program: (name) => bpf.programFd(findProgram(name)),
      close() {
        if (!open) return;
        open = false;
        for (const map of Object.values(maps)) map.close();
        bpf.objectClose(handle);
      },
    };
  } catch (error) {
    bpf.objectClose(handle);
    throw error;
  }
}

const F_DUPFD_CLOEXEC = 1030;

/** A descriptor of one's own, so that an object and a map of it can be closed each in its time. */
function duplicate(fd: number): number {
  return libc.fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

function textOf(log: Uint8Array): string {
  const end = log.indexOf(0);
  return Buffer.from(log.buffer, 0, end < 0 ? log.length : end)
    .toString('latin1')
    .trim();
}

function refused(result: number, log: string): MooringError {
  const last = log.split('\n').slice(-12).join('\n');
  let reason: unknown;
  try {
    checkBpf('bpf_object__load', 'the XDP object', result);
  } catch (error) {
    reason = error;
  }
  const why = reason instanceof Error ? reason.message : String(result);
  return unavailable(`${why}${last === '' ? '' : `\n${last}`}`, reason);
}

function unavailable(why: string, cause?: unknown): MooringError {
  return new MooringError('ERR_MOORING_XDP_UNAVAILABLE', why, cause === undefined ? {} : { cause });
}

/** The kernel's word about a loaded program. */
export interface ProgramInfo {
  readonly id: number;
  /** Instructions after the verifier's rewriting, and of machine code octets. */
  readonly instructions: number;
  readonly jitedBytes: number;
  /** Instructions that the verifier walked through until it was sure. */
  readonly verifiedInstructions: number;
  readonly btfId: number;
  /** First 8 octets of a hash of the instructions: the same for the same program. */
  readonly tag: string;
}

/** What the kernel knows of the program behind a descriptor. */
export function programInfo(fd: number): ProgramInfo {
  const octets = allocate(232);
  const view = new DataView(octets.buffer);
  checkBpf(
    'bpf_obj_get_info_by_fd',
    `program ${fd}`,
    libbpf().objectInfo(fd, octets, Uint8Array.of(232, 0, 0, 0)),
  );
  // struct bpf_prog_info, see linux/bpf.h
  return {
    id: view.getUint32(4, true),
    tag: Buffer.from(octets.buffer, 8, 8).toString('hex'),
    jitedBytes: view.getUint32(16, true),
    instructions: view.getUint32(20, true) / 8,
    btfId: view.getUint32(128, true),
    verifiedInstructions: view.getUint32(216, true),
  };
}
