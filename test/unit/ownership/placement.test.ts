import { expect, test } from 'vitest';
import { byWeight } from '../../../src/ownership/pair.ts';

const relays = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ id: `relay-${n + 1}`, boot: `${n}`.repeat(16) }));
const anchors = Array.from({ length: 2_000 }, (_, n) => `pool-${n}`);
const place = (candidates: ReturnType<typeof relays>) =>
  new Map(anchors.map((anchor) => [anchor, byWeight(anchor, candidates)[0]!.id]));

test('anchors spread evenly over the relays that can stand by', () => {
  for (const count of [2, 3, 5, 8]) {
    const shares = new Map<string, number>();
    for (const id of place(relays(count)).values()) shares.set(id, (shares.get(id) ?? 0) + 1);
    expect(shares.size).toBe(count);
    const fair = anchors.length / count;
    for (const share of shares.values()) expect(Math.abs(share - fair)).toBeLessThan(fair * 0.2);
  }
});

test('a relay that comes takes its share from all, and nothing moves between the others', () => {
  const before = place(relays(4));
  const after = place(relays(5));
  const moved = anchors.filter((anchor) => before.get(anchor) !== after.get(anchor));
  expect(moved.every((anchor) => after.get(anchor) === 'relay-5')).toBe(true);
  expect(moved.length).toBeGreaterThan(anchors.length / 5 / 1.2);
  expect(moved.length).toBeLessThan((anchors.length / 5) * 1.2);
});

test('a relay that goes leaves its share to all others', () => {
  const before = place(relays(5));
  const after = place(relays(5).slice(0, 4));
  for (const anchor of anchors) {
    if (before.get(anchor) !== 'relay-5') expect(after.get(anchor)).toBe(before.get(anchor));
  }
});

test('every owner comes to the same answer, in whatever order it hears of the relays', () => {
  const forwards = place(relays(5));
  const backwards = place(relays(5).reverse());
  expect(backwards).toEqual(forwards);
  expect(byWeight('pool-1', [])).toEqual([]);
});
