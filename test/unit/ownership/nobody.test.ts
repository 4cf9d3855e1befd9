import { expect, test } from 'vitest';
import { createPairing } from '../../../src/ownership/pair.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const UNSURE_MS = 21_000;

test.each([true, false])(
  'that nobody stands by is noted when the registry cannot lose the claim any more (standby wanted: %s)',
  async (wanted) => {
    let nowMs = 0;
    let epoch = 2n;
    const noted: string[] = [];
    const pairing = createPairing({
      registry: { appoint: async () => ({ remainingMs: 1 }) as never },
      ...{ relay: 'r1', log: silent, askEveryMs: 100, unsureMs: UNSURE_MS },
      timers: { nowMs: () => nowMs, after: () => () => undefined },
      ownership: {
        owned: () => new Map([['a1', { epoch, untilMs: nowMs + 1_000 }]]),
        extend: () => undefined,
      },
      wants: () => wanted,
      candidates: async () => [],
      reach: () => Promise.reject(new Error('nobody is there')),
      note: async (anchor, standby) => void noted.push(`${anchor} ${standby} ${nowMs}`),
      ttlMs: { paired: 450, alone: 10_000, beginning: 2_000 },
    });
    const look = async (atMs: number) => {
      nowMs = atMs;
      await pairing.review();
    };
    for (const atMs of [0, UNSURE_MS - 1]) await look(atMs);
    expect(noted).toEqual([]);
    for (const atMs of [UNSURE_MS, UNSURE_MS + 1_000]) await look(atMs);
    expect(noted).toEqual([`a1 null ${UNSURE_MS}`]);
    epoch = 3n;
    for (const atMs of [30_000, 30_000 + UNSURE_MS]) await look(atMs);
    expect(noted.slice(1), 'under the next epoch').toEqual([`a1 null ${30_000 + UNSURE_MS}`]);
  },
);
