import type { LinkId } from '../device-io.ts';

/** Messages that an answer may still measure: older ones are forgotten first. */
const ASKED_MOST = 32;
/** Weight of a round trip against those before it (RFC 6298 §2). */
const SMOOTHING = 8;

/**
 * Round trips of our messages and their answers; `echoCounter` of an answer tells which message it was, also when
 * that was sent again meanwhile.
 */
export class RoundTrips {
  /** What went out in band and was not answered yet, by counter. */
  readonly #asked = new Map<bigint, { readonly link: LinkId; readonly sentMs: number }>();

  noteAsked(counter: bigint, link: LinkId, nowMs: number): void {
    this.#asked.set(counter, { link, sentMs: nowMs });
    for (const oldest of this.#asked.keys()) {
      if (this.#asked.size <= ASKED_MOST) break;
      this.#asked.delete(oldest);
    }
  }

  /**
   * Milliseconds; null when the answer measures nothing: it came on another link, or another one came before it
   * and this one was asked for by the relay's clock.
   */
  measure(echoCounter: bigint, link: LinkId, nowMs: number): number | null {
    const asked = this.#asked.get(echoCounter);
    if (asked?.link !== link) return null;
    this.#asked.delete(echoCounter);
    return nowMs - asked.sentMs;
  }

  /** What is on its way belongs to a path that is left. */
  clear(): void {
    this.#asked.clear();
  }
}

/** Zero is "not measured". */
export function smoothed(beforeMs: number, sampleMs: number): number {
  return beforeMs === 0 ? sampleMs : beforeMs + (sampleMs - beforeMs) / SMOOTHING;
}
