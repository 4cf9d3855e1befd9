import { type BpfMap, elementBytes, possibleCpus } from '../../linux/bpf-map.ts';
import type { Btf } from '../../linux/btf.ts';
import { allocate } from '../../linux/libc.ts';
import type { EngineCounters } from '../engine-api.ts';

const GROUPS = ['downlink', 'uplink', 'control', 'passed'] as const;
export type CountGroup = (typeof GROUPS)[number];

/** `DOWNLINK_UNLEASED_PORT` of the program is `unleased-port` of the userspace engine. */
function nameOf(enumerator: string, group: CountGroup): string {
  return enumerator
    .slice(group.length + 1)
    .toLowerCase()
    .replaceAll('_', '-');
}

/** The names that the program counts under, by group, in the order of their numbers. */
export function countNames(btf: Btf, group: CountGroup): readonly string[] {
  return [...btf.enumeration(`${group}_count`).keys()]
    .map((enumerator) => nameOf(enumerator, group))
    .filter((name) => name !== 'counts');
}

/** What the program counted, over all CPUs and both families; the map outlives the process, and so do the counts. */
export class Counts {
  readonly #map: BpfMap;
  readonly #names: Readonly<Record<CountGroup, readonly string[]>>;
  readonly #groupNumbers: Readonly<Record<CountGroup, number>>;
  readonly #perGroup: number;
  readonly #values: Uint8Array;
  readonly #view: DataView;

  constructor(map: BpfMap, btf: Btf) {
    const numbers = btf.enumeration('count_group');
    const number = (group: CountGroup) => numbers.get(`GROUP_${group.toUpperCase()}`)!;
    this.#map = map;
    this.#names = {
      downlink: countNames(btf, 'downlink'),
      uplink: countNames(btf, 'uplink'),
      control: countNames(btf, 'control'),
      passed: countNames(btf, 'passed'),
    };
    this.#groupNumbers = {
      downlink: number('downlink'),
      uplink: number('uplink'),
      control: number('control'),
      passed: number('passed'),
    };
    this.#perGroup = map.info.maxEntries / (GROUPS.length * 2);
    this.#values = allocate(elementBytes(map.info) * possibleCpus());
    this.#view = new DataView(this.#values.buffer);
  }

  read(): EngineCounters {
    return { downlink: this.group('downlink'), uplink: this.group('uplink'), control: this.group('control') };
  }

  /** One group's counts by name, those of zero left out. `passed`: what was left to the userspace engine, and why. */
  group(group: CountGroup): Record<string, number> {
    const counts: Record<string, number> = {};
    for (const [reason, name] of this.#names[group].entries()) {
      const packets = this.#sum(group, reason);
      if (packets > 0) counts[name] = packets;
    }
    return counts;
  }

  #sum(group: CountGroup, reason: number): number {
    let sum = 0;
    for (const family of [0, 1]) {
      const at = (this.#groupNumbers[group] * 2 + family) * this.#perGroup + reason;
      if (!this.#map.lookupAt(at, this.#values)) continue;
      for (let cpu = 0; cpu < this.#values.length; cpu += 8)
        sum += Number(this.#view.getBigUint64(cpu, true));
    }
    return sum;
  }
}
