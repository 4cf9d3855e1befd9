import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { extendAfterMs } from '../../../clients/sdk/device.ts';
import { backOffMs, reconnectRule } from '../../../clients/sdk/reconnect.ts';
import { systemTimers } from '../../../clients/sdk/timers.ts';

describe('coming back', () => {
  test.each([
    [4000, 'at-once'],
    [4001, 'at-once'],
    [4100, 'after-a-wait'],
    [4200, 'never'],
    [4204, 'never'],
    [1006, 'after-a-wait'],
    [1001, 'after-a-wait'],
  ])('close code %i says %s', (code, rule) => {
    expect(reconnectRule(code)).toBe(rule);
  });

  test('waits double up to a ceiling, and lie between its half and its whole', () => {
    const backOff = { firstMs: 500, longestMs: 30_000 };
    const ceilings = [0, 1, 2, 5, 6, 7, 1000].map((failures) => backOffMs(failures, backOff, () => 1));
    expect(ceilings).toEqual([500, 1000, 2000, 16_000, 30_000, 30_000, 30_000]);
    expect(backOffMs(3, backOff, () => 0)).toBe(2000);
  });

  test('a lease is extended between 1/2 and 5/8 of what is left, never closer together than 4 s', () => {
    expect(extendAfterMs(3_600_000, () => 0)).toBe(1_800_000);
    expect(extendAfterMs(3_600_000, () => 1)).toBe(2_250_000);
    expect(extendAfterMs(6_000, () => 0)).toBe(3_000);
    expect(extendAfterMs(20_000, () => 0)).toBe(10_000);
  });
});

describe('timers of the platform', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  test('a delay longer than setTimeout can hold does not fire at once', () => {
    let fired = 0;
    const days = 86_400_000;
    systemTimers.after(60 * days, () => {
      fired += 1;
    });
    vi.advanceTimersByTime(59 * days);
    expect(fired).toBe(0);
    vi.advanceTimersByTime(2 * days);
    expect(fired).toBe(1);
  });

  test('such a delay can be cancelled in its second part', () => {
    let fired = 0;
    const cancel = systemTimers.after(60 * 86_400_000, () => {
      fired += 1;
    });
    vi.advanceTimersByTime(30 * 86_400_000);
    cancel();
    vi.advanceTimersByTime(60 * 86_400_000);
    expect(fired).toBe(0);
  });
});
