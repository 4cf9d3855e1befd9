import { expect, test } from 'vitest';
import { conformancePage } from '../../../infra/build/conformance.ts';

/** Written in two parts, so that this file names no requirement itself. */
const named = (numbers: string, name: string) => `it('${numbers}${': '}${name}', () => {});`;
const row = (page: string, number: number) =>
  page.split('\n').find((line) => line.startsWith(`| R${number} |`));

test('a test shows every requirement that its name begins with', () => {
  const page = conformancePage([['test/unit/a.test.ts', named('R42, R53', 'tells a | b')]]);
  for (const number of [42, 53]) expect(row(page, number)).toContain('`test/unit/a.test.ts`: tells a \\| b');
  expect(page).toContain('2 of 60 requirements');
});

test('a requirement that no test names is listed as such', () => {
  expect(row(conformancePage([['test/unit/a.test.ts', named('R42', 'x')]]), 43)).toContain(
    'no test named by it',
  );
});

test('a test that is renamed changes the page', () => {
  const page = (name: string) => conformancePage([['a.test.ts', named('R42', name)]]);
  expect(page('one')).not.toBe(page('another'));
});

test('a requirement that does not exist is refused by name', () => {
  expect(() => conformancePage([['a.test.ts', named('R61', 'x')]])).toThrow(/a\.test\.ts.*R1 to R60/);
});
