// Writes docs/openapi.json from the admin API's schemas; `--check` fails when it would differ.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openApiDocument } from '../../src/admin/openapi.ts';
import { writeOrCheck } from './generated-file.ts';

const file = join(dirname(fileURLToPath(import.meta.url)), '../../docs/openapi.json');
const text = `${JSON.stringify(openApiDocument(), null, 1)}\n`;

writeOrCheck(file, text, import.meta.filename);
