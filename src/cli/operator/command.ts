import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { MooringError } from '../../protocol/errors.ts';
import { type AdminClient, createAdminClient } from './client.ts';

/** What a sub-command may use. */
export interface Work {
  readonly client: AdminClient;
  /** Positional words behind the verb. */
  readonly words: readonly string[];
  /** Options with a value; one that may be said several times holds all its values. */
  readonly options: Readonly<Record<string, readonly string[]>>;
  /** Prints an answer: as JSON, or as what `render` makes of it for a person. */
  print<T>(answer: T, render: (answer: T) => string): void;
}

export interface Verb {
  /** Words and options, as usage says them. */
  readonly form: string;
  readonly meaning: string;
  /** Options with a value that it takes. */
  readonly options?: readonly string[];
  readonly words: readonly [least: number, most: number];
  /** It only looks: `--watch` repeats it. */
  readonly looks?: boolean;
  run(work: Work): Promise<void>;
}

export interface Noun {
  readonly name: string;
  readonly verbs: Readonly<Record<string, Verb>>;
}

const WATCH_EVERY_MS = 2_000;

/** Options of every command: where the API is, and how the answer is printed. */
const COMMON = {
  config: { type: 'string' },
  url: { type: 'string' },
  'token-file': { type: 'string' },
  'dpop-key-file': { type: 'string' },
  'ca-file': { type: 'string' },
  'cert-file': { type: 'string' },
  'key-file': { type: 'string' },
  json: { type: 'boolean' },
  watch: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const;

const COMMON_USAGE = `  --config FILE            ask the program on this machine that runs with FILE (environment: MOORING_CONFIG)
  --url URL                ask the admin API there (environment: MOORING_ADMIN_URL), with
    --token-file FILE        an access token (environment: MOORING_TOKEN_FILE), and where it is bound to a key
    --dpop-key-file FILE       that key, a private JWK
    --cert-file, --key-file  an operator's certificate
    --ca-file FILE           the authority of the server's certificate, if private
  --json                   the answer as JSON
  --watch                  look again every two seconds (list, show, find)

  Exit status: 0 done, 1 refused or failed, 2 misused, 75 try again later
`;

/** Runs `mooring NOUN VERB …`. */
export async function runOperatorCommand(noun: Noun, args: readonly string[]): Promise<void> {
  const [verbName = '--help', ...rest] = args;
  const verb = Object.hasOwn(noun.verbs, verbName) ? noun.verbs[verbName] : undefined;
  if (verb === undefined) {
    if (['--help', '-h', 'help'].includes(verbName)) {
      process.stdout.write(usageOf(noun));
      return;
    }
    throw misuse(noun, `there is no "mooring ${noun.name} ${verbName}"`);
  }
  const own = Object.fromEntries(
    (verb.options ?? []).map((name) => [name, { type: 'string', multiple: true }]),
  );
  let parsed: { values: Record<string, unknown>; positionals: string[] };
  try {
    parsed = parseArgs({ args: rest, allowPositionals: true, options: { ...COMMON, ...own } as never });
  } catch (cause) {
    throw misuse(noun, `${(cause as Error).message.split('.')[0]}`);
  }
  const { values, positionals } = parsed;
  if (values.help === true) {
    process.stdout.write(usageOf(noun));
    return;
  }
  const [least, most] = verb.words;
  if (positionals.length < least || positionals.length > most) {
    throw misuse(noun, `write: mooring ${noun.name} ${verb.form}`);
  }
  if (values.watch === true && verb.looks !== true)
    throw misuse(noun, `${verbName} is done once: drop --watch`);
  const text = (name: string, variable?: string) =>
    (values[name] as string | undefined) ?? (variable === undefined ? undefined : process.env[variable]);
  const config = text('config');
  const client = await createAdminClient({
    config: config ?? text('config', 'MOORING_CONFIG'),
    // A file that is named goes before a URL of the environment.
    url: config === undefined ? text('url', 'MOORING_ADMIN_URL') : text('url'),
    tokenFile: text('token-file', 'MOORING_TOKEN_FILE'),
    dpopKeyFile: text('dpop-key-file'),
    caFile: text('ca-file'),
    certFile: text('cert-file'),
    keyFile: text('key-file'),
  });
  const work: Work = {
    client,
    words: positionals,
    options: Object.fromEntries(
      (verb.options ?? []).map((name) => [name, (values[name] as string[] | undefined) ?? []]),
    ),
    print: (answer, render) =>
      void process.stdout.write(`${values.json === true ? JSON.stringify(answer) : render(answer)}\n`),
  };
  await verb.run(work);
  while (values.watch === true) {
    await delay(WATCH_EVERY_MS);
    if (values.json !== true) process.stdout.write(process.stdout.isTTY ? '\x1b[2J\x1b[H' : '\n');
    await verb.run(work);
  }
}

/** The one value of an option; undefined when it was not said. */
export function option({ options }: Work, name: string): string | undefined {
  const values = options[name] ?? [];
  if (values.length > 1) {
    throw new MooringError('ERR_MOORING_USAGE', `--${name} is said ${values.length} times; say it once`);
  }
  return values[0];
}

/** The one value of an option that must be said. */
export function demanded(work: Work, name: string): string {
  const value = option(work, name);
  if (value !== undefined) return value;
  throw new MooringError('ERR_MOORING_USAGE', `--${name} is missing; say it`);
}

/** A name as part of a path. */
export function part(text: string | undefined): string {
  return encodeURIComponent(text ?? '');
}

/** All pages of a list. */
export async function allPages<T>(
  { client }: Work,
  path: string,
  list: string,
  query: Readonly<Record<string, string | number | undefined>> = {},
): Promise<T[]> {
  const all: T[] = [];
  let after: string | undefined;
  do {
    const page = await client.ask<{ next: string | null } & Record<string, unknown>>('GET', path, {
      query: { ...query, after, limit: 500 },
    });
    for (const one of page[list] as T[]) all.push(one);
    after = page.next ?? undefined;
  } while (after !== undefined);
  return all;
}

function usageOf(noun: Noun): string {
  const forms = Object.values(noun.verbs).map(
    ({ form, meaning }) => `  mooring ${noun.name} ${form}\n      ${meaning}`,
  );
  return `mooring ${noun.name}\n\n${forms.join('\n')}\n\n${COMMON_USAGE}`;
}

function misuse(noun: Noun, fault: string): MooringError {
  return new MooringError('ERR_MOORING_USAGE', `${fault}\n\n${usageOf(noun)}`);
}
