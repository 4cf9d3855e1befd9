import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { esbuild } from '../../infra/build/esbuild.ts';
import { NATIVE_CRYPTOGRAPHY } from '../sameness/native-cryptography.ts';

const ROOT = join(import.meta.dirname, '../..');

/** One deliberate fault: every `find` occurs exactly once in its `file` and is replaced. */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly { readonly file: string; readonly find: string; readonly replace: string }[];
}

/**
 * Builds `modules`, and all that they import from here, with one fault planted, and imports them: `importBuilt`. Throws when the
 * modules do not import the place of the fault.
 */
export async function importMutant<T extends readonly string[]>(
  { name, edits }: Mutation,
  ...modules: T
): Promise<Built<T>> {
  const mutated = new Map<string, string>();
  for (const { file, find, replace } of edits) {
    const path = join(ROOT, file);
    const source = mutated.get(path) ?? readFileSync(path, 'utf8');
    if (source.split(find).length !== 2) {
      throw new Error(`mutation "${name}": ${JSON.stringify(find)} must occur exactly once in ${file}`);
    }
    mutated.set(
      path,
      source.replace(find, () => replace),
    );
  }
  const { planted, ...built } = await build(modules, mutated);
  if (planted < mutated.size) {
    built.dispose();
    throw new Error(`mutation "${name}": ${modules.join(' and ')} do not import what it changes`);
  }
  return built;
}

export interface Built<T extends readonly string[]> {
  readonly modules: { [K in keyof T]: Record<string, unknown> };
  dispose(): void;
}

/**
 * Builds `modules`, and all that they import from here, and imports them: what runs for long runs faster so. The build lies inside
 * the project, so that packages resolve, and is removed by `dispose`.
 */
export async function importBuilt<T extends readonly string[]>(...modules: T): Promise<Built<T>> {
  return build(modules, new Map());
}

async function build<T extends readonly string[]>(
  modules: T,
  changed: ReadonlyMap<string, string>,
): Promise<Built<T> & { readonly planted: number }> {
  const planted = new Set<string>();
  const cache = join(ROOT, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const outdir = mkdtempSync(join(cache, 'built-'));
  await esbuild().build({
    entryPoints: modules.map((module) => join(ROOT, module)),
    ...{ outdir, outbase: ROOT, outExtension: { '.js': '.mjs' } },
    // One copy of what several of them import.
    ...{ bundle: true, splitting: true, format: 'esm', platform: 'node', target: 'node20' },
    ...{ packages: 'external', logLevel: 'warning' },
    plugins: [
      {
        name: 'changed',
        setup({ onLoad, onResolve }) {
          onResolve({ filter: /^@noble\// }, ({ path }) => {
            const native = (NATIVE_CRYPTOGRAPHY as Record<string, string>)[path];
            return native === undefined ? undefined : { path: native };
          });
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const contents = changed.get(path);
            if (contents === undefined) return undefined;
            planted.add(path);
            return { contents, loader: 'ts' };
          });
        },
      },
    ],
  });
  const imported = await Promise.all(
    modules.map((module) => import(pathToFileURL(join(outdir, module.replace(/\.ts$/, '.mjs'))).href)),
  );
  return {
    modules: imported as { [K in keyof T]: Record<string, unknown> },
    planted: planted.size,
    dispose: () => rmSync(outdir, { recursive: true, force: true }),
  };
}
