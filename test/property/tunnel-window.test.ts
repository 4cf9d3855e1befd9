import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ReplayWindow } from '../../src/tunnel/window.ts';
import { WINDOW_SIZE } from '../../src/tunnel/wire.ts';

/** The rule in its plainest form: a set of everything received, and the highest. */
class Model {
  readonly #received = new Set<number>();
  #highest = 0;

  admits(number: number): boolean {
    return number >= 1 && number > this.#highest - WINDOW_SIZE && !this.#received.has(number);
  }

  commit(number: number): void {
    this.#received.add(number);
    this.#highest = Math.max(this.#highest, number);
  }
}

/** Steps relative to the highest so far: near, at the window's edges, at the ring's edges, far. */
const steps = fc.array(
  fc.oneof(
    { weight: 6, arbitrary: fc.integer({ min: -80, max: 80 }) },
    { weight: 2, arbitrary: fc.integer({ min: -WINDOW_SIZE - 2, max: -WINDOW_SIZE + 2 }) },
    { weight: 1, arbitrary: fc.integer({ min: WINDOW_SIZE - 40, max: WINDOW_SIZE + 40 }) },
    { weight: 1, arbitrary: fc.integer({ min: 2 * WINDOW_SIZE - 40, max: 2 * WINDOW_SIZE + 40 }) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 33 }) },
  ),
  { minLength: 1, maxLength: 200 },
);
const starts = fc.constantFrom(1, 4_096, 8_191, 2 ** 31 - 1, 2 ** 32 - 1, 2 ** 50);

describe('a replay window', () => {
  test('admits what a set of everything received would, in any order', () => {
    fc.assert(
      fc.property(starts, steps, fc.boolean(), (start, moves, rests) => {
        let window = new ReplayWindow();
        const model = new Model();
        let highest = start;
        for (const [turn, move] of moves.entries()) {
          const number = Math.max(0, highest + move);
          expect([number, window.admits(number)]).toEqual([number, model.admits(number)]);
          if (!model.admits(number)) continue;
          window.commit(number);
          model.commit(number);
          highest = Math.max(highest, number);
          if (rests && turn % 7 === 0) window = ReplayWindow.import(window.export());
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test('survives rest and return as it was', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 10_000 }), { maxLength: 300 }), (numbers) => {
        const window = new ReplayWindow();
        for (const number of numbers) if (window.admits(number)) window.commit(number);
        const state = window.export();
        expect(ReplayWindow.import(state).export()).toEqual(state);
      }),
      { numRuns: 500 },
    );
  });
});
