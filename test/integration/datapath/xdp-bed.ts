import { execFileSync } from 'node:child_process';
import { compileXdp } from '../../../infra/build/xdp.ts';
import { type BpfMap, elementBytes, possibleCpus } from '../../../src/linux/bpf-map.ts';
import { type BpfObject, loadBpfObject } from '../../../src/linux/bpf-object.ts';
import { createXdpRunner, type XdpRun } from '../../../src/linux/bpf-run.ts';
import type { BtfStruct } from '../../../src/linux/btf.ts';
import { interfaceIndex } from '../../../src/linux/libc.ts';
import { openRingBuffer, type RingBuffer } from '../../../src/linux/ring-buffer.ts';
import { parseAddress } from '../../../src/protocol/address.ts';
import { createNamespace, type OwnNamespace } from '../linux/own-namespace.ts';

/**
 * The XDP program by itself: loaded, its maps written by hand, in a namespace with a public and an access link whose
 * neighbours are known. Frames go through BPF_PROG_TEST_RUN; time is the test's.
 */

/** Addresses of the bed, by family. `far` ends have neighbours; nobody answers. */
export const BED = {
  4: {
    endpoint: '192.0.2.10',
    device: '192.0.2.77',
    moved: '192.0.2.78',
    peer: '198.51.100.9',
    whole: '203.0.113.5',
    shared: '203.0.113.6',
    host: '198.51.100.1',
  },
  6: {
    endpoint: '2001:db8:2::10',
    device: '2001:db8:2::77',
    moved: '2001:db8:2::78',
    peer: '2001:db8:1::9',
    whole: '2001:db8:5::5',
    shared: '2001:db8:5::6',
    host: '2001:db8:1::1',
  },
} as const;
export type Family = keyof typeof BED;

export const MAC = {
  public: '02:00:00:00:01:01',
  peer: '02:00:00:00:01:09',
  access: '02:00:00:00:02:01',
  device: '02:00:00:00:02:77',
} as const;

export const TUNNEL_PORT = 4556;
export const DEVICE_PORT = 40_000;
export const NOW_NS = 1_000_000_000_000n;
export const NEVER = 0xffff_ffff_ffff_ffffn;
export const INDEX = 0x00c0de;

type Values = Readonly<Record<string, number | bigint | Uint8Array>>;

export interface XdpBed {
  readonly object: BpfObject;
  readonly network: OwnNamespace;
  readonly events: RingBuffer;
  /** Interface indexes. */
  readonly links: { readonly public: number; readonly access: number };
  /** Runs a frame as if it came in on a link; the answer's frame is a copy. */
  run(link: 'public' | 'access', frame: Uint8Array, repeat?: number): XdpRun;
  /** Writes members of an element, in place. */
  put(map: string, slot: number, values: Values): void;
  /** Reads a member of a mapped array's element. */
  get(map: string, slot: number, path: string): bigint;
  index(address: string, kind: number, number: number, value: Values): void;
  unindex(address: string, kind: number, number: number): void;
  setNow(ns: bigint): void;
  /** Sums over all CPUs, by `group/name`, of what was counted since the last call; zeros left out. */
  counted(): Record<string, number>;
  /** Events since the last call, as members by name. */
  told(): Record<string, bigint>[];
  close(): void;
}

const STRUCTS: Readonly<Record<string, string>> = {
  config: 'config',
  anchors: 'anchor',
  sessions: 'session',
  ways: 'way',
  windows: 'window',
  meters: 'meter',
};

