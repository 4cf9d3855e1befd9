// Writes docs/openapi.json from the admin API's schemas; `--check` fails when it would differ.
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openApiDocument } from '../../src/admin/openapi.ts';

const file = join(dirname(fileURLToPath(import.meta.url)), '../../docs/openapi.json');
const text = `${JSON.stringify(openApiDocument(), null, 1)}\n`;

if (process.argv.includes('--check')) {
  let found = '';
  try {
    found = readFileSync(file, 'utf8');
  } catch {
    // A missing document differs like any other.
  }
  if (found !== text) {
    process.stderr.write('docs/openapi.json differs from the schemas; run: npx tsx infra/build/openapi.ts\n');
    process.exit(1);
  }
} else writeFileSync(file, text);
