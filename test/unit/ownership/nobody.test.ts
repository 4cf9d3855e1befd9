import { expect, test } from 'vitest';
import { createPairing } from '../../../src/ownership/pair.ts';
import type { Incarnation } from '../../../src/registry/registry.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const UNSURE_MS = 21_000;
const TTL_MS = { paired: 450, alone: 10_000, beginning: 2_000 };

/** One anchor, and what is there at a time. */
function scene(wanted: boolean) {
  const present = { nowMs: 0, epoch: 2n, candidates: [] as Incarnation[] };
  const noted: string[] = [];
  const pairing = createPairing({
    registry: { appoint: async () => ({ remainingMs: 1 }) as never },
    ...{ relay: 'r1', log: silent, askEveryMs: 100, unsureMs: UNSURE_MS, ttlMs: TTL_MS },
    timers: { nowMs: () => present.nowMs, after: () => () => undefined },
    ownership: {
      owned: () => new Map([['a1', { epoch: present.epoch, untilMs: present.nowMs + 1_000 }]]),
      extend: () => undefined,
    },
    wants: () => wanted,
    candidates: async () => present.candidates,
    reach: async () => ({ promise: async () => [] }),
    note: async (anchor, standby) => void noted.push(`${anchor} ${standby?.id ?? null} ${present.nowMs}`),
  });
  return { present, noted, pairing };
}

test.each([true, false])(
  'that nobody stands by is noted when the registry cannot lose the claim any more (standby wanted: %s)',
  async (wanted) => {
    const { present, noted, pairing } = scene(wanted);
    const look = async (atMs: number) => {
      present.nowMs = atMs;
      await pairing.review();
    };
    for (const atMs of [0, UNSURE_MS - 1]) await look(atMs);
    expect(noted).toEqual([]);
    for (const atMs of [UNSURE_MS, UNSURE_MS + 1_000]) await look(atMs);
    expect(noted).toEqual([`a1 null ${UNSURE_MS}`]);
    present.epoch = 3n;
    for (const atMs of [30_000, 30_000 + UNSURE_MS]) await look(atMs);
    expect(noted.slice(1), 'under the next epoch').toEqual([`a1 null ${30_000 + UNSURE_MS}`]);
  },
);

test('an anchor is held as long as one that wants no standby when nobody is there for it, and until then shortly', async () => {
  const { present, pairing } = scene(true);
  expect(pairing.ttlOf('a1')).toBe(TTL_MS.beginning);
  await pairing.review();
  expect(pairing.ttlOf('a1')).toBe(TTL_MS.alone);
  present.candidates = [{ id: 'r2', boot: 'c'.repeat(16) }];
  await pairing.review();
  expect(pairing.ttlOf('a1')).toBe(TTL_MS.paired);
  present.candidates = [];
  await pairing.review();
  expect(pairing.ttlOf('a1')).toBe(TTL_MS.alone);
});
