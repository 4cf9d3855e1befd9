import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { inTurns } from '../../../src/relay/in-turns.ts';

test('work is done in order, a few pieces a turn, and each hears what became of its own', async () => {
  const inTurn = inTurns(2);
  const done: number[] = [];
  const answers = [0, 1, 2, 3, 4].map((n) =>
    inTurn(() => {
      done.push(n);
      if (n === 1) throw new Error('no');
      return 10 * n;
    }).catch((error: Error) => error.message),
  );
  expect(done).toEqual([]);
  for (const upTo of [2, 4, 5]) {
    await nextTurn();
    expect(done).toHaveLength(upTo);
  }
  expect(await Promise.all(answers)).toEqual([0, 'no', 20, 30, 40]);
  const later = inTurn(() => done.push(5));
  await nextTurn();
  expect(await later).toBe(6);
});
