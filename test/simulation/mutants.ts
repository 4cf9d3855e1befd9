import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { esbuild } from '../../infra/build/esbuild.ts';

const ROOT = join(import.meta.dirname, '../..');

/** One deliberate fault: every `find` occurs exactly once in its `file` and is replaced. */
export interface Mutation {
  readonly name: string;
  readonly edits: readonly { readonly file: string; readonly find: string; readonly replace: string }[];
}

/**
 * Builds `modules`, and all that they import from here, with one fault planted, and imports them. The build lies inside
 * the project, so that packages resolve, and is removed by `dispose`. Throws when the modules do not import the place of
 * the fault.
 */
export async function importMutant<T extends readonly string[]>(
  { name, edits }: Mutation,
  ...modules: T
): Promise<{ readonly modules: { [K in keyof T]: Record<string, unknown> }; dispose(): void }> {
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
  const planted = new Set<string>();
  const cache = join(ROOT, 'node_modules/.cache');
  mkdirSync(cache, { recursive: true });
  const outdir = mkdtempSync(join(cache, 'mutant-'));
  await esbuild().build({
    entryPoints: modules.map((module) => join(ROOT, module)),
    ...{ outdir, outbase: ROOT, outExtension: { '.js': '.mjs' } },
    // One copy of what several of them import.
    ...{ bundle: true, splitting: true, format: 'esm', platform: 'node', target: 'node20' },
    ...{ packages: 'external', logLevel: 'warning' },
    plugins: [
      {
        name: 'mutation',
        setup({ onLoad }) {
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const contents = mutated.get(path);
            if (contents === undefined) return undefined;
            planted.add(path);
            return { contents, loader: 'ts' };
          });
        },
      },
    ],
  });
  if (planted.size < mutated.size) {
    throw new Error(`mutation "${name}": ${modules.join(' and ')} do not import what it changes`);
  }
  const imported = await Promise.all(
    modules.map((module) => import(pathToFileURL(join(outdir, module.replace(/\.ts$/, '.mjs'))).href)),
  );
  return {
    modules: imported as { [K in keyof T]: Record<string, unknown> },
    dispose: () => rmSync(outdir, { recursive: true, force: true }),
  };
}
