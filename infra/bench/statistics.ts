/** Figures of repeated runs. Pure. */

/** The middle value; of an even number of values the mean of the two in the middle. NaN of none. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Lowest and highest value; NaN of none. */
export function spread(values: readonly number[]): readonly [lowest: number, highest: number] {
  if (values.length === 0) return [Number.NaN, Number.NaN];
  return [Math.min(...values), Math.max(...values)];
}

/** About three significant digits of small values, whole numbers with thousands of large ones; a dash for none. */
export function readable(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size < 10) return String(Math.round(value * 100) / 100);
  if (size < 100) return String(Math.round(value * 10) / 10);
  return Math.round(value).toLocaleString('en-US');
}
