import { attachXdp, linkInfo, type XdpLink, type XdpMode } from '../../linux/bpf-link.ts';
import type { BpfMap } from '../../linux/bpf-map.ts';
import { type BpfObject, loadBpfObject } from '../../linux/bpf-object.ts';
import { programMapIds } from '../../linux/bpf-program-maps.ts';
import type { Btf } from '../../linux/btf.ts';
import { findLink, type Link } from '../../linux/links.ts';
import { MooringError } from '../../protocol/errors.ts';
import type { TunnelMarking } from '../../tunnel/dscp-ecn.ts';
import { REKEY_AFTER_PACKETS } from '../../tunnel/wire.ts';
import type { AskGrace } from './grace.ts';
import { type ProgramRate, XdpMirror } from './mirror.ts';
import { readXdpObject } from './object-file.ts';
import { PINNED_MAPS, Pins, removePins } from './pins.ts';
import { ProgramConfig } from './program-config.ts';
import { layoutVersion, MAPPED_STRUCTS, upgradeMaps } from './upgrade.ts';

/** How a relay wants its packets forwarded in XDP. */
export interface XdpSettings {
  readonly relay: string;
  /** The public interface first, then further ones that devices come by. */
  readonly interfaces: readonly string[];
  /** A bpffs: programs and maps are pinned there. */
  readonly bpffs: string;
  /** Sessions that the program has room for; further ones are the userspace engine's alone. */
  readonly sessions: number;
  /** Also where frames may get lost for want of a receiver that XDP can send to. */
  readonly anyDevice: boolean;
  /** Octets of the compiled program (default: what the build shipped). */
  readonly object?: Uint8Array;
}

export interface XdpInterface {
  readonly name: string;
  readonly mode: XdpMode;
  /** Why it is not in native mode. */
  readonly reason?: string;
}

export interface OpenXdp {
  readonly mirror: XdpMirror;
  readonly config: ProgramConfig;
  readonly interfaces: readonly XdpInterface[];
  /** What an operator should know: no pins, what was taken over. */
  readonly notes: readonly string[];
  /** Closes descriptors; what is pinned goes on forwarding until its deadlines. */
  close(): void;
}

export interface OpenXdpOptions {
  readonly settings: XdpSettings;
  readonly tunnelPort: number;
  readonly innerMtu: number;
  readonly rekeyAfter: number;
  readonly marking: TunnelMarking;
  readonly rates: { readonly uplink: ProgramRate | null; readonly downlink: ProgramRate | null };
  readonly askGrace: AskGrace;
  readonly waitGrace: () => void;
}

const ANCHORS = 1024;
/** A key in force and the one before it for every session, and those that wait for a grace period. */
const WINDOWS_PER_SESSION = 2.25;
/** Two endpoints, and of two leases an address, ports and SPIs each. */
const ENTRIES_PER_SESSION = 8;
const HOST_ENTRIES = 4096;

/**
 * Loads the program, goes on with what a former process of the relay left pinned, and attaches it. Throws what prevented
 * it: ERR_MOORING_XDP_UNAVAILABLE, ERR_MOORING_XDP_ATTACH or ERR_MOORING_SYSCALL; interfaces are then as they were.
 */
export function openXdp(options: OpenXdpOptions): OpenXdp {
  const { settings } = options;
  const links = settings.interfaces.map((name) => ethernetLink(name, settings.anyDevice));
  const notes: string[] = [];
  const octets = settings.object ?? readXdpObject();
  const pins = openPins(settings, notes);
  const loaded = load(octets, settings, pins, notes);
  const { object, former } = loaded;
  try {
    const mirror = new XdpMirror({
      maps: object.maps,
      btf: object.btf,
      askGrace: options.askGrace,
      waitGrace: options.waitGrace,
      rates: options.rates,
    });
    const config = new ProgramConfig(object.maps.config!, object.btf);
    config.write({
      tunnelPort: options.tunnelPort,
      innerMtu: options.innerMtu,
      rekeyAfter: Math.min(options.rekeyAfter, REKEY_AFTER_PACKETS),
      marking: options.marking,
      interfaces: links,
    });
    const program = object.program('relay');
    const interfaces = attachAll(links, program, pins, notes);
    former?.finish(options.waitGrace);
    return {
      mirror,
      config,
      interfaces: interfaces.map(({ name, mode, reason }) => ({
        name,
        mode,
        ...(reason === undefined ? {} : { reason }),
      })),
      notes,
      close() {
        for (const { link } of interfaces) link.close();
        object.close();
      },
    };
  } catch (error) {
    object.close();
    throw error;
  }
}

