import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import { MooringError } from './errors.ts';

interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly message: string;
  readonly params: {
    readonly additionalProperties?: readonly string[];
    readonly requiredProperties?: readonly string[];
    readonly allowedValue?: unknown;
  };
}

/** A field that does not have the form its schema promises, in words. */
export interface FieldFault {
  /** Dotted path; '' is the whole value. */
  readonly field: string;
  /** The value found, shortened. */
  readonly value: string;
  readonly remedy: string;
}

/**
 * Compiles a schema into a check that returns the value typed, or throws ERR_MOORING_BAD_INPUT (or what `refuse`
 * makes of the fault) naming the field, the value and the remedy.
 */
export function checked<S extends TSchema>(
  schema: S,
  refuse: (fault: FieldFault) => MooringError = refuseInput,
): (value: unknown) => Static<S> {
  const validator = Compile(schema);
  return (value) => {
    if (validator.Check(value)) return value as Static<S>;
    throw refuse(firstFault(validator.Errors(value) as readonly SchemaError[], value));
  };
}

function refuseInput({ field, value, remedy }: FieldFault): MooringError {
  return new MooringError('ERR_MOORING_BAD_INPUT', `${field || 'the message'} is ${value}; ${remedy}`, {
    rsip: 205,
    data: { field },
  });
}

function firstFault(errors: readonly SchemaError[], value: unknown): FieldFault {
  const parent = (error: SchemaError) => error.instancePath.slice(1).replaceAll('/', '.');
  const named = (error: SchemaError, key: string) => [parent(error), key].filter(Boolean).join('.');
  for (const error of errors) {
    const [unknown] = error.params.additionalProperties ?? [];
    if (unknown !== undefined) {
      return { field: named(error, unknown), value: 'unknown', remedy: 'remove it, or correct its name' };
    }
    const [missing] = error.params.requiredProperties ?? [];
    if (missing !== undefined) return { field: named(error, missing), value: 'missing', remedy: 'add it' };
    if (error.keyword === 'boolean') continue;
    const allowed = errors
      .filter((other) => other.keyword === 'const' && other.instancePath === error.instancePath)
      .map((other) => JSON.stringify(other.params.allowedValue));
    return {
      field: parent(error),
      value: show(at(value, error.instancePath)),
      remedy: allowed.length > 0 ? `use one of ${allowed.join(', ')}` : `it ${error.message}`,
    };
  }
  return { field: '', value: show(value), remedy: 'send the promised form' };
}

function at(value: unknown, path: string): unknown {
  return path
    .split('/')
    .slice(1)
    .reduce<unknown>((inner, key) => (inner as Record<string, unknown> | undefined)?.[key], value);
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
