import { expect, test } from 'vitest';
import { createOwnership } from '../../../src/ownership/ownership.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import { silent } from '../../integration/registry/real-redis.ts';

test.each([
  [5, 'goes on where it is', ['thawed']],
  [1_005, 'ends here: a primary that is none any more may have given it away', ['lost']],
])('a hand-over that a quarantine refuses after %i ms %s', async (answeredMs, _, expected) => {
  let nowMs = 1_000;
  const happened: string[] = [];
  const ownership = createOwnership({
    registry: {
      claim: async () => ({ epoch: 1n }),
      renew: async () => ({ remainingMs: 450 }),
      async transfer() {
        nowMs += answeredMs;
        throw new MooringError('ERR_MOORING_QUARANTINED', 'quarantined', { temporary: true });
      },
    },
    ...{ relay: 'r1', boot: 'b'.repeat(16), log: silent },
    timers: { nowMs: () => nowMs, after: () => () => undefined },
    onOwned: () => undefined,
    onDeadline: () => undefined,
    onLost: () => void happened.push('lost'),
  });
  await ownership.claim('a1');
  const handedOver = ownership.handOver(
    'a1',
    { id: 'r2', boot: 'c'.repeat(16) },
    {
      freeze: async () => null,
      deliver: async () => undefined,
      thaw: async () => void happened.push('thawed'),
    },
  );
  await expect(handedOver).rejects.toMatchObject({ code: 'ERR_MOORING_QUARANTINED' });
  expect(happened).toEqual(expected);
  expect(ownership.owned().has('a1')).toBe(expected[0] === 'thawed');
});
