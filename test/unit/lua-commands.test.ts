import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { assembleCommands, renderCommands } from '../../infra/build/lua.ts';
import { COMMANDS, REFUSALS } from '../../src/registry/commands.gen.ts';
import { refusalError, refusalIn } from '../../src/registry/refusals.ts';

const generated = readFileSync(new URL('../../src/registry/commands.gen.ts', import.meta.url), 'utf8');

test('the committed module is what the Lua sources say, and a changed source shows', () => {
  expect(renderCommands(assembleCommands())).toBe(generated);
  const changed = assembleCommands({ mutate: (_, lua) => `${lua}\nreturn 1` });
  expect(renderCommands(changed)).not.toBe(generated);
});

test('another text is another command, so two releases run side by side', () => {
  const changed = assembleCommands({ mutate: (_, lua) => `${lua}\nreturn 1` });
  expect(changed.commands.grant?.name).not.toBe(COMMANDS.grant.name);
  expect(COMMANDS.grant.name).toMatch(/^mooring_grant_[0-9a-f]{12}$/);
});

test('an include stands once in a command, however often it is asked for', () => {
  expect(COMMANDS.grant.lua.match(/unpack\(KEYS\)/g)).toHaveLength(1);
  expect(COMMANDS.grant.lua).not.toMatch(/@include|^--/m);
});

test('every refusal of a script has a code of its own and an error that names the subject', () => {
  const codes = Object.values(REFUSALS);
  expect(new Set(codes).size).toBe(codes.length);
  for (const code of codes) {
    const refusal = refusalIn(code);
    expect(refusal).toBeDefined();
    const error = refusalError(refusal!, 'anchor a1');
    expect(error.code).toMatch(/^ERR_MOORING_/);
    expect(error.message).toMatch(/^anchor a1: /);
  }
  expect(refusalIn(-99)).toBeUndefined();
  expect(refusalIn('-1')).toBeUndefined();
});

test('every command tells its keys, arguments, events and answers', () => {
  for (const command of Object.keys(COMMANDS)) {
    const source = readFileSync(
      new URL(`../../src/registry/commands/${command}.lua`, import.meta.url),
      'utf8',
    );
    const header = source.split(']]')[0];
    for (const heading of ['KEYS', 'ARGV', 'Events', 'Returns']) {
      expect(header, `${command}.lua`).toMatch(new RegExp(`\\n  ${heading} `));
    }
  }
});
