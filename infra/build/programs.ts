import { readFileSync, rmSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { esbuild, REQUIRE_IN_BUNDLE } from './esbuild.ts';

/**
 * Puts what starts as a program or as a thread into few files, over what the compiler left in `dist`: most of a start is
 * reading some hundreds of modules, and while a relay starts after a crash nobody's move is answered. What a program
 * loads only when it needs it stays a file of its own, so a supervisor remains small.
 */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DIST = join(ROOT, 'dist');
const CHUNKS = 'chunks';

const PROGRAMS = [
  'src/cli/main.ts',
  'src/cli/server-process.ts',
  'src/datapath/userspace/worker.ts',
  'clients/laptop/packet-thread.ts',
  'infra/issuer/main.ts',
];
/** Native, or with files of their own beside them. */
const OUTSIDE = ['koffi', 'pino'];

/** Where a module stands in `dist`, though it runs from a file of several: it looks for others beside it. */
function ownUrl(path: string): string {
  const place = relative(ROOT, path).replace(/\.ts$/, '.js');
  return `(import.meta.url.slice(0, import.meta.url.lastIndexOf("/dist/")) + ${JSON.stringify(`/dist/${place}`)})`;
}

export async function bundlePrograms(): Promise<void> {
  rmSync(join(DIST, CHUNKS), { recursive: true, force: true });
  await esbuild().build({
    entryPoints: PROGRAMS.map((program) => join(ROOT, program)),
    ...{ outbase: ROOT, outdir: DIST, chunkNames: `${CHUNKS}/[name]-[hash]` },
    ...{ bundle: true, splitting: true, format: 'esm', platform: 'node', target: 'node20', sourcemap: true },
    ...{ external: OUTSIDE, banner: { js: REQUIRE_IN_BUNDLE }, logLevel: 'warning' },
    plugins: [
      {
        name: 'places',
        setup({ onLoad }) {
          onLoad({ filter: /\.ts$/ }, ({ path }) => {
            const source = readFileSync(path, 'utf8');
            if (!source.includes('import.meta.url')) return undefined;
            return { contents: source.replaceAll('import.meta.url', ownUrl(path)), loader: 'ts' };
          });
        },
      },
    ],
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await bundlePrograms();
