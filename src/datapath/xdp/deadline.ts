import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { openPinnedMap } from '../../linux/bpf-map.ts';
import { readBtf } from '../../linux/btf.ts';
import { anchorId, anchorLayout } from './anchors.ts';
import { Elements } from './elements.ts';

/**
 * Moves an anchor's deadline in the maps that a relay has pinned under `folder` (see `relayPins`), whatever their layout,
 * from any process: nanoseconds of the boottime clock. False when the anchor is not there.
 */
export function writeDeadline(folder: string, anchor: string, untilNs: bigint): boolean {
  let written = false;
  for (const layout of layoutsIn(folder)) {
    const map = openPinnedMap(join(folder, layout, 'anchors'));
    if (map === null) continue;
    try {
      const btf = readBtf(map.info.btfId);
      const anchors = new Elements(map, btf.struct('anchor'));
      const names = anchorLayout(btf);
      for (let slot = 0; slot < anchors.capacity; slot += 1) {
        if (anchorId(anchors, names, slot) !== anchor) continue;
        anchors.storeU64(anchors.base(slot) + names.deadlineNs, untilNs);
        written = true;
      }
    } finally {
      map.close();
    }
  }
  return written;
}

/** Names of the folders of pinned maps, one a layout. */
export function layoutsIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => /^\d+$/.test(name));
  } catch {
    return [];
  }
}
