import { readFileSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';

const top = join(import.meta.dirname, '../..');

/**
 * Writes what `generator` made to `file`; with `--check` on the command line it only says where they differ, and by which command
 * they would not: the process then fails.
 */
export function writeOrCheck(file: string, text: string, generator: string): void {
  if (!process.argv.includes('--check')) writeFileSync(file, text);
  else if (present(file) !== text) {
    console.error(
      `${relative(top, file)} is not what is generated; run: npx tsx ${relative(top, generator)}`,
    );
    process.exitCode = 1;
  }
}

/** A file that is missing differs like any other. */
function present(file: string): string | null {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}
