#!/usr/bin/env node
// Format, lint, types, dependency rule, generated files: everything that must hold before a commit.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setup } from './setup.mjs';

const top = join(dirname(fileURLToPath(import.meta.url)), '..');
const tsx = ['--import', 'tsx'];
/** What was checked before and has not changed is not checked again. */
const remembered = ['--tsBuildInfoFile', 'node_modules/.cache/types.tsbuildinfo'];
const CHECKS = [
  [
    'format and lint',
    ['node_modules/@biomejs/biome/bin/biome', 'ci', '--error-on-warnings', '--colors=off', '.'],
  ],
  ['types', ['node_modules/typescript/bin/tsc', '-p', '.', '--noEmit', '--incremental', ...remembered]],
  ['dependency rule', [...tsx, 'infra/build/dependency-rule.ts']],
  ['Lua in sync', [...tsx, 'infra/build/lua.ts', '--check']],
  ['vectors in sync', [...tsx, 'infra/build/vectors.ts', '--check']],
  ['conformance page in sync', [...tsx, 'infra/build/conformance.ts', '--check']],
  ['configuration reference in sync', [...tsx, 'infra/build/configuration.ts', '--check']],
  ['OpenAPI document in sync', [...tsx, 'infra/build/openapi.ts', '--check']],
  ['performance page in sync', [...tsx, 'infra/build/performance.ts', '--check']],
];

setup();
let failed = 0;
for (const [name, args] of CHECKS) {
  const started = Date.now();
  const done = spawnSync(process.execPath, args, { cwd: top, encoding: 'utf8' });
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  console.log(`check: ${done.status === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds} s)`);
  if (done.status !== 0) {
    failed += 1;
    console.log(`${done.stdout}${done.stderr}`.trim());
  }
}
process.exit(failed === 0 ? 0 : 1);
