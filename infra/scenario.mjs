#!/usr/bin/env node
// Sets the machine up if it must be, then plays a scenario; without a name lists them.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { setup } from './setup.mjs';

const top = join(dirname(fileURLToPath(import.meta.url)), '..');
setup();
const scenario = spawn(
  process.execPath,
  [join(top, 'dist/infra/scenarios/main.js'), ...process.argv.slice(2)],
  {
    stdio: 'inherit',
  },
);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => scenario.kill(signal));
scenario.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 128)));
