import type { LinkId } from '../device-io.ts';

/** Probes that an answer may still measure: older ones are forgotten first. */
const OPEN_MOST = 64;

/** What was asked of links that may not be in use, by the counter of the message that asked. */
export class Probes {
  readonly #open = new Map<bigint, { readonly link: LinkId; readonly id: number; readonly sentMs: number }>();

  noteSent(counter: bigint, link: LinkId, id: number, nowMs: number): void {
    this.#open.set(counter, { link, id, sentMs: nowMs });
    for (const oldest of this.#open.keys()) {
      if (this.#open.size <= OPEN_MOST) break;
      this.#open.delete(oldest);
    }
  }

  /** The probe that a message with this echo on this link answers; null: none, or it was answered already. */
  answered(
    echoCounter: bigint,
    link: LinkId,
    nowMs: number,
  ): { readonly id: number; readonly rttMs: number } | null {
    const probe = this.#open.get(echoCounter);
    if (probe?.link !== link) return null;
    this.#open.delete(echoCounter);
    return { id: probe.id, rttMs: nowMs - probe.sentMs };
  }
}
