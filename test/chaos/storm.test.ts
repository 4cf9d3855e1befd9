import { describe, expect, test } from 'vitest';
import { cluster, withSentinels } from '../../infra/lab/redis-shapes.ts';
import { storm } from './storm.ts';

const SEED = Number(process.env.MOORING_SEED ?? 20);
const FOR_MS = 45_000;

describe.concurrent('nothing that was promised is broken while everything else is', () => {
  test.each([
    [
      'a primary, two replicas and sentinels',
      () => withSentinels({ settings: ['min-replicas-to-write 1', 'min-replicas-max-lag 2'] }),
    ],
    ['a cluster of six', () => cluster()],
  ] as const)('on %s', async (name, start) => {
    const { checked, report, told } = await storm(name, start(), SEED, FOR_MS);
    expect(checked.violations, told).toEqual([]);
    expect(report.failOvers, told).toBeGreaterThan(0);
    expect(report.acknowledged, told).toBeGreaterThan(20);
  });
});
