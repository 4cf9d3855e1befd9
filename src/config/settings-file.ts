import { readFileSync } from 'node:fs';
import type { Static, TSchema } from 'typebox';
import { Value } from 'typebox/value';
import { parse } from 'yaml';
import { checked } from '../protocol/checked.ts';
import { MooringError } from '../protocol/errors.ts';

/** An ERR_MOORING_CONFIG that names the file, the field, its value and the remedy. */
export function refuseSetting(
  file: string,
  field: string,
  value: string | number,
  remedy: string,
  cause?: unknown,
): MooringError {
  return new MooringError('ERR_MOORING_CONFIG', `${file}: ${field || '(top level)'} is ${value}; ${remedy}`, {
    data: { file, field },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** The text of a configuration file; throws ERR_MOORING_CONFIG. */
export function readSettingsFile(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new MooringError('ERR_MOORING_CONFIG', `${file}: cannot be read; name a file that can be`, {
      cause,
      data: { file },
    });
  }
}

/** What a file in YAML (or JSON) holds, unchecked. Throws ERR_MOORING_CONFIG. */
export function readYaml(file: string): unknown {
  return parseText(readSettingsFile(file), file);
}

/** The names at the top of a configuration file; none when it is not a mapping. Throws ERR_MOORING_CONFIG. */
export function topLevelNames(file: string): readonly string[] {
  const raw = readYaml(file);
  return typeof raw === 'object' && raw !== null ? Object.keys(raw) : [];
}

/**
 * Settings from text in YAML (or JSON, which is YAML), checked against their schema and with its defaults filled
 * in. `over`: settings of the same shape that go before those of the text. Throws ERR_MOORING_CONFIG.
 */
export function parseSettingsText<S extends TSchema>(
  schema: S,
  text: string,
  file: string,
  over: Readonly<Record<string, unknown>> = {},
): Static<S> {
  const check = checked(schema, ({ field, value, remedy }) => refuseSetting(file, field, value, remedy));
  return check(Value.Default(schema, overlaid(parseText(text, file), over)));
}

function overlaid(under: unknown, over: Readonly<Record<string, unknown>>): unknown {
  if (!isMapping(under)) return under;
  const together: Record<string, unknown> = { ...under };
  for (const [name, value] of Object.entries(over)) {
    together[name] = isMapping(value) && isMapping(under[name]) ? overlaid(under[name], value) : value;
  }
  return together;
}

function isMapping(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** Aliases are refused: a few octets of them can stand for gigabytes. */
function parseText(text: string, file: string): unknown {
  try {
    return parse(text, { maxAliasCount: 0, logLevel: 'error' }) ?? {};
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message.split('\n')[0] : String(cause);
    throw new MooringError('ERR_MOORING_CONFIG', `${file}: is not YAML: ${reason}; mend the line it names`, {
      cause,
      data: { file },
    });
  }
}
