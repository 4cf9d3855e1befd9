import { MooringError } from '../protocol/errors.ts';
import { checkBpf, libbpf } from './libbpf.ts';
import { allocate, closeFd, memoryAddress } from './libc.ts';

/**
 * BTF, the description of C types that a BPF object carries into the kernel with its maps: where the members of
 * a structure lie, what an enumerator's value is. https://docs.kernel.org/bpf/btf.html
 */
export interface Btf {
  /** A structure. Throws ERR_MOORING_BTF when there is none of that name. */
  struct(name: string): BtfStruct;
  /** The same, or null: an older object may lack it. */
  findStruct(name: string): BtfStruct | null;
  /** Enumerators by name, in their order. Throws ERR_MOORING_BTF when there is no enumeration of that name. */
  enumeration(name: string): ReadonlyMap<string, number>;
  findEnumeration(name: string): ReadonlyMap<string, number> | null;
}

export interface BtfStruct {
  readonly name: string;
  /** Octets. */
  readonly size: number;
  readonly members: ReadonlyMap<string, BtfMember>;
  /**
   * The member at a path: `until_ns`, `receive[1].key`, `paths[0].address[4]`. Throws ERR_MOORING_BTF, naming the
   * path, when there is none.
   */
  at(path: string): BtfMember;
  /** The same, or null. */
  find(path: string): BtfMember | null;
}

/** Where a member lies, counted from the structure that was asked. */
export interface BtfMember {
  readonly offset: number;
  /** Octets of all of it. */
  readonly size: number;
  /** Elements of an array; 1 for anything else. */
  readonly count: number;
  /** Octets from one element to the next; `size` for what is no array. */
  readonly stride: number;
  /** The structure that it, or each of its elements, is. */
  readonly struct: BtfStruct | null;
}

const KIND = {
  int: 1,
  pointer: 2,
  array: 3,
  struct: 4,
  union: 5,
  enum: 6,
  forward: 7,
  typedef: 8,
  volatile: 9,
  const: 10,
  restrict: 11,
  function: 12,
  prototype: 13,
  variable: 14,
  section: 15,
  float: 16,
  declTag: 17,
  typeTag: 18,
  enum64: 19,
} as const;

const MAGIC = 0xeb9f;

interface Type {
  readonly kind: number;
  readonly name: string;
  readonly entries: number;
  /** Size in octets or id of another type. */
  readonly sizeOrType: number;
  /** Where what follows the common part lies. */
  readonly at: number;
}

/** Reads BTF as an object's `.BTF` section or the kernel has it. Throws ERR_MOORING_BTF when it is none. */
export function parseBtf(octets: Uint8Array): Btf {
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  if (octets.length < 24 || view.getUint16(0, true) !== MAGIC) throw btfError('the octets are not BTF');
  const header = view.getUint32(4, true);
  const typesAt = header + view.getUint32(8, true);
  const typesEnd = typesAt + view.getUint32(12, true);
  const textAt = header + view.getUint32(16, true);
  if (typesEnd > octets.length || textAt > octets.length) throw btfError('the BTF is cut short');

  const text = (offset: number): string => {
    const start = textAt + offset;
    const end = octets.indexOf(0, start);
    return Buffer.from(octets.buffer, octets.byteOffset + start, end - start).toString('latin1');
  };
  const types: (Type | null)[] = [null];
  const byName = new Map<string, number>();
  for (let at = typesAt; at < typesEnd; ) {
    const info = view.getUint32(at + 4, true);
    const kind = (info >>> 24) & 0x1f;
    const entries = info & 0xffff;
    const type: Type = {
      kind,
      name: text(view.getUint32(at, true)),
      entries,
      sizeOrType: view.getUint32(at + 8, true),
      at: at + 12,
    };
    if (type.name !== '') byName.set(`${kind} ${type.name}`, types.length);
    types.push(type);
    at += 12 + trailing(kind, entries);
  }

  const typeOf = (id: number): Type => {
    const type = types[id];
    if (type == null) throw btfError(`there is no type ${id}`);
    switch (type.kind) {
      case KIND.typedef:
      case KIND.volatile:
      case KIND.const:
      case KIND.restrict:
      case KIND.typeTag:
        return typeOf(type.sizeOrType);
      default:
        return type;
    }
  };
  const sizeOf = (id: number): number => {
    const type = typeOf(id);
    if (type.kind === KIND.pointer) return 8;
    if (type.kind !== KIND.array) return type.sizeOrType;
    return sizeOf(view.getUint32(type.at, true)) * view.getUint32(type.at + 8, true);
  };
  const memberOf = (id: number, offset: number): BtfMember => {
    const type = typeOf(id);
    const isArray = type.kind === KIND.array;
    const element = isArray ? view.getUint32(type.at, true) : id;
    const count = isArray ? view.getUint32(type.at + 8, true) : 1;
    const stride = sizeOf(element);
    const inside = typeOf(element);
    const struct = inside.kind === KIND.struct || inside.kind === KIND.union ? structOf(inside) : null;
    return { offset, size: stride * count, count, stride, struct };
  };
  const structs = new Map<Type, BtfStruct>();
  const structOf = (type: Type): BtfStruct => {
    const known = structs.get(type);
    if (known !== undefined) return known;
    const members = new Map<string, BtfMember>();
    for (let entry = 0; entry < type.entries; entry += 1) {
      const at = type.at + entry * 12;
      // With the kind flag set, the upper octet is a bit field's width; there are no bit fields here.
      const bits = view.getUint32(at + 8, true) & 0xffffff;
      members.set(text(view.getUint32(at, true)), memberOf(view.getUint32(at + 4, true), bits >> 3));
    }
    const find = (path: string) => findMember(members, path);
    const struct: BtfStruct = {
      name: type.name,
      size: type.sizeOrType,
      members,
      find,
      at(path) {
        const member = find(path);
        if (member === null) throw btfError(`struct ${type.name} has no member ${path}`);
        return member;
      },
    };
    structs.set(type, struct);
    return struct;
  };
  const findStruct = (name: string) => {
    const id = byName.get(`${KIND.struct} ${name}`);
    return id === undefined ? null : structOf(typeOf(id));
  };
  const findEnumeration = (name: string) => {
    const id = byName.get(`${KIND.enum} ${name}`);
    if (id === undefined) return null;
    const type = typeOf(id);
    const values = new Map<string, number>();
    for (let entry = 0; entry < type.entries; entry += 1) {
      const at = type.at + entry * 8;
      values.set(text(view.getUint32(at, true)), view.getUint32(at + 4, true));
    }
    return values;
  };
  return {
    findStruct,
    findEnumeration,
    struct: (name) => findStruct(name) ?? missing(`struct ${name}`),
    enumeration: (name) => findEnumeration(name) ?? missing(`enum ${name}`),
  };
}

