import { expect, test } from 'vitest';
import { createOwnership } from '../../../src/ownership/ownership.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const STANDBY = { id: 'r2', boot: 'c'.repeat(16) };

test('an answer that comes when its anchor has been handed over takes nothing up', async () => {
  let nowMs = 1_000;
  const answers: (() => void)[] = [];
  const happened: string[] = [];
  const ownership = createOwnership({
    registry: {
      claim: () => Promise.reject(new Error('nobody claims anything')),
      renew: () => new Promise((resolve) => answers.push(() => resolve({ remainingMs: 450 }))),
      transfer: async () => ({ epoch: 3n, remainingMs: 450 }),
    },
    ...{ relay: STANDBY.id, boot: STANDBY.boot, log: silent },
    timers: { nowMs: () => nowMs, after: () => () => undefined },
    onOwned: (_, epoch) => void happened.push(`owned ${epoch}`),
    onDeadline: () => undefined,
    onLost: (_, epoch) => void happened.push(`lost ${epoch}`),
  });
  // The giver has said it twice, or it was doubled on its way.
  const adopted = [ownership.adopt('a1', 2n), ownership.adopt('a1', 2n)] as const;
  answers[0]!();
  await adopted[0];
  nowMs += 10;
  const steps = { freeze: async () => null, deliver: async () => undefined, thaw: async () => undefined };
  await ownership.handOver('a1', { id: 'r1', boot: 'b'.repeat(16) }, steps);
  answers[1]!();
  await expect(adopted[1]).rejects.toMatchObject({ code: 'ERR_MOORING_STALE_EPOCH' });
  expect(happened).toEqual(['owned 2', 'lost 2']);
  expect(ownership.owned().size).toBe(0);
});
