/** `what` was so from `fromMs` until `toMs`. */
export interface Interval {
  readonly fromMs: number;
  readonly toMs: number;
}

export function overlapMs(a: Interval, b: Interval): number {
  return Math.min(a.toMs, b.toMs) - Math.max(a.fromMs, b.fromMs);
}

/** Every two of `all` that overlap, each pair once. */
export function* overlapping<T extends Interval>(all: readonly T[]): Generator<readonly [T, T]> {
  const sorted = [...all].sort((a, b) => a.fromMs - b.fromMs);
  let open: T[] = [];
  for (const one of sorted) {
    open = open.filter((other) => other.toMs > one.fromMs);
    for (const other of open) if (overlapMs(other, one) > 0) yield [other, one];
    if (one.toMs > one.fromMs) open.push(one);
  }
}

export function grouped<K, T>(all: Iterable<T>, keysOf: (one: T) => readonly K[]): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const one of all) {
    for (const key of keysOf(one)) {
      const group = groups.get(key);
      if (group === undefined) groups.set(key, [one]);
      else group.push(one);
    }
  }
  return groups;
}
