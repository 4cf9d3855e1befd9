import { type BpfMap, elementBytes, possibleCpus } from '../../linux/bpf-map.ts';
import type { BpfObject } from '../../linux/bpf-object.ts';
import { type Btf, type BtfStruct, readBtf } from '../../linux/btf.ts';
import { allocate } from '../../linux/libc.ts';
import { ReplayWindow } from '../../tunnel/window.ts';
import { Elements } from './elements.ts';
import { ReplayWindows } from './replay-windows.ts';

/** Numbers that the former program may still use while its state is copied. */
const SEQUENCE_MARGIN = 1 << 16;

export function layoutVersion(btf: Btf): number {
  return btf.enumeration('layout_version').get('LAYOUT_VERSION_NUMBER') ?? 0;
}

/** Maps whose elements are carried over, and what they are. */
export const MAPPED_STRUCTS = {
  anchors: 'anchor',
  sessions: 'session',
  ways: 'way',
  meters: 'meter',
} as const;

/**
 * Carries what maps of another layout hold into an object's new ones, member by member under their names. The former
 * program goes on meanwhile: `finish`, after the new one has taken its place and a grace period, carries over what it
 * admitted and counted last.
 */
export function upgradeMaps(from: Readonly<Record<string, BpfMap>>, object: BpfObject): { finish(): void } {
  const to = object.maps;
  const [before, after] = [readBtf(from.sessions!.info.btfId), object.btf];
  for (const [name, struct] of Object.entries(MAPPED_STRUCTS)) {
    const [old, now] = [from[name], to[name]];
    if (old !== undefined && now !== undefined) {
      copyElements(new Elements(old, before.struct(struct)), new Elements(now, after.struct(struct)));
    }
  }
  raiseSequences(new Elements(to.ways!, after.struct('way')));
  copyIndex(from.index!, before, to.index!, after);
  const counted = readCounters(from.counters!, before);
  writeCounters(to.counters!, after, counted);
  copyWindows(from.windows!, before, to.windows!, after);
  return {
    finish() {
      copyWindows(from.windows!, before, to.windows!, after);
    },
  };
}

function copyElements(from: Elements, to: Elements): void {
  for (let slot = 0; slot < Math.min(from.capacity, to.capacity); slot += 1) {
    copyStruct(from.octets, from.base(slot), from.struct, to.octets, to.base(slot), to.struct);
  }
}

/** Members of the same name; of arrays, as many as both have; of numbers, as many octets. */
function copyStruct(
  from: Uint8Array,
  fromAt: number,
  before: BtfStruct,
  to: Uint8Array,
  toAt: number,
  after: BtfStruct,
): void {
  for (const [name, member] of after.members) {
    const old = before.members.get(name);
    if (old === undefined) continue;
    for (let i = 0; i < Math.min(member.count, old.count); i += 1) {
      const source = fromAt + old.offset + i * old.stride;
      const target = toAt + member.offset + i * member.stride;
      if (member.struct !== null && old.struct !== null) {
        copyStruct(from, source, old.struct, to, target, member.struct);
      } else {
        to.set(from.subarray(source, source + Math.min(member.stride, old.stride)), target);
      }
    }
  }
}

function raiseSequences(ways: Elements): void {
  const sequences = ways.struct.at('last_sequence');
  for (let slot = 0; slot < ways.capacity; slot += 1) {
    for (let phase = 0; phase < sequences.count; phase += 1) {
      const at = ways.base(slot) + sequences.offset + phase * sequences.stride;
      const last = ways.u32(at);
      if (last !== 0) ways.setU32(at, Math.min(last + SEQUENCE_MARGIN, 0x8000_0000));
    }
  }
}

function copyIndex(from: BpfMap, before: Btf, to: BpfMap, after: Btf): void {
  const [oldKey, newKey] = [before.struct('index_key'), after.struct('index_key')];
  const [oldValue, newValue] = [before.struct('index_value'), after.struct('index_value')];
  const value = allocate(from.info.valueBytes);
  for (const key of from.keys()) {
    if (!from.lookup(key, value)) continue;
    const [keyThere, valueThere] = [allocate(to.info.keyBytes), allocate(to.info.valueBytes)];
    copyStruct(key, 0, oldKey, keyThere, 0, newKey);
    copyStruct(value, 0, oldValue, valueThere, 0, newValue);
    to.update(keyThere, valueThere);
  }
}

function copyWindows(from: BpfMap, before: Btf, to: BpfMap, after: Btf): void {
  const [old, now] = [new ReplayWindows(from, before), new ReplayWindows(to, after)];
  for (let slot = 0; slot < Math.min(old.capacity, now.capacity); slot += 1) {
    const there = old.read(slot);
    if (there.highest === 0) continue;
    const here = now.read(slot);
    if (here.highest === there.highest && here.bitmap === there.bitmap) continue;
    const window = ReplayWindow.import(here);
    window.merge(there);
    now.write(slot, window.export());
  }
}

const GROUPS = ['downlink', 'uplink', 'control', 'passed'] as const;

/** Counts of one CPU after the other, by group, family and enumerator. */
type Counted = Map<string, Uint8Array>;

function counterKeys(btf: Btf, map: BpfMap): [name: string, number: number][] {
  const numbers = btf.enumeration('count_group');
  const perGroup = map.info.maxEntries / (GROUPS.length * 2);
  return GROUPS.flatMap((group) =>
    [...btf.enumeration(`${group}_count`)].flatMap(([enumerator, reason]) =>
      [0, 1].map((family): [string, number] => [
        `${enumerator} ${family}`,
        (numbers.get(`GROUP_${group.toUpperCase()}`)! * 2 + family) * perGroup + reason,
      ]),
    ),
  ).filter(([name]) => !/_COUNTS /.test(name));
}

function readCounters(map: BpfMap, btf: Btf): Counted {
  const counted: Counted = new Map();
  for (const [name, number] of counterKeys(btf, map)) {
    const values = allocate(elementBytes(map.info) * possibleCpus());
    if (map.lookupAt(number, values)) counted.set(name, values);
  }
  return counted;
}

function writeCounters(map: BpfMap, btf: Btf, counted: Counted): void {
  for (const [name, number] of counterKeys(btf, map)) {
    const values = counted.get(name);
    if (values !== undefined) map.updateAt(number, values);
  }
}
