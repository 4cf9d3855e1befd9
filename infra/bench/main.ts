import { writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { timeline } from '../demo/progress.ts';
import { cleanStaleLabs, createLab } from '../lab/lab.ts';
import { type Benchmark, chosenCases } from './benchmark.ts';
import { handover } from './handover/handover.ts';
import { laptop } from './laptop/laptop.ts';
import { type BenchRecord, currentLoad, machine } from './record.ts';
import { registry } from './registry/registry.ts';
import { relay } from './relay/relay.ts';
import { goalLine, plainTable, tables } from './table.ts';

/**
 * `npm run bench -- NAME [--only CASE] [--quick] [--json FILE]`. Exit status 0 when everything was measured, whatever it
 * is; a goal that was missed or not measured is in the table and the file.
 */
const BENCHMARKS: readonly Benchmark[] = [relay, handover, registry, laptop];

const print = (line: string) => process.stdout.write(`${line}\n`);

async function run(benchmark: Benchmark, options: { only?: string; quick: boolean; json?: string }) {
  const progress = timeline(print);
  for (const stale of cleanStaleLabs()) progress.say(`removed what a killed run left behind: ${stale}`);
  chosenCases(benchmark, options.only);
  const loadBefore = currentLoad();
  const lab = await createLab({ name: 'bench' });
  try {
    const { results, goals, notes } = await Promise.race([
      benchmark.run(lab, { only: options.only, quick: options.quick, say: (text) => progress.say(text) }),
      lab.failure,
    ]);
    const record: BenchRecord = {
      bench: benchmark.name,
      date: new Date().toISOString(),
      command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
      machine: machine(loadBefore),
      results,
      goals,
      notes,
    };
    for (const table of tables(results)) print(`\n${plainTable(table)}`);
    print('');
    for (const goal of goals) print(goalLine(goal));
    for (const note of notes) print(`note: ${note}`);
    const { cpu, cores, kernel, node, load } = record.machine;
    print(`machine: ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}, load ${load.join(' → ')}`);
    if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(record, null, 2)}\n`);
  } finally {
    await lab.close();
  }
}

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string' },
      quick: { type: 'boolean', default: false },
      json: { type: 'string' },
    },
  });
  const [name, ...surplus] = positionals;
  if (name === undefined) {
    print('npm run bench -- NAME [--only CASE] [--quick] [--json FILE]\n');
    for (const { name: known, summary, cases } of BENCHMARKS) {
      print(`${known}: ${summary}`);
      print(`  cases: ${cases.join(', ')}`);
    }
    return 0;
  }
  const benchmark = BENCHMARKS.find((candidate) => candidate.name === name);
  if (benchmark === undefined || surplus.length > 0) {
    const known = BENCHMARKS.map((candidate) => candidate.name).join(', ');
    print(`bench: ${positionals.join(' ')} is not a benchmark; give one of: ${known}`);
    return 2;
  }
  await run(benchmark, values);
  return 0;
}

try {
  process.exit(await main());
} catch (error) {
  print(`bench: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
  process.exit(1);
}
