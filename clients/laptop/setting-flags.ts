import type { ParseArgsConfig } from 'node:util';
import type { TSchema } from 'typebox';
import { LaptopConfig } from './config.ts';

/** A setting as a flag: its name with dots, and how its text is read. */
interface Leaf {
  readonly name: string;
  readonly kind: 'text' | 'integer' | 'boolean' | 'list';
}

type Schema = TSchema & { readonly type?: string; readonly properties?: Readonly<Record<string, Schema>> };

const LEAVES: readonly Leaf[] = leavesOf(LaptopConfig as Schema, '');

function leavesOf(schema: Schema, name: string): Leaf[] {
  if (schema.properties !== undefined) {
    return Object.entries(schema.properties).flatMap(([key, inner]) =>
      leavesOf(inner, name === '' ? key : `${name}.${key}`),
    );
  }
  const kinds: Readonly<Record<string, Leaf['kind']>> = {
    integer: 'integer',
    boolean: 'boolean',
    array: 'list',
  };
  return [{ name, kind: kinds[schema.type ?? ''] ?? 'text' }];
}

/** Every setting of the configuration, for `parseArgs`: `--behind br0`, `--signalling.url wss://…`, `--killSwitch`. */
export const SETTING_FLAGS: NonNullable<ParseArgsConfig['options']> = Object.fromEntries(
  LEAVES.map(({ name, kind }) => [
    name,
    { type: kind === 'boolean' ? 'boolean' : 'string', ...(kind === 'list' ? { multiple: true } : {}) },
  ]),
);

/** The settings among parsed flags, in the shape of a configuration file, for its schema to check. */
export function settingsFrom(flags: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const settings: Record<string, unknown> = {};
  for (const { name, kind } of LEAVES) {
    const value = flags[name];
    if (value === undefined) continue;
    const path = name.split('.');
    const last = path.pop()!;
    let place = settings;
    for (const key of path) {
      place[key] ??= {};
      place = place[key] as Record<string, unknown>;
    }
    // What is no number is left for the schema to refuse, by name.
    place[last] = kind === 'integer' && /^\d+$/.test(String(value)) ? Number(value) : value;
  }
  return settings;
}