/** The BTF that the kernel keeps under an id (see `BpfMap.info`, `programInfo`). */
export function readBtf(id: number): Btf {
  const fd = checkBpf('bpf_btf_get_fd_by_id', `BTF ${id}`, libbpf().btfFdById(id));
  try {
    const info = allocate(32);
    const view = new DataView(info.buffer);
    const length = Uint8Array.of(32, 0, 0, 0);
    // struct bpf_btf_info: btf (8) btf_size (4) id (4) …
    checkBpf('bpf_obj_get_info_by_fd', `BTF ${id}`, libbpf().objectInfo(fd, info, length));
    const octets = allocate(view.getUint32(8, true));
    view.setBigUint64(0, BigInt(memoryAddress(octets)), true);
    checkBpf('bpf_obj_get_info_by_fd', `BTF ${id}`, libbpf().objectInfo(fd, info, length));
    return parseBtf(octets);
  } finally {
    closeFd(fd);
  }
}

function trailing(kind: number, entries: number): number {
  switch (kind) {
    case KIND.int:
    case KIND.variable:
    case KIND.declTag:
      return 4;
    case KIND.array:
      return 12;
    case KIND.struct:
    case KIND.union:
    case KIND.section:
    case KIND.enum64:
      return entries * 12;
    case KIND.enum:
    case KIND.prototype:
      return entries * 8;
    default:
      return 0;
  }
}

function findMember(top: ReadonlyMap<string, BtfMember>, path: string): BtfMember | null {
  let members: ReadonlyMap<string, BtfMember> | undefined = top;
  let found: BtfMember | null = null;
  for (const step of path.split('.')) {
    const [, name = '', index] = /^(\w+)(?:\[(\d+)\])?$/.exec(step) ?? [];
    const member: BtfMember | undefined = members?.get(name);
    if (member === undefined) return null;
    const base: number = found?.offset ?? 0;
    if (index === undefined) found = { ...member, offset: base + member.offset };
    else if (Number(index) >= member.count) return null;
    else {
      const { stride, struct } = member;
      found = {
        offset: base + member.offset + Number(index) * stride,
        size: stride,
        count: 1,
        stride,
        struct,
      };
    }
    members = member.struct?.members;
  }
  return found;
}

function missing(what: string): never {
  throw btfError(`there is no ${what}`);
}

function btfError(why: string): MooringError {
  return new MooringError(
    'ERR_MOORING_BTF',
    `${why}; build the XDP object anew, or remove maps of another build`,
  );
}