function ethernetLink(name: string, anyDevice: boolean): Link {
  const link = findLink(name);
  if (link === undefined) throw unusable(name, 'there is no such interface; name one that is there');
  if (link.mac.length !== 6) throw unusable(name, 'it is no Ethernet interface; use the userspace engine');
  if (link.kind === 'veth' && !anyDevice) {
    throw unusable(
      name,
      'it is a veth device: frames reach its other end only where that has GRO on or an XDP program; see to it and ask for the engine `xdp`',
    );
  }
  return link;
}

function unusable(name: string, why: string): MooringError {
  return new MooringError('ERR_MOORING_XDP_UNAVAILABLE', `XDP on interface ${name}: ${why}`, {
    data: { interface: name },
  });
}

function openPins({ bpffs, relay }: XdpSettings, notes: string[]): Pins | null {
  try {
    return new Pins(bpffs, relay);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    notes.push(`nothing is pinned, so forwarding ends with the process: ${why}`);
    return null;
  }
}

interface Loaded {
  readonly object: BpfObject;
  /** The maps of another layout that are being left. */
  readonly former: { finish(waitGrace: () => void): void } | null;
}

function load(octets: Uint8Array, settings: XdpSettings, pins: Pins | null, notes: string[]): Loaded {
  const { sessions } = settings;
  const entries = {
    index: sessions * ENTRIES_PER_SESSION + HOST_ENTRIES,
    anchors: ANCHORS,
    sessions,
    ways: sessions,
    windows: Math.ceil(sessions * WINDOWS_PER_SESSION),
    meters: sessions,
  };
  if (pins === null) return { object: loadBpfObject(octets, { entries }), former: null };
  for (const layout of livingLayouts(pins, notes)) {
    const reuse = pins.maps(layout);
    if (reuse === null) {
      pins.dropMaps(layout);
      continue;
    }
    const taken = takeOver(octets, layout, reuse, entries, pins, notes);
    if (taken !== null) return taken;
  }
  const object = loadBpfObject(octets, { entries });
  pins.pinMaps(layoutVersion(object.btf), object.maps);
  return { object, former: null };
}

/** Goes on with pinned maps: with the very same ones if the program's are alike, else with what they hold. */
function takeOver(
  octets: Uint8Array,
  layout: number,
  pinned: Record<string, BpfMap>,
  entries: Readonly<Record<string, number>>,
  pins: Pins,
  notes: string[],
): Loaded | null {
  const sizes = Object.fromEntries(Object.keys(entries).map((name) => [name, pinned[name]!.info.maxEntries]));
  try {
    const object = loadBpfObject(octets, { entries: sizes, reuse: pinned });
    if (layoutVersion(object.btf) === layout && hasLayoutOf(object.btf, pinned)) {
      notes.push(`goes on with the maps of layout ${layout} that a former process left`);
      closeAll(pinned);
      return { object, former: null };
    }
    object.close();
  } catch {
    // The maps have other sizes than the program's: another layout.
  }
  const object = loadBpfObject(octets, { entries });
  const version = layoutVersion(object.btf);
  const upgrade = upgradeMaps(pinned, object);
  if (version === layout) pins.dropMaps(layout);
  pins.pinMaps(version, object.maps);
  notes.push(`took over what layout ${layout} held into layout ${version}`);
  return {
    object,
    former: {
      finish(waitGrace) {
        waitGrace();
        upgrade.finish();
        closeAll(pinned);
        if (version !== layout) pins.dropMaps(layout);
      },
    },
  };
}

