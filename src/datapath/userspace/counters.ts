import type { EngineCounters } from '../engine-api.ts';

export type CounterGroup = keyof EngineCounters;

/** Packets by direction and verdict. Every name comes from a table in the code: the set is bounded. */
export class Counters {
  readonly #groups: Record<CounterGroup, Record<string, number>> = { downlink: {}, uplink: {}, control: {} };

  count(group: CounterGroup, verdict: string, packets = 1): void {
    const names = this.#groups[group];
    names[verdict] = (names[verdict] ?? 0) + packets;
  }

  snapshot(): EngineCounters {
    const { downlink, uplink, control } = this.#groups;
    return { downlink: { ...downlink }, uplink: { ...uplink }, control: { ...control } };
  }
}
