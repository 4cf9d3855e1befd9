import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contains, type Prefix, parsePrefix } from '../../../src/protocol/address.ts';
import { checkDeclaration, type Plan } from '../../../src/registry/plan.ts';
import {
  disjoint,
  offsetIn,
  overlap,
  partsOf,
  prefixText,
  without,
} from '../../../src/registry/prefix-sets.ts';
import type { AnchorDeclaration } from '../../../src/registry/registry.ts';
import { drained, drainingOf, resize } from '../../../src/registry/resizing.ts';

const declared = (prefixes: readonly string[], more: Partial<AnchorDeclaration> = {}) =>
  checkDeclaration({
    id: 'a1',
    pool: 'p',
    sharing: 'whole',
    prefixes,
    endpoints: ['203.0.113.1'],
    home: 'r1',
    longestLeaseMs: 1000,
    ...more,
  });
const KEY = () => [1, 2, 3, 4];
/** One declaration after another, the first at instant 0, the next at 100 and so on. */
const grow = (...steps: readonly (readonly string[])[]): Plan =>
  steps.reduce<Plan | null>(
    (plan, prefixes, at) => resize(plan, declared(prefixes), at * 100, KEY).plan,
    null,
  )!;
const drains = (plan: Plan) => drainingOf(plan).map(({ prefix, untilMs }) => `${prefix} ${untilMs}`);

describe('an anchor that is declared anew', () => {
  test('is the same plan when nothing changes', () => {
    const plan = grow(['192.0.2.0/29']);
    expect(resize(plan, declared(['192.0.2.0/29']), 500, KEY)).toEqual({ plan, draining: [], isAnew: false });
  });

  test('keeps the slots that it has and numbers new ones behind them', () => {
    const plan = grow(['192.0.2.0/29'], ['192.0.2.0/29', '2001:db8::/126']);
    expect(plan.segments.map(({ first, slots }) => [first, slots])).toEqual([
      [0, 8],
      [8, 4],
    ]);
    expect([plan.slots, plan.capacity]).toEqual([12, 12]);
    expect(new Set(plan.segments.map(({ tweak }) => tweak)).size).toBe(2);
  });

  test('adds only what it has not when a prefix gets larger', () => {
    const plan = grow(['192.0.2.0/30'], ['192.0.2.0/28']);
    expect(plan.capacity).toBe(16);
    expect(plan.segments[1]?.prefixes.map(({ hex, bits }) => `${hex}/${bits}`).sort()).toEqual([
      'c0000204/30',
      'c0000208/29',
    ]);
  });

  test('closes a prefix that is taken out, until the longest lease time is over', () => {
    const plan = grow(['192.0.2.0/30', '192.0.2.8/30'], ['192.0.2.8/30']);
    expect(drains(plan)).toEqual(['192.0.2.0/30 1100']);
    expect([plan.slots, plan.capacity]).toEqual([8, 4]);
  });

  test('closes the part of a prefix that is taken out', () => {
    const plan = grow(['192.0.2.0/29'], ['192.0.2.2/31']);
    expect(drains(plan)).toEqual(['192.0.2.0/31 1100', '192.0.2.4/30 1100']);
    expect(plan.capacity).toBe(2);
  });

  test('opens again what was closed, with the slots it had', () => {
    const first = grow(['192.0.2.0/29']);
    const plan = grow(['192.0.2.0/29'], ['192.0.2.0/30'], ['192.0.2.0/29']);
    expect(plan).toEqual(first);
  });

  test('does not give closed leases more time when something else changes', () => {
    const plan = grow(['192.0.2.0/29'], ['192.0.2.0/30'], ['192.0.2.0/30', '192.0.2.64/30']);
    expect(drains(plan)).toEqual(['192.0.2.4/30 1100']);
  });

  test('closes everything when it retires', () => {
    const { plan, draining } = resize(grow(['192.0.2.0/29']), declared([], { retiring: true }), 7, KEY);
    expect(draining).toEqual([{ prefix: '192.0.2.0/29', untilMs: 1007 }]);
    expect(plan.capacity).toBe(0);
  });

  test('numbers its slots anew when they get another shape', () => {
    const plan = grow(['192.0.2.0/30']);
    expect(resize(plan, declared(['192.0.2.0/30'], { sharing: 'shared' }), 0, KEY).isAnew).toBe(true);
    expect(resize(plan, declared(['192.0.2.0/30'], { pool: 'q' }), 0, KEY).isAnew).toBe(true);
  });

  test.each([
    ['more than an anchor holds', ['10.0.0.0/20'], ['10.0.0.0/20', '10.1.0.0/32'], 'ERR_MOORING_ANCHOR_FULL'],
    ['a part of more than it leases', ['10.0.0.0/16'], ['10.0.0.0/17'], 'ERR_MOORING_BAD_INPUT'],
  ])('is refused %s, by name', (_, first, then, code) => {
    expect(() => grow(first, then)).toThrow(expect.objectContaining({ code }));
  });

  test('may replace as much as an anchor holds while the old is drained', () => {
    const plan = grow(['10.0.0.0/16'], ['10.1.0.0/16']);
    expect([plan.slots, plan.capacity]).toEqual([8192, 4096]);
    expect(drains(plan)).toEqual(['10.0.0.0/16 1100']);
  });
});

