import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';

type Build = (options: object) => Promise<unknown>;

const TOP = fileURLToPath(new URL('..', import.meta.url));
/** A module of CommonJS in the bundle asks for Node's own modules this way. */
const REQUIRE =
  "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);";

/**
 * Programs under `test/`, each with all that it imports in one file, so that a process that is killed and started again
 * is there in the time that its start takes, not in what translating its sources takes. `kept` names the folder that
 * they are kept in: one test at a time. Returns the path of each program by the name of its source.
 */
export async function bundlePrograms(
  kept: string,
  sources: readonly string[],
): Promise<(name: string) => string> {
  const require = createRequire(import.meta.url);
  const { build } = createRequire(require.resolve('tsx'))('esbuild') as { build: Build };
  // Where the packages that stay outside are found from.
  const folder = join(TOP, 'node_modules/.cache', kept);
  mkdirSync(folder, { recursive: true });
  await build({
    entryPoints: sources.map((source) => join(TOP, 'test', source)),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['koffi', 'pino'],
    banner: { js: REQUIRE },
    outdir: folder,
    entryNames: '[name]',
    outExtension: { '.js': '.mjs' },
    logLevel: 'warning',
  });
  return (name) => join(folder, `${basename(name, '.ts')}.mjs`);
}