/** Loads the program compiled with `defines` beside the test's clock. */
export function createBed(
  options: {
    readonly defines?: readonly string[];
    readonly clock?: 'test' | 'boottime';
    readonly sessions?: number;
    /** An object in place of the one that is compiled. */
    readonly file?: Uint8Array;
  } = {},
): XdpBed {
  const { sessions = 16 } = options;
  const clock = options.clock === 'boottime' ? [] : ['MOORING_TEST_CLOCK'];
  const network = createNamespace();
  layOut(network);
  const object = network.run(() =>
    loadBpfObject(options.file ?? compileXdp([...clock, ...(options.defines ?? [])]), {
      entries: {
        sessions,
        ways: sessions,
        meters: sessions,
        windows: 2 * sessions,
        anchors: 4,
        index: 64,
      },
    }),
  );
  const { maps, btf } = object;
  const runner = createXdpRunner(object.program('relay'));
  const links = network.run(() => ({ public: interfaceIndex('public'), access: interfaceIndex('access') }));
  const events = openRingBuffer(maps.events!);
  const views = new Map<string, DataView>();
  const structOf = (map: string): BtfStruct => btf.struct(STRUCTS[map]!);
  const viewOf = (map: string): DataView => {
    const known = views.get(map) ?? new DataView(maps[map]!.mapped());
    views.set(map, known);
    return known;
  };
  const names = countNames(object);
  let before = readCounters(maps.counters!);

  const bed: XdpBed = {
    object,
    network,
    events,
    links,
    run: (link, frame, repeat = 1) =>
      network.run(() => {
        const run = runner.run(frame, { ifindex: links[link], repeat });
        return { ...run, frame: run.frame.slice() };
      }),
    put(map, slot, values) {
      const view = viewOf(map);
      const base = slot * elementBytes(maps[map]!.info);
      for (const [path, value] of Object.entries(values)) {
        const { offset, size } = structOf(map).at(path);
        write(view, base + offset, size, value);
      }
    },
    get(map, slot, path) {
      const { offset, size } = structOf(map).at(path);
      return read(viewOf(map), slot * elementBytes(maps[map]!.info) + offset, size);
    },
    index(address, kind, number, value) {
      const octets = new Uint8Array(8);
      const view = new DataView(octets.buffer);
      for (const [path, each] of Object.entries(value)) {
        const { offset, size } = btf.struct('index_value').at(path);
        write(view, offset, size, each);
      }
      maps.index!.update(indexKey(address, kind, number), octets);
    },
    unindex: (address, kind, number) => void maps.index!.delete(indexKey(address, kind, number)),
    setNow: (ns) => bed.put('config', 0, { test_now_ns: ns }),
    counted() {
      const after = readCounters(maps.counters!);
      const changed: Record<string, number> = {};
      for (const [at, value] of after.entries()) {
        const by = Number(value - before[at]!);
        const name = names.get(at >> 6)?.get(at & 31) ?? `?${at}`;
        if (by !== 0) changed[name] = (changed[name] ?? 0) + by;
      }
      before = after;
      return changed;
    },
    told() {
      const struct = btf.struct('event');
      const all: Record<string, bigint>[] = [];
      events.drain((record) => {
        const event: Record<string, bigint> = {};
        for (const [name, { offset, size }] of struct.members) event[name] = read(record, offset, size);
        all.push(event);
      });
      return all;
    },
    close() {
      object.close();
      network.close();
    },
  };
  bed.put('config', 0, {
    layout_version: btf.enumeration('layout_version').get('LAYOUT_VERSION_NUMBER')!,
    tunnel_port: TUNNEL_PORT,
    inner_mtu: 1280,
    alive_until_ns: NEVER,
    rekey_after: 0xffff_0000,
    egress_dscp_mode: btf.enumeration('dscp_mode').get('DSCP_KEEP')!,
    'ports[0].ifindex': links.public,
    'ports[0].mac': macOctets(MAC.public),
    'ports[1].ifindex': links.access,
    'ports[1].mac': macOctets(MAC.access),
    test_now_ns: NOW_NS,
    magic: magicOf(object),
  });
  return bed;
}

/** One session on slot `slot` with everything that it needs to carry packets both ways. */
export function putSession(
  bed: XdpBed,
  options: {
    readonly outer: Family;
    readonly slot?: number;
    readonly index?: number;
    readonly uplinkKey: Uint8Array;
    readonly downlinkKey: Uint8Array;
    readonly controlKey?: Uint8Array;
    readonly keyNumber?: number;
  },
): void {
  const { outer, slot = 0, index = INDEX, keyNumber = 1 } = options;
  const { enumeration } = bed.object.btf;
  bed.put('anchors', 0, {
    deadline_ns: NEVER,
    endpoint_v4: mapped(BED[4].endpoint),
    endpoint_v6: mapped(BED[6].endpoint),
  });
  bed.put('sessions', slot, {
    index,
    anchor: 0,
    control_key: options.controlKey ?? new Uint8Array(16),
    'receive[0].version': 2,
    'receive[0].key_number': keyNumber,
    'receive[0].key': options.uplinkKey,
    'receive[0].window': slot,
    'receive[0].until_ns': NEVER,
    state: enumeration('session_state').get('SESSION_LIVE')!,
  });
  putWay(bed, { slot, keyNumber, key: options.downlinkKey, address: BED[outer].device });
  bed.put('ways', slot, { state: enumeration('way_state').get('WAY_ACTIVE')! });
  const session = enumeration('index_kind').get('INDEX_SESSION')!;
  for (const family of [4, 6] as const) bed.index(BED[family].endpoint, session, index, { slot });
}

