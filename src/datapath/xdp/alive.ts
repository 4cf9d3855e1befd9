import { join } from 'node:path';
import { openPinnedMap } from '../../linux/bpf-map.ts';
import { readBtf } from '../../linux/btf.ts';
import { layoutsIn } from './deadline.ts';
import { Elements } from './elements.ts';

/**
 * Says for the process whose maps are pinned under `folder` (see `relayPins`) that its sockets are open until then,
 * nanoseconds of the boottime clock: what the program leaves to them waits there, and is not refused by the kernel.
 */
export function writeAlive(folder: string, untilNs: bigint): void {
  for (const layout of layoutsIn(folder)) {
    const map = openPinnedMap(join(folder, layout, 'config'));
    if (map === null) continue;
    try {
      const config = new Elements(map, readBtf(map.info.btfId).struct('config'));
      config.storeU64(config.offset('alive_until_ns'), untilNs);
    } finally {
      map.close();
    }
  }
}