describe('what nobody has any more', () => {
  test('goes, whole segments with it', () => {
    const plan = drained(grow(['192.0.2.0/30'], ['192.0.2.8/30']), () => true);
    expect(plan.segments.map(({ first }) => first)).toEqual([4]);
    expect(drainingOf(plan)).toEqual([]);
  });

  test('goes in part, comes back with the slots it had, and is not announced meanwhile', () => {
    const before = grow(['192.0.2.0/29'], ['192.0.2.0/30']);
    const gone = drained(before, () => true);
    expect(drainingOf(gone)).toEqual([]);
    const shrunk = resize(gone, declared(['192.0.2.0/31']), 300, KEY).plan;
    expect(drains(shrunk)).toEqual(['192.0.2.2/31 1300']);
    expect(resize(gone, declared(['192.0.2.0/29']), 400, KEY).plan).toEqual(grow(['192.0.2.0/29']));
  });

  test('stays while somebody has it', () => {
    const plan = grow(['192.0.2.0/30', '192.0.2.8/30'], ['192.0.2.64/30']);
    const some = drained(plan, (prefix) => prefixText(prefix) === '192.0.2.0/30');
    expect(drains(some)).toEqual(['192.0.2.8/30 1100']);
  });
});

describe('sets of prefixes', () => {
  const prefix: fc.Arbitrary<Prefix> = fc
    .record({ host: fc.nat(255), bits: fc.integer({ min: 24, max: 32 }) })
    .map(({ host, bits }) => parsePrefix(`192.0.2.${host - (host % 2 ** (32 - bits))}/${bits}`));
  const hosts = Array.from({ length: 256 }, (_, host) => Uint8Array.of(192, 0, 2, host));
  const members = (set: readonly Prefix[]) =>
    new Set(hosts.flatMap((bytes, host) => (set.some((one) => contains(one, bytes)) ? [host] : [])));

  test('what is left of a prefix without others is what neither of them has, each address once', () => {
    fc.assert(
      fc.property(prefix, fc.array(prefix, { maxLength: 5 }), (whole, others) => {
        const left = without(whole, others);
        const taken = members(others);
        const expected = [...members([whole])].filter((host) => !taken.has(host));
        expect([...members(left)]).toEqual(expected);
        expect(left.some((one, at) => left.some((other, o) => o !== at && overlap(one, other)))).toBe(false);
      }),
      { numRuns: 100 },
    );
  });

  test('a list without overlaps names the same addresses', () => {
    fc.assert(
      fc.property(fc.array(prefix, { maxLength: 6 }), (set) => {
        const single = disjoint(set.map(prefixText)).map((text) => parsePrefix(text));
        expect(members(single)).toEqual(members(set));
        expect(single.some((one, at) => single.some((other, o) => o !== at && overlap(one, other)))).toBe(
          false,
        );
      }),
      { numRuns: 100 },
    );
  });

  test('a range is covered by its parts and by nothing else', () => {
    fc.assert(
      fc.property(fc.nat(255), fc.nat(255), (a, b) => {
        const [from, to] = [Math.min(a, b), Math.max(a, b)];
        const parts = partsOf(parsePrefix('192.0.2.0/24'), from, to - from + 1);
        expect([...members(parts)]).toEqual(Array.from({ length: to - from + 1 }, (_, at) => from + at));
        expect(offsetIn(parsePrefix('192.0.2.0/24'), parts[0]!)).toBe(from);
      }),
      { numRuns: 100 },
    );
  });
});
