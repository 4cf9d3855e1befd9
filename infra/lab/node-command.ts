/** How the lab starts its own Node programs: compiled ones as they are, sources (from tests) bundled first. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { esbuild } from '../build/esbuild.ts';

/** Command line for a JavaScript or TypeScript file. */
export function nodeCommand(file: string, ...args: string[]): string[] {
  return [process.execPath, file.endsWith('.ts') ? bundled(file) : file, ...args];
}

/** Command line for a program of this folder; `name` without extension. */
export function labProgram(name: string, ...args: string[]): string[] {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return nodeCommand(fileURLToPath(new URL(`${name}.${extension}`, import.meta.url)), ...args);
}

const bundles = new Map<string, string>();

/**
 * A program and all that it imports from here in one file, made once: a lab starts some programs again and again, and
 * to translate its sources takes a program longer than to start. It lies where packages resolve, and finds no files beside
 * its sources: what looks for such is started as it was built.
 */
function bundled(file: string): string {
  const known = bundles.get(file);
  if (known !== undefined) return known;
  const { outputFiles } = esbuild().buildSync({
    entryPoints: [file],
    ...{ bundle: true, write: false, format: 'esm', platform: 'node', target: 'node20' },
    ...{ packages: 'external', logLevel: 'warning' },
  });
  const { contents } = outputFiles[0]!;
  const folder = fileURLToPath(new URL('../../node_modules/.cache/programs/', import.meta.url));
  const digest = createHash('sha256').update(contents).digest('hex').slice(0, 16);
  const path = join(folder, `${basename(file, '.ts')}-${digest}.mjs`);
  if (!existsSync(path)) {
    mkdirSync(folder, { recursive: true });
    writeFileSync(`${path}.${process.pid}`, contents);
    renameSync(`${path}.${process.pid}`, path);
  }
  bundles.set(file, path);
  return path;
}
