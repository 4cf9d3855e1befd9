/** How the lab starts its own Node programs: compiled ones by plain node, sources (from tests) through tsx. */
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';

/** Command line for a JavaScript or TypeScript file. */
export function nodeCommand(file: string, ...args: string[]): string[] {
  if (!file.endsWith('.ts')) return [process.execPath, file, ...args];
  const tsx = createRequire(import.meta.url).resolve('tsx');
  return [process.execPath, '--import', pathToFileURL(tsx).href, file, ...args];
}

/** Command line for a program of this folder; `name` without extension. */
export function labProgram(name: string, ...args: string[]): string[] {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  return nodeCommand(fileURLToPath(new URL(`${name}.${extension}`, import.meta.url)), ...args);
}
