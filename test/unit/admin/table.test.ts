import { expect, test } from 'vitest';
import { duration, facts, table } from '../../../src/cli/operator/table.ts';

test('columns are as wide as what stands in them, and numbers stand on the right', () => {
  const text = table(
    [
      { head: 'NAME', cell: ({ name }: { name: string; held: number }) => name },
      { head: 'HELD', cell: ({ held }) => held },
      { head: 'NOTE', cell: () => '' },
    ],
    [
      { name: 'a', held: 5 },
      { name: 'longer', held: 12_345 },
    ],
  );
  expect(text.split('\n')).toEqual(['NAME     HELD  NOTE', 'a           5', 'longer  12345']);
});

test('a table without rows has its headings', () => {
  expect(table([{ head: 'NAME', cell: () => '' }], [])).toBe('NAME');
});

test('facts stand one a line', () => {
  expect(facts({ pool: 'shared', held: 3 })).toBe('pool  shared\nheld  3');
});

test.each([
  [0, '0 s'],
  [119_000, '119 s'],
  [120_000, '2 min'],
  [7_200_000, '2 h'],
  [172_800_000, '2 d'],
])('%i ms are %s', (ms, text) => {
  expect(duration(ms)).toBe(text);
});
