import { describe, expect, test } from 'vitest';
import { byWeight, place } from '../../../src/ownership/placement.ts';

const relays = (count: number) =>
  Array.from({ length: count }, (_, n) => ({ id: `relay-${n + 1}`, boot: `${n}`.repeat(16) }));
const anchors = Array.from({ length: 2_000 }, (_, n) => `pool-${n}`);
const heaviest = (candidates: ReturnType<typeof relays>) =>
  new Map(anchors.map((anchor) => [anchor, byWeight(anchor, candidates)[0]!.id]));

test('anchors spread evenly over the relays that can stand by', () => {
  for (const count of [2, 3, 5, 8]) {
    const shares = new Map<string, number>();
    for (const id of heaviest(relays(count)).values()) shares.set(id, (shares.get(id) ?? 0) + 1);
    expect(shares.size).toBe(count);
    const fair = anchors.length / count;
    for (const share of shares.values()) expect(Math.abs(share - fair)).toBeLessThan(fair * 0.2);
  }
});

test('a relay that comes takes its share from all, and nothing moves between the others', () => {
  const before = heaviest(relays(4));
  const after = heaviest(relays(5));
  const moved = anchors.filter((anchor) => before.get(anchor) !== after.get(anchor));
  expect(moved.every((anchor) => after.get(anchor) === 'relay-5')).toBe(true);
  expect(moved.length).toBeGreaterThan(anchors.length / 5 / 1.2);
  expect(moved.length).toBeLessThan((anchors.length / 5) * 1.2);
});

test('a relay that goes leaves its share to all others', () => {
  const before = heaviest(relays(5));
  const after = heaviest(relays(5).slice(0, 4));
  for (const anchor of anchors) {
    if (before.get(anchor) !== 'relay-5') expect(after.get(anchor)).toBe(before.get(anchor));
  }
});

test('every owner comes to the same answer, in whatever order it hears of the relays', () => {
  const forwards = heaviest(relays(5));
  const backwards = heaviest(relays(5).reverse());
  expect(backwards).toEqual(forwards);
  expect(byWeight('pool-1', [])).toEqual([]);
});

describe('the anchors of one owner', () => {
  const few = anchors.slice(0, 9);
  const all = async () => true;
  type Placed = Awaited<ReturnType<typeof place>>;
  const shares = (placed: Placed) => {
    const count = new Map<string, number>();
    for (const { id } of placed.values()) count.set(id, (count.get(id) ?? 0) + 1);
    return [...count.values()].sort();
  };
  const movedBetween = (one: Placed, other: Placed) =>
    few.filter((anchor) => one.get(anchor)?.id !== other.get(anchor)?.id);

  test('go to nobody in more than his share, however few they are', async () => {
    for (const [count, expected] of [
      [1, [9]],
      [2, [4, 5]],
      [4, [1, 2, 3, 3]],
    ] as const) {
      const placed = await place(few, relays(count), new Map(), all);
      expect(placed.size).toBe(9);
      expect(Math.max(...shares(placed))).toBe(Math.max(...expected));
    }
  });

  test('stay where they are while nobody comes or goes, and in whatever order they are named', async () => {
    const placed = await place(few, relays(3), new Map(), all);
    expect(await place(few.toReversed(), relays(3).reverse(), placed, all)).toEqual(placed);
  });

  test('move to a relay that comes as far as its share goes, and not between the others', async () => {
    const before = await place(few, relays(2), new Map(), all);
    const after = await place(few, relays(3), before, all);
    expect(shares(after)).toEqual([3, 3, 3]);
    for (const anchor of movedBetween(before, after)) expect(after.get(anchor)?.id).toBe('relay-3');
    expect(await place(few.toReversed(), relays(3).reverse(), before, all)).toEqual(after);
  });

  test('of a relay that goes are shared by the others', async () => {
    const before = await place(few, relays(3), new Map(), all);
    const after = await place(few, relays(2), before, all);
    expect(shares(after)).toEqual([4, 5]);
    for (const anchor of movedBetween(before, after)) expect(before.get(anchor)?.id).toBe('relay-3');
  });

  test('have somebody while one answers, though it is more than his share, and nobody when none does', async () => {
    const only = async ({ id }: { readonly id: string }) => id === 'relay-2';
    expect(shares(await place(few, relays(3), new Map(), only))).toEqual([9]);
    expect((await place(few, relays(3), new Map(), async () => false)).size).toBe(0);
  });

  test('stay with one that has more than his share where no other answers, whether or not he does', async () => {
    const before = await place(few, relays(1), new Map(), all);
    expect(await place(few, relays(2), before, async () => false)).toEqual(before);
  });
});
