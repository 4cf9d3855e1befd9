// Holds the dependency rule of ARCHITECTURE.md: which folder may import which.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Levels, lowest first: a folder may import its own level's folders only where listed, and every lower level. */
const LEVELS: readonly (readonly string[])[] = [
  ['src/config', 'src/telemetry', 'src/protocol'],
  ['src/tunnel', 'src/rebinding', 'src/datapath/decision'],
  ['src/linux', 'src/registry', 'src/auth'],
  ['src/datapath', 'src/ownership'],
  ['src/relay', 'src/signalling', 'src/admin'],
  ['src/cli'],
];

/** Imports allowed inside a level; anything else of the same level is refused. */
const SIBLINGS: Readonly<Record<string, readonly string[]>> = {
  'src/config': ['src/protocol', 'src/telemetry'],
  'src/telemetry': ['src/protocol'],
  'src/rebinding': ['src/tunnel'],
  'src/registry': ['src/linux'],
};

/** Folders outside the levels, and all that they may import. */
const CLIENTS: Readonly<Record<string, readonly string[]>> = {
  'clients/sdk': ['src/protocol', 'src/tunnel', 'src/rebinding'],
  'clients/laptop': [
    'src/protocol',
    'src/tunnel',
    'src/rebinding',
    'src/linux',
    'src/config',
    'src/telemetry',
    'clients/sdk',
  ],
};

/** No Node-only import: these also run in a browser. */
const PORTABLE = ['src/protocol', 'src/tunnel', 'src/rebinding', 'src/datapath/decision', 'clients/sdk'];

export interface Breach {
  readonly file: string;
  readonly imports: string;
  readonly why: string;
}

/** What one file may not import, given its path and text (both relative to the project). */
export function breaches(file: string, text: string): Breach[] {
  const from = home(file);
  if (from === null) return [];
  const found: Breach[] = [];
  for (const [, specifier = ''] of text.matchAll(/(?:from|import)\s*\(?\s*'([^']+)'/g)) {
    if (specifier.startsWith('node:')) {
      if (PORTABLE.includes(from))
        found.push({ file, imports: specifier, why: `${from} also runs in a browser` });
      continue;
    }
    if (!specifier.startsWith('.')) continue;
    const target = normalize(join(dirname(file), specifier));
    const to = home(target);
    if (to === null) found.push({ file, imports: target, why: 'product code imports only src and clients' });
    else if (to !== from && !allowed(from, to)) {
      found.push({ file, imports: target, why: `${from} may not import ${to}` });
    }
  }
  return found;
}

function allowed(from: string, to: string): boolean {
  // Users have one command: it starts the laptop agent too.
  if (from === 'src/cli' && to === 'clients/laptop') return true;
  const client = CLIENTS[from];
  if (client !== undefined) return client.includes(to);
  const fromLevel = LEVELS.findIndex((level) => level.includes(from));
  const toLevel = LEVELS.findIndex((level) => level.includes(to));
  if (fromLevel < 0 || toLevel < 0) return false;
  return toLevel < fromLevel || (toLevel === fromLevel && (SIBLINGS[from]?.includes(to) ?? false));
}

function home(file: string): string | null {
  const known = [...LEVELS.flat(), ...Object.keys(CLIENTS)].sort((a, b) => b.length - a.length);
  return known.find((folder) => file.startsWith(`${folder}/`)) ?? null;
}

function* sources(folder: string): Generator<string> {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* sources(path);
    else if (entry.name.endsWith('.ts')) yield path;
  }
}

const top = join(dirname(fileURLToPath(import.meta.url)), '../..');
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const found = ['src', 'clients'].flatMap((folder) =>
    [...sources(join(top, folder))].flatMap((path) =>
      breaches(relative(top, path), readFileSync(path, 'utf8')),
    ),
  );
  for (const { file, imports, why } of found) process.stdout.write(`${file}: imports ${imports}: ${why}\n`);
  process.exit(found.length === 0 ? 0 : 1);
}
