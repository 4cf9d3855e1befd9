/** A column: its heading, and what a row shows there. Numbers stand on the right. */
export interface Column<Row> {
  readonly head: string;
  readonly cell: (row: Row) => string | number;
}

/** Rows in columns as wide as they need to be; without a row, only the headings. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string {
  const cells = rows.map((row) => columns.map(({ cell }) => cell(row)));
  const widths = columns.map(({ head }, at) =>
    Math.max(head.length, ...cells.map((line) => String(line[at]).length)),
  );
  const isNumeric = columns.map(
    (_, at) => cells.length > 0 && cells.every((line) => typeof line[at] === 'number'),
  );
  const line = (values: readonly (string | number)[]) =>
    values
      .map((value, at) => {
        const width = widths[at] ?? 0;
        return isNumeric[at] ? String(value).padStart(width) : String(value).padEnd(width);
      })
      .join('  ')
      .trimEnd();
  return [line(columns.map(({ head }) => head)), ...cells.map(line)].join('\n');
}

/** Names and what they are, one a line. */
export function facts(of: Readonly<Record<string, string | number>>): string {
  const width = Math.max(...Object.keys(of).map((name) => name.length));
  return Object.entries(of)
    .map(([name, value]) => `${name.padEnd(width)}  ${value}`.trimEnd())
    .join('\n');
}

/** A duration as a person says it: 45 s, 12 min, 3 h, 2 d. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
