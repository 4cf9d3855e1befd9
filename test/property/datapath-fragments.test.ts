import fc from 'fast-check';
import { expect, it } from 'vitest';
import { FRAGMENTS, FragmentStore } from '../../src/datapath/decision/fragments.ts';
import { packetHeaders, readPacket } from '../../src/datapath/decision/packet.ts';
import { piece } from '../unit/datapath/fragment.ts';

const ENDS = {
  4: ['198.51.100.9', '203.0.113.7'],
  6: ['2001:db8:ffff::9', '2001:db8::7'],
} as const;
/** In units of 8 octets: datagrams are small, so that what is drawn meets often. */
const MOST = 6;
const HEADROOM = 16;

interface Fragment {
  readonly version: 4 | 6;
  readonly id: number;
  readonly start: number;
  readonly units: number;
  readonly more: boolean;
  readonly fill: number;
  readonly afterMs: number;
}

const fragments: fc.Arbitrary<Fragment[]> = fc.array(
  fc.record({
    version: fc.constantFrom(4 as const, 6 as const),
    id: fc.integer({ min: 0, max: 2 }),
    start: fc.integer({ min: 0, max: MOST - 1 }),
    units: fc.integer({ min: 1, max: 3 }),
    more: fc.boolean(),
    fill: fc.integer({ min: 0, max: 1 }),
    afterMs: fc.oneof(
      { weight: 8, arbitrary: fc.constant(0) },
      { weight: 2, arbitrary: fc.integer({ min: 0, max: 20_000 }) },
    ),
  }),
  { maxLength: 40 },
);

const octetsOf = ({ version, id, start, units, more, fill }: Fragment) =>
  piece(ENDS[version][0], ENDS[version][1], 17, new Uint8Array(units * 8).fill(fill), {
    start: start * 8,
    more,
    id,
  });

interface Known {
  readonly untilMs: number;
  readonly parts: Fragment[];
  spoilt: boolean;
}

/** The rules in their plainest form: which unit came from which fragment. */
class Model {
  readonly #datagrams = new Map<string, Known>();

  add(fragment: Fragment, nowMs: number): string | Fragment[] {
    const key = `${fragment.version} ${fragment.id}`;
    let known = this.#datagrams.get(key);
    if (known === undefined || nowMs >= known.untilMs) {
      known = { untilMs: nowMs + FRAGMENTS.keepMs, parts: [], spoilt: false };
      this.#datagrams.set(key, known);
    }
    if (known.spoilt) return 'fragment-overlap';
    const end = ({ start, units }: Fragment) => start + units;
    for (const part of known.parts) {
      if (fragment.start >= end(part) || part.start >= end(fragment)) continue;
      const same =
        part.start === fragment.start && part.units === fragment.units && part.fill === fragment.fill;
      if (same) return 'fragment-repeated';
      return this.#spoil(known);
    }
    const all = [...known.parts, fragment];
    const lasts = all.filter(({ more }) => !more);
    const total = lasts.length === 1 ? end(lasts[0]!) : null;
    if (lasts.length > 1 || (total !== null && all.some((part) => end(part) > total)))
      return this.#spoil(known);
    known.parts.push(fragment);
    if (total === null || known.parts.reduce((sum, { units }) => sum + units, 0) < total)
      return 'fragment-waits';
    this.#datagrams.delete(key);
    return all.sort((a, b) => a.start - b.start);
  }

  #spoil(known: Known): string {
    known.spoilt = true;
    return 'fragment-overlap';
  }
}

it('R39: fragments in any order come out whole, once, unchanged and in order, or not at all', () => {
  fc.assert(
    fc.property(fragments, (all) => {
      const store = new FragmentStore<string>(HEADROOM);
      const model = new Model();
      const headers = packetHeaders();
      let nowMs = 0;
      for (const fragment of all) {
        nowMs += fragment.afterMs;
        store.expire(nowMs);
        const octets = octetsOf(fragment);
        expect(readPacket(octets, 0, octets.length, headers)).toBe(true);
        const isWhole = headers.fragment === 'whole';
        if (isWhole) continue;
        const outcome = store.add('address', octets, headers, nowMs);
        const expected = model.add(fragment, nowMs);
        if (typeof expected === 'string') expect(outcome).toBe(expected);
        else
          expect(outcome).toEqual(
            expected.map((part) => Uint8Array.of(...new Uint8Array(16), ...octetsOf(part))),
          );
      }
      store.expire(nowMs + FRAGMENTS.keepMs);
      expect(store.load).toEqual({ datagrams: 0, octets: 0 });
    }),
    { numRuns: 1500 },
  );
});

it('R39: memory stays within its bounds and comes back, whatever arrives', () => {
  const any = fc.array(
    fc.record({
      owner: fc.integer({ min: 0, max: 3 }),
      id: fc.integer({ min: 0, max: 200 }),
      start: fc.integer({ min: 0, max: 8000 }),
      octets: fc.integer({ min: 1, max: 1400 }),
      more: fc.boolean(),
    }),
    { maxLength: 300 },
  );
  fc.assert(
    fc.property(any, (all) => {
      const store = new FragmentStore<number>(HEADROOM);
      const headers = packetHeaders();
      for (const { owner, id, start, octets, more } of all) {
        const packet = piece(ENDS[4][0], ENDS[4][1], 17, new Uint8Array(octets), {
          start: start * 8,
          more,
          id,
        });
        if (!readPacket(packet, 0, packet.length, headers) || headers.fragment === 'whole') continue;
        store.add(owner, packet, headers, 0);
        expect(store.load.datagrams).toBeLessThanOrEqual(4 * (FRAGMENTS.datagramsPerOwner + 1));
        expect(store.load.octets).toBeLessThanOrEqual(4 * (FRAGMENTS.octetsPerOwner + 2000));
      }
      store.expire(FRAGMENTS.keepMs);
      expect(store.load).toEqual({ datagrams: 0, octets: 0 });
    }),
    { numRuns: 200 },
  );
});
