import { randomInt } from 'node:crypto';
import { expect, test } from 'vitest';
import { cluster, withSentinels } from '../../infra/lab/redis-shapes.ts';
import { storm } from '../chaos/storm.ts';

const FOR_MS = 600_000;

/** The storms of the suite `chaos`, ten minutes each, by a seed of the day. */
test.each([
  [
    'a primary, two replicas and sentinels',
    () => withSentinels({ settings: ['min-replicas-to-write 1', 'min-replicas-max-lag 2'] }),
  ],
  ['a cluster of six', () => cluster()],
] as const)('nothing that was promised is broken in a long storm: %s', async (name, start) => {
  const seed = Number(process.env.MOORING_SEED ?? randomInt(1, 1_000_000));
  const { checked, told } = await storm(name, start(), seed, FOR_MS);
  expect(checked.violations, told).toEqual([]);
});
