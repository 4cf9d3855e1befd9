import { describe, expect, it } from 'vitest';
import { Results } from '../../../infra/bench/record.ts';
import { search } from '../../../infra/bench/registry/kea.ts';
import { closedLoop, openLoop, spinning } from '../../../infra/bench/registry/load.ts';
import { METRICS, sizeName } from '../../../infra/bench/registry/sizes.ts';
import {
  forecast,
  goals,
  P99,
  PROGRAM_US,
  RATE,
  REDIS_US,
  SYSTEM,
} from '../../../infra/bench/registry/verdict.ts';

describe('the rate that a rival carries', () => {
  const carries =
    (capacity: number, tried: number[] = []) =>
    async (rate: number) => {
      tried.push(rate);
      return rate <= capacity ? 0 : 5;
    };

  it('is found to a few percent, from above and from below', async () => {
    for (const capacity of [900, 7_000, 8_000, 19_000, 50_000]) {
      const found = await search(undefined, carries(capacity));
      expect(found).toBeLessThanOrEqual(capacity);
      expect(found).toBeGreaterThan(capacity / 1.09);
    }
  });

  it('is found in fewer trials when it is known from before', async () => {
    const [first, again]: [number[], number[]] = [[], []];
    const known = await search(undefined, carries(19_000, first));
    await search(known, carries(19_500, again));
    expect(again.length).toBeLessThan(first.length);
  });

  it('is none when even the lowest loses', async () => {
    expect(await search(undefined, carries(10))).toBe(0);
  });
});

describe('a load', () => {
  it('carries out each of its operations once, never more at a time than it is wide', async () => {
    let under = 0;
    let most = 0;
    const done: number[] = [];
    const { count } = await closedLoop(7, { count: 50 }, async (n) => {
      under += 1;
      most = Math.max(most, under);
      await spinning();
      under -= 1;
      done.push(n);
    });
    expect(count).toBe(50);
    expect(most).toBe(7);
    expect(done.sort((a, b) => a - b)).toEqual(Array.from({ length: 50 }, (_, n) => n));
  });

  it('that is steady waits for nothing that is slow', async () => {
    let release = () => {};
    const slow = new Promise<void>((resolve) => {
      release = resolve;
    });
    const { count } = await openLoop(100_000, 20, spinning, async (n) => {
      if (n === 19) release();
      await slow;
    });
    expect(count).toBe(20);
  });
});

describe('goals of the registry benchmark', () => {
  const measured = () => {
    const results = new Results();
    results.add(SYSTEM.kea, 'grant', { [RATE]: 10_000 });
    results.add(SYSTEM.program, 'grant', { [RATE]: 9_000, [P99]: 4 });
    results.add(SYSTEM.store, 'grant', { [RATE]: 16_000, [P99]: 1 });
    for (const [size, octets, grant, extend] of [
      [10_000, 700, 100, 50],
      [100_000, 950, 105, 51],
      [1_000_000, 800, 110, 70],
    ] as const) {
      results.add(SYSTEM.store, sizeName(size), {
        [METRICS.octets]: octets,
        [METRICS.grant]: grant,
        [METRICS.extend]: extend,
      });
    }
    for (const [system, rate] of [
      [SYSTEM.onePrimary, 10_000],
      [SYSTEM.threePrimaries, 9_500],
    ] as const) {
      results.add(system, 'cluster-grant', { [RATE]: rate, [REDIS_US]: 100, [PROGRAM_US]: 200 });
      results.add(system, 'cluster-extend', { [RATE]: rate });
    }
    return results;
  };
  const goal = (results: Results, id: string) => goals(results).find((one) => one.id === `registry.${id}`);

  it('compare with Kea end to end and at the store, each by itself', () => {
    expect(goal(measured(), 'grants_vs_kea')).toMatchObject({ value: 0.9, met: false });
    expect(goal(measured(), 'store_grants_vs_kea')).toMatchObject({ value: 1.6, met: true });
  });

  it('take the latency of the whole way, the worst growth and the worst size', () => {
    expect(goal(measured(), 'grant_p99_ms')).toMatchObject({ value: 4, met: true });
    expect(goal(measured(), 'scale_1m')).toMatchObject({ value: 1.4, met: false });
    expect(goal(measured(), 'bytes_per_lease')).toMatchObject({ value: 950, met: false });
    expect(goal(measured(), 'cluster_scaling')).toMatchObject({ value: 0.95, met: true });
  });

  it('have no value, and a reason, where nothing was measured', () => {
    for (const one of goals(new Results())) {
      expect(one).toMatchObject({ value: null, met: false, reason: expect.any(String) });
    }
    expect(forecast(new Results())).toEqual([]);
  });

  it('come with what more primaries would carry', () => {
    expect(forecast(measured())[0]).toContain('10 primaries 100,000 grants/s, asked by 20 processes');
  });
});
