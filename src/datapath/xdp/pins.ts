import { mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { openPinnedLink, type XdpLink, type XdpMode } from '../../linux/bpf-link.ts';
import { type BpfMap, openPinnedMap } from '../../linux/bpf-map.ts';
import { ensureBpffs } from '../../linux/bpffs.ts';

/** The maps that outlive the process. */
export const PINNED_MAPS = [
  'config',
  'index',
  'anchors',
  'sessions',
  'ways',
  'windows',
  'meters',
  'counters',
  'reported',
  'events',
] as const;

export interface PinnedLink {
  readonly name: string;
  readonly interface: string;
  readonly mode: XdpMode;
}

/**
 * What one relay has pinned: `FOLDER/mooring/RELAY/LAYOUT/` holds the maps of one layout, links lie beside it. Names are
 * the relay's, so relays of one machine do not meet.
 */
export class Pins {
  readonly folder: string;

  /** Throws ERR_MOORING_SYSCALL when `bpffs` is none and cannot be made one. */
  constructor(bpffs: string, relay: string) {
    ensureBpffs(bpffs);
    this.folder = relayPins(bpffs, relay);
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
  }

  mapFolder(layout: number): string {
    const folder = join(this.folder, String(layout));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  /** Layout versions whose maps are pinned. */
  layouts(): number[] {
    return readdirSync(this.folder)
      .filter((name) => /^\d+$/.test(name))
      .map(Number);
  }

  /** All maps of a layout; null when one of them is missing. */
  maps(layout: number): Record<string, BpfMap> | null {
    const maps: Record<string, BpfMap> = {};
    for (const name of PINNED_MAPS) {
      const map = openPinnedMap(join(this.folder, String(layout), name));
      if (map === null) {
        for (const open of Object.values(maps)) open.close();
        return null;
      }
      maps[name] = map;
    }
    return maps;
  }

  pinMaps(layout: number, maps: Readonly<Record<string, BpfMap>>): void {
    const folder = this.mapFolder(layout);
    for (const name of PINNED_MAPS) maps[name]?.pin(join(folder, name));
  }

  dropMaps(layout: number): void {
    removeFolder(join(this.folder, String(layout)));
  }

  links(): PinnedLink[] {
    return readdirSync(this.folder).flatMap((name) => {
      const [, mode, device] = /^link-(native|generic)-(.+)$/.exec(name) ?? [];
      if (device === undefined) return [];
      return [{ name, mode: mode as XdpMode, interface: device }];
    });
  }

  openLink({ name }: PinnedLink): XdpLink | null {
    return openPinnedLink(join(this.folder, name));
  }

  pinLink(link: XdpLink, mode: XdpMode, device: string): void {
    link.pin(join(this.folder, `link-${mode}-${device}`));
  }

  dropLink({ name }: PinnedLink): void {
    unlinkSync(join(this.folder, name));
  }
}

export function relayPins(bpffs: string, relay: string): string {
  return join(bpffs, 'mooring', relay);
}

/** Takes a relay's programs off their interfaces and removes what it pinned; nothing happens when there is nothing. */
export function removePins(bpffs: string, relay: string): void {
  const folder = relayPins(bpffs, relay);
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch {
    return;
  }
  for (const name of names) {
    if (!name.startsWith('link-')) {
      removeFolder(join(folder, name));
      continue;
    }
    const link = openPinnedLink(join(folder, name));
    link?.detach();
    link?.close();
    unlinkSync(join(folder, name));
  }
  rmdirSync(folder);
}

function removeFolder(folder: string): void {
  for (const name of readdirSync(folder)) unlinkSync(join(folder, name));
  rmdirSync(folder);
}
