import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { esbuild, REQUIRE_IN_BUNDLE } from '../infra/build/esbuild.ts';

const TOP = fileURLToPath(new URL('..', import.meta.url));

/**
 * Programs under `test/`, each with all that it imports in one file, so that a process that is killed and started again
 * is there in the time that its start takes, not in what translating its sources takes. `kept` names the folder that
 * they are kept in: one test at a time. Returns the path of each program by the name of its source.
 */
export async function bundlePrograms(
  kept: string,
  sources: readonly string[],
): Promise<(name: string) => string> {
  // Where the packages that stay outside are found from.
  const folder = join(TOP, 'node_modules/.cache', kept);
  mkdirSync(folder, { recursive: true });
  await esbuild().build({
    entryPoints: sources.map((source) => join(TOP, 'test', source)),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['koffi', 'pino'],
    banner: { js: REQUIRE_IN_BUNDLE },
    outdir: folder,
    entryNames: '[name]',
    outExtension: { '.js': '.mjs' },
    logLevel: 'warning',
  });
  return (name) => join(folder, `${basename(name, '.ts')}.mjs`);
}