/** Flips a session's way, as the process does: the other place first, then the generation. */
export function putWay(
  bed: XdpBed,
  way: {
    readonly slot: number;
    readonly keyNumber: number;
    readonly key: Uint8Array;
    readonly address: string;
    readonly port?: number;
  },
): void {
  const gen = bed.get('ways', way.slot, 'gen') + 1n;
  const place = `paths[${gen & 1n}]`;
  bed.put('ways', way.slot, {
    [`${place}.address`]: mapped(way.address),
    [`${place}.key`]: way.key,
    [`${place}.key_number`]: way.keyNumber,
    [`${place}.port`]: way.port ?? DEVICE_PORT,
    [`${place}.family`]: way.address.includes(':') ? 6 : 4,
  });
  bed.put('ways', way.slot, { gen });
}

/** A lease of the whole address. */
export function putWhole(
  bed: XdpBed,
  address: string,
  options: { slot?: number; place?: number } = {},
): void {
  const { slot = 0, place = 0 } = options;
  const { enumeration } = bed.object.btf;
  const held = flag(bed, 'LEASE_HELD') | flag(bed, 'LEASE_WHOLE');
  bed.put('sessions', slot, {
    [`leases[${place}].address`]: mapped(address),
    [`leases[${place}].until_ns`]: NEVER,
    [`lease_flags[${place}]`]: held,
  });
  bed.index(address, enumeration('index_kind').get('INDEX_ADDRESS')!, 0, {
    slot,
    lease: place,
    flags: enumeration('index_flag').get('INDEX_WHOLE')!,
  });
}

export interface Blocks {
  readonly ports?: { readonly first: number; readonly shift: number };
  readonly spis?: { readonly first: number; readonly shift: number };
  readonly complete?: boolean;
}

/** A lease of blocks of a shared address. */
export function putShare(
  bed: XdpBed,
  address: string,
  { ports, spis, complete = true }: Blocks,
  options: { slot?: number; place?: number } = {},
): void {
  const { slot = 0, place = 0 } = options;
  const kinds = bed.object.btf.enumeration('index_kind');
  const flags = bed.object.btf.enumeration('index_flag');
  bed.put('sessions', slot, {
    [`leases[${place}].address`]: mapped(address),
    [`leases[${place}].until_ns`]: NEVER,
    [`leases[${place}].first_port`]: ports?.first ?? 0,
    [`leases[${place}].port_shift`]: ports?.shift ?? 0,
    [`leases[${place}].first_spi`]: spis?.first ?? 0,
    [`leases[${place}].spi_shift`]: spis?.shift ?? 0,
    [`lease_flags[${place}]`]:
      flag(bed, 'LEASE_HELD') |
      (ports === undefined ? 0 : flag(bed, 'LEASE_PORTS')) |
      (spis === undefined ? 0 : flag(bed, 'LEASE_SPIS')),
  });
  bed.index(address, kinds.get('INDEX_ADDRESS')!, 0, {
    flags: flags.get('INDEX_SHARED')! | (complete ? flags.get('INDEX_COMPLETE')! : 0),
    port_shift: ports?.shift ?? 255,
    spi_shift: spis?.shift ?? 255,
  });
  const value = { slot, lease: place };
  if (ports !== undefined) bed.index(address, kinds.get('INDEX_PORTS')!, ports.first >>> ports.shift, value);
  if (spis !== undefined) bed.index(address, kinds.get('INDEX_SPIS')!, spis.first >>> spis.shift, value);
}

function flag(bed: XdpBed, name: string): number {
  return bed.object.btf.enumeration('lease_flag').get(name)!;
}

/** A frame to the relay on a link, with padding as Ethernet has it. */
export function frameOf(link: 'public' | 'access', packet: Uint8Array, padTo = 0): Uint8Array {
  const frame = new Uint8Array(Math.max(14 + packet.length, padTo));
  frame.set(macOctets(MAC[link]));
  frame.set(macOctets(link === 'public' ? MAC.peer : MAC.device), 6);
  frame.set(packet[0]! >> 4 === 4 ? [8, 0] : [0x86, 0xdd], 12);
  frame.set(packet, 14);
  return frame;
}

