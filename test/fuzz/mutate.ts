/** Random changes to known good inputs: the same for the same seed. */

export interface Random {
  /** An integer from 0 to `below` − 1. */
  below(below: number): number;
  pick<T>(from: readonly T[]): T;
}

/** xorshift32. */
export function seededRandom(seed: number): Random {
  let state = seed | 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
  return {
    below: (below) => (below < 2 ? 0 : next() % below),
    pick: (from) => from[next() % from.length]!,
  };
}

const ODD_OCTETS = [0, 1, 2, 3, 4, 15, 16, 31, 32, 0x3f, 0x40, 0x7f, 0x80, 0xfe, 0xff];
const ODD_WORDS = [
  0, 1, 7, 8, 15, 16, 20, 40, 71, 72, 115, 116, 255, 256, 0x1fff, 0x2000, 0x7fff, 0x8000, 0xffff,
];
const LONGEST = 4096;

/** One of the inputs with a few of its octets changed, moved, left out, or mixed with another one's. */
export function mutated(random: Random, inputs: readonly Uint8Array[]): Uint8Array {
  let octets = Uint8Array.from(random.pick(inputs));
  const changes = random.below(4);
  for (let change = 0; change <= changes; change += 1) octets = changed(random, octets, inputs);
  return octets.length > LONGEST ? octets.slice(0, LONGEST) : octets;
}

function changed(random: Random, octets: Uint8Array<ArrayBuffer>, inputs: readonly Uint8Array[]) {
  const at = random.below(octets.length);
  const view = new DataView(octets.buffer);
  switch (random.below(10)) {
    case 0:
      if (octets.length > 0) octets[at]! ^= 1 << random.below(8);
      return octets;
    case 1:
      if (octets.length > 0) octets[at] = random.pick(ODD_OCTETS);
      return octets;
    case 2:
      if (at + 2 <= octets.length) view.setUint16(at, random.pick(ODD_WORDS), random.below(2) === 0);
      return octets;
    case 3:
      if (at + 4 <= octets.length) view.setUint32(at, random.pick(ODD_WORDS), random.below(2) === 0);
      return octets;
    case 4:
      if (octets.length > 0) octets[at] = random.below(256);
      return octets;
    case 5:
      return octets.slice(0, at);
    case 6:
      return joined(octets, new Uint8Array(random.below(64)).fill(random.pick(ODD_OCTETS)));
    case 7:
      return joined(octets.subarray(0, at), octets.subarray(at + 1 + random.below(16)));
    case 8:
      return joined(octets.subarray(0, at), octets.subarray(random.below(octets.length)));
    default: {
      const other = random.pick(inputs);
      return joined(octets.subarray(0, at), other.subarray(random.below(other.length)));
    }
  }
}

function joined(one: Uint8Array, other: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(one.length + other.length);
  all.set(one);
  all.set(other, one.length);
  return all;
}

const ODD_VALUES: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  0.5,
  4_294_967_296,
  Number.MAX_SAFE_INTEGER + 2,
  1e308,
  '',
  '\u0000',
  '0',
  '-1',
  '::',
  '::ffff:1.2.3.4',
  '1.2.3',
  'ff'.repeat(2_000),
  '__proto__',
  '\ud800',
  [],
  {},
  [[]],
  [null],
  { length: -1 },
];

/** One of the values with a few of its members replaced, added or left out, as JSON; now and then not quite JSON. */
export function mutatedJson(random: Random, values: readonly unknown[]): string {
  let value: unknown = structuredClone(random.pick(values));
  const changes = random.below(3);
  for (let change = 0; change <= changes; change += 1) value = changedValue(random, value);
  const text = JSON.stringify(value) ?? '';
  if (random.below(4) > 0) return text;
  return new TextDecoder().decode(mutated(random, [new TextEncoder().encode(text)]));
}

function changedValue(random: Random, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || random.below(12) === 0) return oddValue(random);
  const members = value as Record<string, unknown>;
  const names = Object.keys(members);
  const name = names.length === 0 ? 'x' : random.pick(names);
  switch (random.below(5)) {
    case 0:
      delete members[name];
      return value;
    case 1:
      members[`${name}x`] = oddValue(random);
      return value;
    default:
      members[name] = changedValue(random, members[name]);
      return value;
  }
}

function oddValue(random: Random): unknown {
  return structuredClone(random.pick(ODD_VALUES));
}
