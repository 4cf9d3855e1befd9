import { expect, test } from 'vitest';
import { createOwnership } from '../../../src/ownership/ownership.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const SUCCESSOR = { id: 'r2', boot: 'c'.repeat(16) };
const ANOTHER = { id: 'r3', boot: 'd'.repeat(16) };

test.each([
  ['QUARANTINED', 5, undefined, 'goes on where it is', 'thawed'],
  ['QUARANTINED', 1_005, SUCCESSOR, 'ends: it may have been given away before', 'lost'],
  ['REGISTRY_UNAVAILABLE', 60_000, SUCCESSOR, 'goes on by its successor’s promises', 'thawed'],
  ['REGISTRY_UNAVAILABLE', 60_000, ANOTHER, 'ends: nobody else’s promises are good for it', 'lost'],
  ['REGISTRY_UNAVAILABLE', 60_000, undefined, 'ends where nobody promises anything', 'lost'],
] as const)(
  'a hand-over that ends in %s after %i ms, with standby %o, %s',
  async (code, answeredMs, standby, _, expected) => {
    let nowMs = 1_000;
    const happened: string[] = [];
    const ownership = createOwnership({
      registry: {
        claim: async () => ({ epoch: 1n }),
        renew: async () => ({ remainingMs: 450 }),
        async transfer() {
          nowMs += answeredMs;
          throw new MooringError(`ERR_MOORING_${code}`, 'not carried out as far as is known', {
            temporary: true,
          });
        },
      },
      standbyOf: () => standby,
      ...{ relay: 'r1', boot: 'b'.repeat(16), log: silent },
      timers: { nowMs: () => nowMs, after: () => () => undefined },
      onOwned: () => undefined,
      onDeadline: () => undefined,
      onLost: () => void happened.push('lost'),
    });
    await ownership.claim('a1');
    const handedOver = ownership.handOver('a1', SUCCESSOR, {
      freeze: async () => null,
      deliver: async () => undefined,
      thaw: async () => void happened.push('thawed'),
    });
    await expect(handedOver).rejects.toMatchObject({ code: `ERR_MOORING_${code}` });
    expect(happened).toEqual([expected]);
    expect(ownership.owned().has('a1')).toBe(expected === 'thawed');
  },
);
