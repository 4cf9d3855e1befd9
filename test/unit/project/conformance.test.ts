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

/** As a template says it; in parts, so that nobody takes it for a slip. */
const TEMPLATE = ['far (%s, $', '{engine})'].join('');

test('a test says by its end which engine it runs on', () => {
  const page = conformancePage([
    [
      'a.test.ts',
      named('R48', 'slow') + named('R48', 'fast [xdp]') + named('R48', 'same [%s]') + named('R48', TEMPLATE),
    ],
    ['b.test.ts', named('R42', 'left to the slow path [both]')],
  ]);
  expect(row(page, 48)?.split('|').slice(4, 6)).toEqual([
    ` \`a.test.ts\`: slow · same · ${TEMPLATE} `,
    ` \`a.test.ts\`: fast · same · ${TEMPLATE} `,
  ]);
  expect(row(page, 42)?.split('|').slice(4, 6)).toEqual([' `b.test.ts`: left to the slow path ', '  ']);
});

test('what the fast path decides is not claimed for it without a test on it', () => {
  const page = conformancePage([['a.test.ts', named('R48', 'slow')]]);
  expect(row(page, 48)?.split('|')[5]).toBe(' **no test named by it** ');
});
