import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const NAME = '(?:ownership|leases)\\.[a-z][a-z.-]*[a-z]';

const texts = (folder: string, ending: RegExp): string[] =>
  readdirSync(fileURLToPath(new URL(`../../${folder}/`, import.meta.url)), {
    recursive: true,
    encoding: 'utf8',
  })
    .filter((name) => ending.test(name) && !name.endsWith('.gen.ts'))
    .map((name) => readFileSync(new URL(`../../${folder}/${name}`, import.meta.url), 'utf8'));

const named = (from: readonly string[], pattern: RegExp): string[] =>
  [...new Set(from.flatMap((text) => [...text.matchAll(pattern)].map(([, name]) => name!)))].sort();

/** What the models call a transition stands in their comments; the code says which it is, after `spin:`. */
const inModels = named(
  texts('test/spin', /\.pml$/).flatMap((text) => text.match(/\/\*[\s\S]*?\*\//g) ?? []),
  new RegExp(`\\b(${NAME})`, 'g'),
);
const inCode = named(texts('src', /\.(ts|lua)$/), new RegExp(`spin: (${NAME})`, 'g'));

test('every transition of the models is somewhere in the code, and the code names none that they do not have', () => {
  expect(inModels.length).toBeGreaterThan(20);
  expect(inCode).toEqual(inModels);
});
