import type { Checked } from './checker.ts';
import type { Entry } from './history.ts';

/** What a run was: printed at its end, so that a green run says what it has seen. */
export interface Report {
  readonly operations: number;
  readonly acknowledged: number;
  readonly refused: number;
  readonly unanswered: number;
  readonly failOvers: number;
  /** Of these, how many lost a change that the registry had answered; and how many changes in all. */
  readonly losingFailOvers: number;
  readonly lostChanges: number;
  readonly quarantines: number;
  readonly relayFaults: number;
  /** Between two grants that were acknowledged, milliseconds. */
  readonly longestGrantsPauseMs: number;
  readonly violations: number;
}

/** Changes so long before a fault can be lost by it, milliseconds. */
const BEFORE_MS = 2_000;

export function reportOf(entries: readonly Entry[], checked: Checked): Report {
  const operations = entries.filter((entry) => entry.type === 'operation');
  const faults = entries.filter((entry) => entry.type === 'fault');
  const failOvers = faults.filter(({ what }) => what === 'fail-over' || what === 'emptied');
  const lost = entries.filter((entry) => entry.type === 'unwritten');
  const losing = failOvers.filter(({ atMs }, at) => {
    const untilMs = (failOvers[at + 1]?.atMs ?? Number.POSITIVE_INFINITY) - BEFORE_MS;
    return lost.some((change) => change.atMs >= atMs - BEFORE_MS && change.atMs < untilMs);
  });
  const granted = operations
    .filter(({ op, outcome }) => op === 'lease' && outcome === 'done')
    .map(({ atMs }) => atMs)
    .sort((a, b) => a - b);
  const pauses = granted.slice(1).map((atMs, at) => atMs - granted[at]!);
  return {
    operations: operations.length,
    acknowledged: operations.filter(({ outcome }) => outcome === 'done').length,
    refused: operations.filter(({ outcome }) => outcome === 'refused').length,
    unanswered: operations.filter(({ outcome }) => outcome === 'unknown').length,
    failOvers: failOvers.length,
    losingFailOvers: losing.length,
    lostChanges: lost.length,
    quarantines: quarantinesIn(entries),
    relayFaults: faults.filter(({ what, where }) => /^r\d+$/.test(where) && what !== 'fail-over').length,
    longestGrantsPauseMs: Math.round(Math.max(0, ...pauses)),
    violations: checked.violations.length,
  };
}

/** Of anchors; both relays seeing the same one counts once. */
function quarantinesIn(entries: readonly Entry[]): number {
  const SAME_MS = 3_000;
  const lastMs = new Map<string, number>();
  let count = 0;
  for (const entry of entries) {
    if (entry.type !== 'quarantined') continue;
    if (entry.atMs - (lastMs.get(entry.anchor) ?? Number.NEGATIVE_INFINITY) > SAME_MS) count += 1;
    lastMs.set(entry.anchor, entry.atMs);
  }
  return count;
}

export function textOf(report: Report, { counts }: Checked): string {
  const line = (of: object) =>
    Object.entries(of)
      .map(([name, value]) => `${name} ${value}`)
      .join(', ');
  return `${line(report)}; checked: ${line(counts)}`;
}
