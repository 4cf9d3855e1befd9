/** The table at the end: one row a system and case, one column a metric. Pure. */
import type { Goal, Result } from './record.ts';
import { readable } from './statistics.ts';

/** A table for each set of metrics: cases that were measured alike stand together, in the order of the first of them. */
export function tables(results: readonly Result[]): string[][][] {
  const groups = new Map<string, Result[]>();
  for (const name of new Set(results.map((result) => result.case))) {
    const ofCase = results.filter((result) => result.case === name);
    const metrics = [...new Set(ofCase.map((result) => result.metric))].sort().join('|');
    groups.set(metrics, [...(groups.get(metrics) ?? []), ...ofCase]);
  }
  return [...groups.values()].map(rows);
}

/** Rows of cells, the first of them the heading. Values are medians, with lowest and highest in brackets. */
export function rows(results: readonly Result[]): string[][] {
  const metrics = [...new Set(results.map((result) => result.metric))];
  const cases = [...new Set(results.map((result) => result.case))];
  const systems = [...new Set(results.map((result) => result.system))];
  const body = cases.flatMap((name) =>
    systems
      .map((system) => results.filter((result) => result.case === name && result.system === system))
      .filter((found) => found.length > 0)
      .map((found) => [
        name,
        found[0]!.system,
        ...metrics.map((metric) => cell(found.find((result) => result.metric === metric))),
      ]),
  );
  return [['case', 'system', ...metrics], ...body];
}

function cell(result: Result | undefined): string {
  if (result === undefined) return '–';
  const [lowest, highest] = result.spread;
  const middle = readable(result.median);
  return lowest === highest ? middle : `${middle} (${readable(lowest)}–${readable(highest)})`;
}

export function plainTable(table: readonly (readonly string[])[]): string {
  const widths = (table[0] ?? []).map((_, column) =>
    Math.max(...table.map((row) => row[column]?.length ?? 0)),
  );
  return table
    .map((row) =>
      row
        .map((text, column) => (column < 2 ? text.padEnd(widths[column]!) : text.padStart(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

export function markdownTable(table: readonly (readonly string[])[]): string {
  const [head = [], ...body] = table;
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), line(head.map((_, column) => (column < 2 ? '---' : '--:'))), ...body.map(line)].join(
    '\n',
  );
}

export function goalLine({ id, value, op, goal, met, reason }: Goal): string {
  const figure = value === null ? 'not measured' : readable(value);
  const why = reason === undefined ? '' : ` (${reason})`;
  return `${met ? 'met   ' : 'MISSED'} ${id}: ${figure}, goal ${op === '>=' ? '≥' : '≤'} ${goal}${why}`;
}
