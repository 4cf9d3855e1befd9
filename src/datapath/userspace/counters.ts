import type { EngineCounters } from '../engine-api.ts';

export type CounterGroup = keyof EngineCounters;

/** Packets by direction and verdict. Every name comes from a table in the code: the set is bounded. */
export class Counters {
  readonly #groups: Record<CounterGroup, Record<string, number>> = { downlink: {}, uplink: {}, control: {} };

  count(group: CounterGroup, verdict: string, packets = 1): void {
    const names = this.#groups[group];
    names[verdict] = (names[verdict] ?? 0) + packets;
  }

  /** What both engines counted: a packet is counted by the one that decided it. */
  static sum(one: EngineCounters, other: EngineCounters): EngineCounters {
    const { downlink, uplink, control } = one;
    return {
      downlink: added(downlink, other.downlink),
      uplink: added(uplink, other.uplink),
      control: added(control, other.control),
    };
  }

  snapshot(): EngineCounters {
    const { downlink, uplink, control } = this.#groups;
    return { downlink: { ...downlink }, uplink: { ...uplink }, control: { ...control } };
  }
}

function added(one: Readonly<Record<string, number>>, other: Readonly<Record<string, number>>) {
  const sum: Record<string, number> = { ...one };
  for (const [name, packets] of Object.entries(other)) sum[name] = (sum[name] ?? 0) + packets;
  return sum;
}
