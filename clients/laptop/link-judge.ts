/** A link is poor that costs more than this against the best other one, for so long. */
const POOR = { times: 2, plusMs: 50, forMs: 2_000 };
/** And good again that costs no more than this, for as long as its patience says. */
const GOOD = { times: 1.25, plusMs: 20 };
/** Between the two limits, and for the time in between, nothing changes: that is what keeps it from swinging. */
const PATIENCE = { firstMs: 10_000, mostMs: 300_000 };
/** One that was poor again this soon after it had been good needs twice the patience. */
const RELAPSE_MS = 300_000;

interface Verdict {
  isPoor: boolean;
  /** Since when the measurements speak against the verdict; null: they do not. */
  doubtedMs: number | null;
  patienceMs: number;
  /** When it was last found good again. */
  recoveredMs: number;
}

/**
 * Which links are so much worse than another one that they are not to be used although they would be preferred. Pure:
 * costs in, verdict out, time from the caller. Promises that a link which swings changes its verdict ever more rarely.
 */
export class LinkJudge {
  readonly #verdicts = new Map<string, Verdict>();

  /** `costs`: milliseconds by link; null: not known, which changes no verdict. Links that are not named are forgotten. */
  judge(costs: ReadonlyMap<string, number | null>, nowMs: number): ReadonlySet<string> {
    for (const link of this.#verdicts.keys()) if (!costs.has(link)) this.#verdicts.delete(link);
    for (const [link, costMs] of costs) {
      const verdict = this.#verdicts.get(link) ?? unknown();
      this.#verdicts.set(link, verdict);
      const bestMs = Math.min(
        ...[...costs].flatMap(([other, ms]) => (other === link || ms === null ? [] : [ms])),
      );
      consider(verdict, costMs, bestMs, nowMs);
    }
    return new Set([...this.#verdicts].filter(([, { isPoor }]) => isPoor).map(([link]) => link));
  }
}

function unknown(): Verdict {
  return {
    isPoor: false,
    doubtedMs: null,
    patienceMs: PATIENCE.firstMs,
    recoveredMs: Number.NEGATIVE_INFINITY,
  };
}

function consider(verdict: Verdict, costMs: number | null, bestMs: number, nowMs: number): void {
  const { isPoor } = verdict;
  const speaksAgainst = isPoor
    ? costMs !== null && costMs <= GOOD.times * bestMs + GOOD.plusMs && costMs < Number.POSITIVE_INFINITY
    : costMs !== null && costMs > POOR.times * bestMs + POOR.plusMs;
  if (!speaksAgainst) {
    verdict.doubtedMs = null;
    return;
  }
  verdict.doubtedMs ??= nowMs;
  if (nowMs - verdict.doubtedMs < (isPoor ? verdict.patienceMs : POOR.forMs)) return;
  verdict.doubtedMs = null;
  verdict.isPoor = !isPoor;
  if (isPoor) {
    verdict.recoveredMs = nowMs;
  } else {
    const isRelapse = nowMs - verdict.recoveredMs < RELAPSE_MS;
    verdict.patienceMs = isRelapse ? Math.min(2 * verdict.patienceMs, PATIENCE.mostMs) : PATIENCE.firstMs;
  }
}
