import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import ts from 'typescript';

const ROOT = join(import.meta.dirname, '../..');
const SOURCES = [
  'src/rebinding',
  'src/rebinding/relay',
  'src/rebinding/device',
  'src/tunnel',
  'src/protocol',
  'src/datapath',
  'src/datapath/decision',
  'src/datapath/userspace',
  'src/ownership',
  'src/registry',
  'src/relay',
  'src/relay/journal',
  'src/signalling',
  'src/signalling/requests',
  'src/telemetry',
  'src/linux',
  'src/config',
  'src/auth',
];

/** One deliberate fault: every `find` occurs exactly once in its `file` and is replaced. */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly { readonly file: string; readonly find: string; readonly replace: string }[];
}

/**
 * Builds a copy of the pure source folders with one fault planted, and imports `modules` from it. The copy lies
 * inside the project, so that packages resolve, and is removed by `dispose`.
 */
export async function importMutant<T extends readonly string[]>(
  { name, edits }: Mutation,
  ...modules: T
): Promise<{ readonly modules: { [K in keyof T]: Record<string, unknown> }; dispose(): void }> {
  const mutated = new Map<string, string>();
  for (const { file, find, replace } of edits) {
    const source = mutated.get(file) ?? readFileSync(join(ROOT, file), 'utf8');
    if (source.split(find).length !== 2) {
      throw new Error(`mutation "${name}": ${JSON.stringify(find)} must occur exactly once in ${file}`);
    }
    mutated.set(
      file,
      source.replace(find, () => replace),
    );
  }
  mkdirSync(join(ROOT, 'node_modules/.cache'), { recursive: true });
  const copy = mkdtempSync(join(ROOT, 'node_modules/.cache/mutant-'));
  writeFileSync(join(copy, 'package.json'), '{"type":"module"}');
  for (const folder of SOURCES) {
    for (const entry of readdirSync(join(ROOT, folder), { withFileTypes: true })) {
      const path = join(folder, entry.name);
      if (!entry.isFile() || !path.endsWith('.ts')) continue;
      const source = mutated.get(path) ?? readFileSync(join(ROOT, path), 'utf8');
      const target = join(copy, path.replace(/\.ts$/, '.js'));
      mkdirSync(dirname(target), { recursive: true });
      writeFileSync(target, compiled(source));
    }
  }
  const imported = await Promise.all(
    modules.map((module) => import(pathToFileURL(join(copy, module.replace(/\.ts$/, '.js'))).href)),
  );
  return {
    modules: imported as { [K in keyof T]: Record<string, unknown> },
    dispose: () => rmSync(copy, { recursive: true, force: true }),
  };
}

/** Most files are the same in every mutant. */
const compilations = new Map<string, string>();

function compiled(source: string): string {
  const known = compilations.get(source);
  if (known !== undefined) return known;
  const { outputText } = ts.transpileModule(source, {
    compilerOptions: {
      target: ts.ScriptTarget.ES2023,
      module: ts.ModuleKind.ESNext,
      verbatimModuleSyntax: true,
      rewriteRelativeImportExtensions: true,
    },
  });
  compilations.set(source, outputText);
  return outputText;
}
