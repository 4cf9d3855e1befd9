#!/usr/bin/env node
// Runs the suites in rounds, holds each to its share of seconds (CONTRIBUTING.md) and what those before it left of theirs,
// names what was skipped and why, and ends with what failed and one line of totals.
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IPERF, installPackages, setup } from './setup.mjs';

const top = join(dirname(fileURLToPath(import.meta.url)), '..');
/** One round after the other. Suites of one round run side by side: one of them waits most of its time. */
const ROUNDS = [
  ['unit'],
  ['contract'],
  ['property'],
  ['simulation'],
  ['sameness'],
  ['integration'],
  ['e2e'],
  ['interop'],
  ['spin', 'chaos'],
];
/** All rounds together, seconds. */
const BUDGET_S = 1_200;

/** Seconds that each suite may take, from the table in CONTRIBUTING.md. */
function shares() {
  const rows = readFileSync(join(top, 'CONTRIBUTING.md'), 'utf8').matchAll(/^\| `(\w+)` \| (\d+) \|/gm);
  return Object.fromEntries([...rows].map(([, suite, seconds]) => [suite, Number(seconds)]));
}

/** Everything of a suite is one project, or several that begin with its name. Alone it speaks at once. */
function runSuite(suite, outputFile, alone) {
  const args = ['node_modules/vitest/vitest.mjs', 'run', '--project', suite, '--project', `${suite}-*`];
  args.push('--reporter=default', '--reporter=json', `--outputFile.json=${outputFile}`);
  return new Promise((resolve) => {
    const stdio = alone ? 'inherit' : ['ignore', 'pipe', 'pipe'];
    const child = spawn(process.execPath, args, { cwd: top, stdio });
    let said = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text) => {
        said += text;
      });
    }
    child.on('close', (code, signal) => resolve({ status: code ?? (signal === null ? 1 : 128), said }));
  });
}

const wanted = process.argv.slice(2);
setup();
if (wanted.includes('soak')) installPackages(IPERF);
const share = shares();
const rounds =
  wanted.length > 0
    ? wanted.map((suite) => [suite])
    : ROUNDS.map((round) => round.filter((suite) => share[suite] !== undefined));
const scratch = mkdtempSync(join(tmpdir(), 'mooring-test-'));
const totals = { passed: 0, failed: 0, skipped: 0 };
const skipped = [];
const failed = [];
const faults = [];

/** Runs a suite and says what came of it; resolves with the seconds that it took. */
async function judge(suite, alone) {
  if (!existsSync(join(top, 'test', suite)) || readdirSync(join(top, 'test', suite)).length === 0) {
    faults.push(`there is no suite test/${suite}`);
    return 0;
  }
  const output = join(scratch, `${suite}.json`);
  console.log(`\n── ${suite} (share ${share[suite] ?? '–'} s)`);
  const started = Date.now();
  const { status, said } = await runSuite(suite, output, alone);
  const seconds = (Date.now() - started) / 1000;
  if (said !== '') console.log(`\n── what ${suite} said\n${said}`);
  if (!existsSync(output)) {
    faults.push(`${suite} ended without a result (exit ${status})`);
    return seconds;
  }
  const result = JSON.parse(readFileSync(output, 'utf8'));
  totals.passed += result.numPassedTests;
  totals.failed += result.numFailedTests;
  totals.skipped += result.numPendingTests + (result.numTodoTests ?? 0);
  for (const file of result.testResults) {
    for (const test of file.assertionResults) {
      const name = `${relative(top, file.name)}: ${test.fullName}`;
      if (test.status === 'failed') failed.push({ name, why: test.failureMessages.join('\n') });
      else if (test.status !== 'passed') skipped.push(name);
    }
  }
  if (status !== 0 && result.numFailedTests === 0)
    faults.push(`${suite} failed outside its tests (exit ${status})`);
  if (result.numTotalTests === 0) faults.push(`${suite} has no test`);
  console.log(`${suite}: ${seconds.toFixed(0)} s of ${share[suite] ?? '–'} s`);
  return seconds;
}

/** Seconds that the rounds so far have left of their shares: a machine is not equally slow at everything. */
let left = 0;

async function play(round) {
  const seconds = await Promise.all(round.map((suite) => judge(suite, round.length === 1)));
  const shared = round.filter((suite) => share[suite] !== undefined);
  if (shared.length === 0) return;
  const took = Math.max(...seconds);
  const allowed = Math.max(...shared.map((suite) => share[suite]));
  left += allowed - took;
  if (left >= 0) return;
  faults.push(
    `${round.join(' beside ')} took ${took.toFixed(0)} s: ${(-left).toFixed(0)} s more than the share of ${allowed} s in CONTRIBUTING.md and what was left before`,
  );
  left = 0;
}

try {
  const planned = ROUNDS.reduce(
    (sum, round) => sum + Math.max(...round.map((suite) => share[suite] ?? 0)),
    0,
  );
  if (planned > BUDGET_S)
    faults.push(`the shares in CONTRIBUTING.md are ${planned} s together, more than ${BUDGET_S} s`);
  for (const round of rounds) await play(round);
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
if (skipped.length > 0) {
  console.log('\nskipped (the reason is in the name, or printed by the test above):');
  for (const line of skipped) console.log(`  ${line}`);
}
// Said again at the end, where whoever reads only the last lines of a long log finds it.
for (const { name, why } of failed) console.log(`\nfailed: ${name}\n${why}`);
for (const fault of faults) console.log(`\nfault: ${fault}`);
console.log(`\n${totals.passed} passed, ${totals.failed + faults.length} failed, ${totals.skipped} skipped`);
process.exit(totals.failed + faults.length === 0 ? 0 : 1);
