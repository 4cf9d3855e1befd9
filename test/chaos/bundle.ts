import { mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

type Build = (options: object) => Promise<unknown>;

const TOP = fileURLToPath(new URL('../..', import.meta.url));
/** A module of CommonJS in the bundle asks for Node's own modules this way. */
const REQUIRE =
  "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(import.meta.url);";

let bundled: Promise<string> | undefined;

/**
 * The programs of this folder, each with all that it imports in one file, so that a relay that is killed is back in the
 * time that its start takes, not in what translating its sources takes. Returns the path of program `name`.
 */
export async function programPath(name: 'relay-process' | 'devices-process'): Promise<string> {
  bundled ??= bundle();
  return join(await bundled, `${name}.mjs`);
}

async function bundle(): Promise<string> {
  const require = createRequire(import.meta.url);
  const { build } = createRequire(require.resolve('tsx'))('esbuild') as { build: Build };
  // Where the packages that stay outside are found from. One file of tests runs at a time, and the next writes it anew.
  const folder = join(TOP, 'node_modules/.cache/chaos');
  mkdirSync(folder, { recursive: true });
  await build({
    entryPoints: ['relay-process', 'devices-process'].map((name) => join(TOP, `test/chaos/${name}.ts`)),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    external: ['koffi', 'pino'],
    banner: { js: REQUIRE },
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    logLevel: 'warning',
  });
  return folder;
}
