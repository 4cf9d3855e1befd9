// Writes the measured parts of docs/performance.md from docs/performance/*.json; `--check` fails when they would differ.
// Only full runs may stand there: a quick one is for watching, not for quoting.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchRecord } from '../bench/record.ts';
import { goalLine, markdownTable, tables } from '../bench/table.ts';
import { writeOrCheck } from './generated-file.ts';

const docs = join(dirname(fileURLToPath(import.meta.url)), '../../docs');
const page = join(docs, 'performance.md');

function measured({ bench, date, command, machine, results, goals, notes }: BenchRecord): string {
  if (/ --(quick|only)\b/.test(command)) {
    throw new Error(`docs/performance/${bench}.json comes from “${command}”; commit a full run`);
  }
  const { cpu, cores, kernel, node, load } = machine;
  return [
    `Measured ${date.slice(0, 16).replace('T', ' ')} UTC by \`${command}\` on ${cpu}, ${cores} cores, Linux ${kernel}, Node ${node}; load average of the machine before ${load[0]}, after ${load[1]}. Medians, with the lowest and the highest run in brackets.`,
    '',
    ...tables(results).flatMap((table) => [markdownTable(table), '']),
    ...goals.map((goal) => `- \`${goalLine(goal)}\``),
    '',
    ...notes.map((note) => `- ${note}`),
  ].join('\n');
}

/** The page with each part between `<!-- NAME: measured -->` and `<!-- NAME: end -->` made anew. */
function generate(text: string): string {
  let out = text;
  for (const file of readdirSync(join(docs, 'performance')).sort()) {
    if (!file.endsWith('.json')) continue;
    const record = JSON.parse(readFileSync(join(docs, 'performance', file), 'utf8')) as BenchRecord;
    const [open, close] = [`<!-- ${record.bench}: measured -->`, `<!-- ${record.bench}: end -->`];
    const from = out.indexOf(open);
    const to = out.indexOf(close);
    if (from < 0 || to < from)
      throw new Error(`docs/performance.md lacks “${open}” … “${close}” for ${file}`);
    out = `${out.slice(0, from + open.length)}\n${measured(record)}\n${out.slice(to)}`;
  }
  return out;
}

writeOrCheck(page, generate(readFileSync(page, 'utf8')), import.meta.filename);
