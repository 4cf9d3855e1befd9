import { describe, expect, test } from 'vitest';
import { ReplayWindow } from '../../../src/tunnel/window.ts';
import { WINDOW_SIZE } from '../../../src/tunnel/wire.ts';

function windowOf(...numbers: number[]): ReplayWindow {
  const window = new ReplayWindow();
  for (const number of numbers) window.commit(number);
  return window;
}

describe('a replay window', () => {
  test('admits every number once, in any order', () => {
    const window = new ReplayWindow();
    for (const number of [3, 1, 2, 7]) {
      expect(window.admits(number)).toBe(true);
      window.commit(number);
      expect(window.admits(number)).toBe(false);
    }
    expect(window.admits(5)).toBe(true);
    expect(window.highest).toBe(7);
  });

  test('remembers nothing by being asked', () => {
    const window = new ReplayWindow();
    expect(window.admits(9)).toBe(true);
    expect(window.admits(9)).toBe(true);
    expect(window.highest).toBe(0);
  });

  test('never admits 0', () => {
    expect(new ReplayWindow().admits(0)).toBe(false);
    expect(windowOf(5).admits(0)).toBe(false);
  });

  test('reaches back exactly its size', () => {
    const window = windowOf(10_000);
    expect(window.admits(10_000 - WINDOW_SIZE + 1)).toBe(true);
    expect(window.admits(10_000 - WINDOW_SIZE)).toBe(false);
  });

  test.each([1, 31, 32, 33, 4095, 4096, 8159, 8160, 8192, 100_000])(
    'forgets nothing it must keep after a jump of %i',
    (jump) => {
      const window = windowOf(50_000, 50_000 + jump);
      for (let number = 50_000 + jump; number > 50_000 + jump - WINDOW_SIZE; number -= 1) {
        expect(window.admits(number)).toBe(number !== 50_000 && number !== 50_000 + jump);
      }
    },
  );

  test.each([4096, 4097, 8159, 8160, 8191, 8192, 8200, 12_288, 16_384, 100_000])(
    'does not take old numbers for new ones after a jump of %i',
    (jump) => {
      const window = new ReplayWindow();
      for (let number = 1; number <= 20_000; number += 1) window.commit(number);
      const highest = 20_000 + jump;
      window.commit(highest);
      const refused = [];
      for (let number = highest - 1; number > Math.max(20_000, highest - WINDOW_SIZE); number -= 1) {
        if (!window.admits(number)) refused.push(number);
      }
      expect(refused).toEqual([]);
    },
  );

  test.each([2 ** 31, 2 ** 32, 2 ** 53 - 2])('counts across %i', (edge) => {
    const window = windowOf(edge - 1, edge + 1);
    expect(window.admits(edge)).toBe(true);
    window.commit(edge);
    expect([edge - 1, edge, edge + 1].map((number) => window.admits(number))).toEqual([false, false, false]);
  });
});

describe('a window at rest', () => {
  test('says which of the last numbers were received', () => {
    expect(windowOf(1, 2, 10).export()).toEqual({ highest: 10, bitmap: '0103' });
    expect(windowOf(100).export()).toEqual({ highest: 100, bitmap: '01' });
    expect(new ReplayWindow().export()).toEqual({ highest: 0, bitmap: '' });
  });

  test('goes on as it was', () => {
    const window = new ReplayWindow();
    for (let number = 1; number < 20_000; number += 3) window.commit(number);
    const state = window.export();
    const other = ReplayWindow.import(state);
    expect(other.export()).toEqual(state);
    for (let number = 1; number < 20_050; number += 1)
      expect(other.admits(number)).toBe(window.admits(number));
  });

  test('never admits its highest number again, even if its bitmap left it out', () => {
    expect(ReplayWindow.import({ highest: 5, bitmap: '' }).admits(5)).toBe(false);
  });

  test.each([
    [{ highest: -1, bitmap: '' }, /window\.highest: -1/],
    [{ highest: 2 ** 53, bitmap: '' }, /window\.highest/],
    [{ highest: 1, bitmap: '0' }, /window\.bitmap: "0"/],
    [{ highest: 1, bitmap: 'zz' }, /window\.bitmap: "zz"/],
    [{ highest: 1, bitmap: '00'.repeat(513) }, /at most 512 octets/],
  ])('is refused by name when malformed', (state, message) => {
    expect(() => ReplayWindow.import(state)).toThrow(message);
  });
});
