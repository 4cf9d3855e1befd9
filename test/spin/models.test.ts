import { describe, expect, test } from 'vitest';
import { faultsOf, verdictIn, verify } from './verification.ts';

/** Bounds under which a model is searched whole. */
const BOUNDS: Readonly<
  Record<string, readonly (readonly [what: string, model: string, ...defines: string[]])[]>
> = {
  ownership: [
    ['without a fail-over of the registry', 'ownership', 'T=2', 'RISES=2', 'RESTARTS=1', 'FAIL_OVER=0'],
    ['with a fail-over that loses writes', 'ownership', 'T=1', 'RISES=1', 'RESTARTS=1', 'FAIL_OVER=1'],
  ],
  leases: [
    [
      'through a crash and a fail-over that loses writes',
      'leases',
      ...['LEASE=5', 'DEADLINE=1', 'ANCHORS=1', 'FAIL_OVER=1', 'CRASHES=1'],
    ],
    [
      'with two anchors to choose from',
      'leases',
      ...['LEASE=1', 'DEADLINE=1', 'ANCHORS=2', 'FAIL_OVER=0', 'CRASHES=0'],
    ],
  ],
};

/** Which of its model's bounds show a fault soonest; the first, where nothing is said. */
const SHOWN_BY: Readonly<Record<string, number>> = {
  'ownership FAULT_QUARANTINE_SKIPPED': 1,
  'ownership FAULT_DEPOSED_PRIMARY_FORGOTTEN': 1,
  'ownership FAULT_EQUAL_EPOCHS': 1,
  'leases FAULT_DEVICE_INDEX_TRUSTED': 1,
  'leases FAULT_COOLING_SHORTER_THAN_DEADLINE': 1,
};

describe.concurrent.each(Object.entries(BOUNDS))('the model of %s', (model, bounds) => {
  test.each(bounds)(
    'holds in every history %s, and every statement of it is executed',
    async (_, name, ...defines) => {
      const verdict = await verify(name, defines);
      console.log(`${name} ${defines.join(' ')}: ${verdict.states} states, ${verdict.megabytes} MB`);
      expect(verdict.violated).toBeUndefined();
      expect(verdict.complete).toBe(true);
      expect(verdict.errors).toBe(0);
      expect(verdict.unreached).toEqual([]);
      expect(verdict.states).toBeGreaterThan(100_000);
    },
  );

  test.each(faultsOf(model))('is broken by %s', async (fault) => {
    const [, name, ...defines] = bounds[SHOWN_BY[`${model} ${fault}`] ?? 0]!;
    const verdict = await verify(name, [...defines, fault]);
    expect(verdict.errors).toBe(1);
    expect(verdict.violated).toBeDefined();
  });
});

test('a standby does take over in the model', async () => {
  const [, name, ...defines] = BOUNDS.ownership![0]!;
  expect((await verify(name, [...defines, 'REACH_TAKEOVER'])).violated).toBe('0');
});

describe('a search does not count as one', () => {
  const whole = 'State-vector 60 byte, depth reached 10, errors: 0\n   123 states, stored\n';
  test.each([
    ['when it was cut off by depth', `error: max search depth too small\n${whole}`],
    ['when it stopped before its end', `Warning: Search not completed\n${whole}`],
    ['when memory ran out', `${whole}pan: out of memory\n`],
    ['when it was killed', ''],
  ])('%s', (_, report) => {
    expect(verdictIn(whole).complete).toBe(true);
    expect(verdictIn(report).complete).toBe(false);
  });
});
