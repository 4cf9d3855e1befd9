import { admit, type Policing, TOO_SOON } from '../decision/policing.ts';
import { boottimeOf } from './clock.ts';
import type { Elements } from './elements.ts';

/** The program charges packets on other CPUs at the same time: so often it is tried, as there. */
const TRIES = 4;

export type MeterDirection = 'uplink' | 'downlink';

/** A session's rates as both engines charge them: one theoretical arrival time for each direction, in the program's map. */
export class SessionMeter {
  readonly #meters: Elements;
  readonly #at: Readonly<Record<MeterDirection, number>>;

  constructor(meters: Elements, slot: number) {
    const at = (direction: MeterDirection) => meters.base(slot) + meters.offset(`${direction}.arrival_ns`);
    this.#meters = meters;
    this.#at = { uplink: at('uplink'), downlink: at('downlink') };
  }

  /** Charges a packet; false when it comes too soon, and then nothing is charged. */
  charge(direction: MeterDirection, rate: Policing, octets: number, nowMs: number): boolean {
    const at = this.#at[direction];
    const nowNs = boottimeOf(nowMs);
    for (let n = 0; n < TRIES; n += 1) {
      const arrivalNs = this.#meters.u64(at);
      // Counted from now on: exact, however long the machine has been up.
      const aheadNs = arrivalNs > nowNs ? Number(arrivalNs - nowNs) : 0;
      const next = admit(rate, aheadNs, octets, 0);
      if (next === TOO_SOON) return false;
      if (this.#meters.exchangeU64(at, arrivalNs, nowNs + BigInt(next))) return true;
    }
    return false;
  }
}