/** True when the maps hold what the types say, and not what another build's types of the same version said. */
function hasLayoutOf(btf: Btf, maps: Readonly<Record<string, BpfMap>>): boolean {
  const structs = { ...MAPPED_STRUCTS, config: 'config', windows: 'window' };
  return Object.entries(structs).every(
    ([name, struct]) => btf.struct(struct).size === maps[name]!.info.valueBytes,
  );
}

/**
 * The layout that packets go by. A process that ended in the middle of an upgrade left two; the other one's numbers are
 * behind, and must not be used.
 */
function livingLayouts(pins: Pins, notes: string[]): readonly number[] {
  const layouts = pins.layouts();
  if (layouts.length < 2) return layouts;
  const used = new Set<number>();
  for (const pinned of pins.links()) {
    const link = pins.openLink(pinned);
    if (link === null) continue;
    for (const id of programMapIds(linkInfo(link.fd).programId)) used.add(id);
    link.close();
  }
  return layouts.filter((layout) => {
    const maps = pins.maps(layout);
    const isUsed = maps !== null && used.has(maps.ways!.info.id);
    if (maps !== null) closeAll(maps);
    if (isUsed) return true;
    pins.dropMaps(layout);
    notes.push(`removed the maps of layout ${layout}, which nothing uses`);
    return false;
  });
}

function closeAll(maps: Readonly<Record<string, BpfMap>>): void {
  for (const name of PINNED_MAPS) maps[name]?.close();
}

interface Attached extends XdpInterface {
  readonly link: XdpLink;
}

/** Attaches the program to every interface, or to none that it was not on before. */
function attachAll(
  links: readonly Link[],
  program: number,
  pins: Pins | null,
  notes: string[],
): readonly Attached[] {
  const attached: Attached[] = [];
  const fresh: Attached[] = [];
  const pinned = pins?.links() ?? [];
  try {
    for (const wanted of links) {
      const { name, ifindex } = wanted;
      const known = pinned.find((one) => one.interface === name);
      const link = known === undefined ? null : pins!.openLink(known);
      if (known !== undefined && link !== null && linkInfo(link.fd).ifindex === ifindex) {
        link.update(program);
        attached.push({ name, mode: known.mode, link });
        continue;
      }
      link?.close();
      if (known !== undefined) pins!.dropLink(known);
      const one = attachOne(name, ifindex, program);
      attached.push(one);
      fresh.push(one);
      pins?.pinLink(one.link, one.mode, name);
    }
  } catch (error) {
    for (const { link, mode, name } of fresh) {
      link.detach();
      link.close();
      if (pins?.links().some((one) => one.interface === name)) {
        pins.dropLink({ name: `link-${mode}-${name}`, interface: name, mode });
      }
    }
    throw error;
  }
  for (const other of pinned) {
    if (links.some(({ name }) => name === other.interface)) continue;
    const link = pins!.openLink(other);
    link?.detach();
    link?.close();
    pins!.dropLink(other);
    notes.push(`took the program off ${other.interface}, which is not configured any more`);
  }
  return attached;
}

function attachOne(name: string, ifindex: number, program: number): Attached {
  try {
    return { name, mode: 'native', link: attachXdp(program, ifindex, 'native') };
  } catch (error) {
    if (!(error instanceof MooringError)) throw error;
    const link = attachXdp(program, ifindex, 'generic');
    return { name, mode: 'generic', reason: error.message, link };
  }
}

/** Takes the relay's programs off and forgets what they knew: the userspace engine is to be alone. */
export function removeXdp({ bpffs, relay }: XdpSettings): void {
  removePins(bpffs, relay);
}
