import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { writeOrCheck } from './generated-file.ts';

/**
 * Turns the registry's Lua commands into one TypeScript module, so that nothing is read from disk at run time.
 * `--check` fails when the module differs from what the sources say.
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COMMANDS = join(ROOT, 'src/registry/commands');
const GENERATED = join(ROOT, 'src/registry/commands.gen.ts');

export interface LuaCommand {
  /** `<file>_<hash of the text>`: two releases side by side never take each other's script. */
  readonly name: string;
  readonly keys: number;
  readonly lua: string;
}

export interface LuaCommands {
  readonly commands: Readonly<Record<string, LuaCommand>>;
  readonly refusals: Readonly<Record<string, number>>;
}

const INCLUDE = /^--- @include "([a-z0-9-]+)"$/;

/**
 * Reads and assembles all commands. `replace` puts another text in the place of an include (tests give the
 * scripts a clock of their own); `mutate` may plant a fault in a finished command.
 */
export function assembleCommands(
  options: {
    readonly replace?: Readonly<Record<string, string>>;
    readonly mutate?: (command: string, lua: string) => string;
  } = {},
): LuaCommands {
  const commands: Record<string, LuaCommand> = {};
  for (const file of readdirSync(COMMANDS).sort()) {
    if (!file.endsWith('.lua')) continue;
    const command = file.slice(0, -4);
    const lines = withoutUnused(expand(join(COMMANDS, file), new Set(), options.replace ?? {}));
    const [first = '', ...others] = lines.map((line) => line.trim());
    const flags = first.startsWith('#!') ? [first] : [];
    const assembled = (flags.length > 0 ? others : [first, ...others]).join('\n');
    const lua = [...flags, options.mutate?.(command, assembled) ?? assembled].join('\n');
    const hash = createHash('sha256').update(lua).digest('hex').slice(0, 12);
    commands[command] = { name: `mooring_${command}_${hash}`, keys: keyCount(command, lua), lua };
  }
  return { commands, refusals: refusals() };
}

/**
 * The lines of a file with its includes in place, each once; comments and blank lines are left out. A command that begins
 * with `#!lua flags=allow-oom` is taken by a server that is full: it adds nothing that lasts, or what an owner has promised.
 */
function expand(path: string, seen: Set<string>, replace: Readonly<Record<string, string>>): string[] {
  const name = relative(COMMANDS, path);
  const text = readFileSync(path, 'utf8');
  return withoutComments(replace[name.replace(/^include\/|\.lua$/g, '')] ?? text).flatMap((line) => {
    const include = INCLUDE.exec(line)?.[1];
    if (include === undefined) return line.startsWith('--') ? [] : [line];
    if (seen.has(include)) return [];
    seen.add(include);
    return expand(join(COMMANDS, 'include', `${include}.lua`), seen, replace);
  });
}

function withoutComments(text: string): string[] {
  return text
    .replace(/--\[\[[\s\S]*?\]\]\n/g, '')
    .split('\n')
    .filter((line) => line.trim() !== '' && (!/^\s*--/.test(line) || INCLUDE.test(line)));
}

/**
 * Without the functions and constants of includes that the command does not use: Redis makes each of them anew at every
 * call. Begun by `local function NAME(` at the beginning of a line and ended by the next `end` there; `local NAME = …` in
 * capitals; and the readings of clock and server, which cost a call each.
 */
function withoutUnused(lines: readonly string[]): readonly string[] {
  for (const [from, line] of lines.entries()) {
    const named = /^local function (\w+)\(/.exec(line);
    const name = named?.[1] ?? /^local ([A-Z][A-Z_]*|now|server) = .*[^{(,]$/.exec(line)?.[1];
    if (name === undefined) continue;
    const to = named ? lines.findIndex((one, at) => at > from && one === 'end') : from;
    const rest = [...lines.slice(0, from), ...lines.slice(to + 1)];
    const used = new RegExp(`(?<![\\w.'])${name}\\b`);
    if (!rest.some((one) => used.test(one))) return withoutUnused(rest);
  }
  return lines;
}

/** How many keys a command takes: as many as its `… = unpack(KEYS)` names. */
function keyCount(command: string, lua: string): number {
  const names = /local ([A-Z][A-Z_, ]*?)\s*=\s*unpack\(KEYS\)/.exec(lua)?.[1];
  if (names === undefined) throw new Error(`${command}.lua takes no keys: include "anchor" or "device"`);
  return names.split(',').length;
}

function refusals(): Record<string, number> {
  const text = readFileSync(join(COMMANDS, 'include/codes.lua'), 'utf8');
  return Object.fromEntries(
    [...text.matchAll(/^local ([A-Z_]+) = (-\d+)$/gm)].map(([, name, code]) => [name, Number(code)]),
  );
}

function templateLiteral(text: string): string {
  return `\`${text.replace(/[`\\]|\$\{/g, '\\$&')}\``;
}

/** The text of the generated module. */
export function renderCommands({ commands, refusals }: LuaCommands): string {
  const entries = Object.entries(commands).map(
    ([command, { name, keys, lua }]) =>
      `  ${command}: {\n    name: '${name}',\n    keys: ${keys},\n    lua: ${templateLiteral(lua)},\n  },`,
  );
  const codes = Object.entries(refusals).map(([name, code]) => `  ${name}: ${code},`);
  return [
    '// Generated from src/registry/commands/*.lua by infra/build/lua.ts. Do not edit.',
    '',
    'export const COMMANDS = {',
    ...entries,
    '} as const;',
    '',
    'export const REFUSALS = {',
    ...codes,
    '} as const;',
    '',
  ].join('\n');
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeOrCheck(GENERATED, renderCommands(assembleCommands()), import.meta.filename);
}