/** 16 octets, IPv4 as ::ffff:a.b.c.d. */
export function mapped(address: string): Uint8Array {
  const octets = parseAddress(address, 'address');
  if (octets.length === 16) return octets;
  const out = new Uint8Array(16);
  out.set([0xff, 0xff], 10);
  out.set(octets, 12);
  return out;
}

export function macOctets(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':'), (octet) => Number.parseInt(octet, 16));
}

function magicOf(object: BpfObject): bigint {
  const values = object.btf.enumeration('layout_version');
  return (BigInt(values.get('LAYOUT_MAGIC_HIGH')!) << 32n) | BigInt(values.get('LAYOUT_MAGIC_LOW')!);
}

function indexKey(address: string, kind: number, number: number): Uint8Array {
  const key = new Uint8Array(24);
  key.set(mapped(address));
  new DataView(key.buffer).setUint32(16, number);
  key[20] = kind;
  return key;
}

function write(view: DataView, at: number, size: number, value: number | bigint | Uint8Array): void {
  if (value instanceof Uint8Array) {
    if (value.length !== size) throw new RangeError(`${value.length} octets for a member of ${size}`);
    new Uint8Array(view.buffer).set(value, at);
  } else if (size === 8) view.setBigUint64(at, BigInt(value), true);
  else if (size === 4) view.setUint32(at, Number(value), true);
  else if (size === 2) view.setUint16(at, Number(value), true);
  else if (size === 1) view.setUint8(at, Number(value));
  else throw new RangeError(`a member of ${size} octets takes octets`);
}

function read(view: DataView, at: number, size: number): bigint {
  if (size === 8) return view.getBigUint64(at, true);
  if (size === 4) return BigInt(view.getUint32(at, true));
  if (size === 2) return BigInt(view.getUint16(at, true));
  if (size === 1) return BigInt(view.getUint8(at));
  let value = 0n;
  for (let i = 0; i < size; i += 1) value = (value << 8n) | BigInt(view.getUint8(at + i));
  return value;
}

/** Names of counters by group and reason, as the userspace engine has them. */
function countNames(object: BpfObject): Map<number, Map<number, string>> {
  const groups = new Map<number, Map<number, string>>();
  for (const [name, group] of object.btf.enumeration('count_group')) {
    if (name === 'GROUPS') continue;
    const word = name.replace('GROUP_', '');
    const reasons = new Map<number, string>();
    for (const [reason, at] of object.btf.enumeration(`${word.toLowerCase()}_count`)) {
      const text = reason
        .slice(word.length + 1)
        .toLowerCase()
        .replaceAll('_', '-');
      reasons.set(at, `${word.toLowerCase()}/${text}`);
    }
    groups.set(group, reasons);
  }
  return groups;
}

function readCounters(map: BpfMap): bigint[] {
  const cpus = possibleCpus();
  const values = new BigUint64Array(cpus);
  const octets = new Uint8Array(values.buffer);
  return Array.from({ length: map.info.maxEntries }, (_, at) => {
    map.lookupAt(at, octets);
    return values.reduce((sum, value) => sum + value, 0n);
  });
}

function layOut(network: OwnNamespace): void {
  network.run(() => {
    for (const [key, value] of [
      ['net.ipv4.ip_forward', '1'],
      ['net.ipv6.conf.all.forwarding', '1'],
      ['net.ipv6.conf.default.accept_dad', '0'],
    ]) {
      execFileSync('sysctl', ['-q', '-w', `${key}=${value}`]);
    }
  });
  for (const link of ['public', 'access'] as const) {
    network.ip(`link add ${link} address ${MAC[link]} type veth peer name ${link}-far`);
    network.ip(`link set ${link} up`);
    network.ip(`link set ${link}-far up`);
  }
  network.ip('addr add 198.51.100.1/24 dev public');
  network.ip('addr add 2001:db8:1::1/64 dev public nodad');
  network.ip('addr add 192.0.2.1/24 dev access');
  network.ip('addr add 2001:db8:2::1/64 dev access nodad');
  for (const family of [4, 6] as const) {
    network.ip(`neigh replace ${BED[family].peer} lladdr ${MAC.peer} nud permanent dev public`);
    for (const device of [BED[family].device, BED[family].moved]) {
      network.ip(`neigh replace ${device} lladdr ${MAC.device} nud permanent dev access`);
    }
  }
}
