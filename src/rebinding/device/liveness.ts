/**
 * When a device is to say something though it has nothing to send: to keep its NAT's mapping (every 15 to
 * 25 s after the last uplink), and to find out whether its path still works. A keepalive that went out proves
 * nothing; only what comes in does (RFC 3948 §4).
 *
 * The path is doubted when something was sent and nothing came for `doubtMs`, and once when downlink
 * that flowed stops: a device that only receives notices in this way that its NAT forgot it.
 */
export class Liveness {
  #sentMs: number | null = null;
  /** First uplink since something was last heard. */
  #unansweredMs: number | null = null;
  #heardMs: number | null = null;
  /** DATA came since the last probe: its end is worth one. */
  #wasFlowing = false;
  #isIdleProbe = false;
  #probes = 0;
  #probedMs = 0;
  #keepaliveMs = KEEPALIVE_FIRST_MS;
  #steady = 0;

  noteSent(nowMs: number): void {
    this.#sentMs = nowMs;
    this.#unansweredMs ??= nowMs;
  }

  noteData(nowMs: number): void {
    this.noteHeard(nowMs);
    this.#wasFlowing = true;
  }

  noteHeard(nowMs: number): void {
    this.#heardMs = nowMs;
    this.#unansweredMs = null;
    this.#probes = 0;
  }

  /** A keepalive goes out because one was due. */
  noteProbe(nowMs: number): void {
    this.#isIdleProbe = this.#sentMs !== null && nowMs - this.#sentMs >= KEEPALIVE_LEAST_MS;
    this.#wasFlowing = false;
    this.#probes += 1;
    this.#probedMs = nowMs;
    this.noteSent(nowMs);
  }

  /** The relay says where it sees us: after a long pause that tells whether the NAT kept its mapping. */
  noteMapping(changed: boolean): void {
    if (!this.#isIdleProbe) return;
    this.#isIdleProbe = false;
    if (changed) {
      this.#keepaliveMs = KEEPALIVE_LEAST_MS;
      this.#steady = 0;
      return;
    }
    this.#steady += 1;
    if (this.#steady < STEADY_KEEPALIVES) return;
    this.#steady = 0;
    this.#keepaliveMs = Math.min(this.#keepaliveMs + KEEPALIVE_STEP_MS, KEEPALIVE_MOST_MS);
  }

  /** Nothing sent or heard so far is evidence any more: the path is another one. */
  restart(): void {
    this.#sentMs = null;
    this.#unansweredMs = null;
    this.#heardMs = null;
    this.#wasFlowing = false;
    this.#isIdleProbe = false;
    this.#probes = 0;
  }

  get keepaliveMs(): number {
    return this.#keepaliveMs;
  }

  /** True when that many probes in a row stayed without any answer. */
  isLost(nowMs: number, rttMs: number): boolean {
    return this.#probes >= PROBES && nowMs >= this.#probedMs + doubtMs(rttMs);
  }

  /** When to probe, or to ask `isLost`; Infinity before the first uplink. */
  dueMs(rttMs: number): number {
    const due: number[] = [];
    if (this.#sentMs !== null) due.push(this.#sentMs + this.#keepaliveMs);
    if (this.#probes > 0) due.push(this.#probedMs + doubtMs(rttMs));
    else if (this.#unansweredMs !== null) due.push(this.#unansweredMs + doubtMs(rttMs));
    if (this.#wasFlowing && this.#heardMs !== null) due.push(this.#heardMs + doubtMs(rttMs));
    return Math.min(...due);
  }
}

const KEEPALIVE_FIRST_MS = 20_000;
const KEEPALIVE_LEAST_MS = 15_000;
const KEEPALIVE_MOST_MS = 25_000;
const KEEPALIVE_STEP_MS = 2_500;
/** Keepalives after which the mapping is taken to last longer. */
const STEADY_KEEPALIVES = 10;
/** Unanswered probes after which the path counts as lost. */
const PROBES = 4;

/** Silence after which a path that ought to answer is doubted. */
function doubtMs(rttMs: number): number {
  return Math.max(500, 3 * rttMs);
}
