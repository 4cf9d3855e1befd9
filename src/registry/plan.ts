import { contains, formatAddress, parseAddress, parsePrefix } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import { overlap, prefixText } from './prefix-sets.ts';
import type { AnchorDeclaration } from './registry.ts';

/** Leases an anchor holds at most: keeps a snapshot, which stops everything else in Redis, to milliseconds. */
export const MAX_LEASES = 4096;
/** Ports below are never leased. */
const FIRST_PORT = 1024;
/** SPIs below are reserved (RFC 4303 §2.1). */
const FIRST_SPI = 256;
/** Addresses of a larger prefix differ in so many bits: Lua counts exactly up to 2^53. */
export const MAX_WIDTH = 48;
const DEFAULT_BLOCK = 64;
const DEFAULT_COOLING_MS = 120_000;
/** How long SPIs should rest, where nothing is said. */
export const SPI_COOLING_MS = 3_600_000;
/** As long as a device may ask for. */
const DEFAULT_LONGEST_LEASE_MS = 366 * 86_400_000;

/** A declaration checked and made canonical. */
export type CheckedDeclaration = Required<AnchorDeclaration>;

/** A prefix of a plan. */
export interface PlanPrefix {
  /** Octets in hexadecimal. */
  readonly hex: string;
  readonly bits: number;
  /** Bits of the host part that vary. */
  readonly width: number;
  /** Addresses used: all, or as many as the anchor can need. */
  readonly addresses: number;
  /** What of it is not leased any more; absent: nothing. */
  readonly closed?: readonly Closed[];
}

/** Addresses, counted from the first of their prefix, of which nothing is granted. */
export interface Closed {
  readonly from: number;
  readonly count: number;
  /** When the last lease on them ends, by the registry's clock. */
  readonly untilMs: number;
  /** Nobody has them any more. */
  readonly gone?: true;
}

/** Slots `first` to `first + slots - 1`, dealt over the addresses of some prefixes in turn. */
export interface Segment {
  readonly first: number;
  readonly slots: number;
  readonly addresses: number;
  /** Distinguishes its permutations from those of other segments. */
  readonly tweak: number;
  readonly prefixes: readonly PlanPrefix[];
}

/** What every slot of an anchor has in common. A change of it numbers the slots anew. */
export interface Shape {
  readonly pool: string;
  readonly sharing: 'whole' | 'shared';
  readonly portBlock: number;
  readonly firstPortBlock: number;
  readonly spiBlock: number;
  readonly spiWidth: number;
  readonly reservedSpiBlocks: number;
}

/** What decides the resources of a slot; read by commands/include/resources.lua. */
export interface Plan extends Shape {
  /** Of the permutations. */
  readonly key: readonly number[];
  /** Slots numbered so far. */
  readonly slots: number;
  /** Slots that may be leased now. */
  readonly capacity: number;
  readonly segments: readonly Segment[];
}

/** Checks an anchor's declaration. Throws ERR_MOORING_BAD_INPUT naming field, value and remedy. */
export function checkDeclaration(declaration: AnchorDeclaration): CheckedDeclaration {
  const { id, pool, sharing, home } = declaration;
  for (const [field, value] of Object.entries({ id, pool, home })) {
    if (!/^[a-z0-9-]{1,32}$/.test(value)) {
      throw badInput(`anchor.${field}`, value, 'use 1 to 32 of a-z, 0-9 and "-"');
    }
  }
  const prefixes = declaration.prefixes.map((text, at) => parsePrefix(text, `anchor.prefixes[${at}]`));
  if (prefixes.length === 0 && declaration.retiring !== true)
    throw badInput('anchor.prefixes', '', 'name at least one prefix');
  prefixes.forEach((prefix, at) => {
    const clash = prefixes.findIndex((other, o) => o < at && overlap(prefix, other));
    if (clash >= 0) {
      throw badInput(
        `anchor.prefixes[${at}]`,
        declaration.prefixes[at],
        `it overlaps prefixes[${clash}]: drop one`,
      );
    }
  });
  const endpoints = declaration.endpoints.map((text, at) => {
    const bytes = parseAddress(text, `anchor.endpoints[${at}]`);
    if (prefixes.some((prefix) => contains(prefix, bytes))) {
      throw badInput(
        `anchor.endpoints[${at}]`,
        text,
        'a tunnel endpoint is never leased: take it out of the prefixes',
      );
    }
    return bytes;
  });
  if (
    endpoints.length < 1 ||
    endpoints.length > 2 ||
    new Set(endpoints.map((e) => e.length)).size !== endpoints.length
  ) {
    throw badInput(
      'anchor.endpoints',
      declaration.endpoints.join(','),
      'name one address of each family at most',
    );
  }
  const portBlock = powerOfTwo('anchor.portBlock', declaration.portBlock ?? DEFAULT_BLOCK, 32_768);
  const coolingMs = declaration.coolingMs ?? DEFAULT_COOLING_MS;
  const longestLeaseMs = declaration.longestLeaseMs ?? DEFAULT_LONGEST_LEASE_MS;
  return {
    id,
    pool,
    sharing,
    prefixes: prefixes.map(prefixText),
    endpoints: endpoints.map(formatAddress),
    portBlock,
    maxPortBlock: maxPortBlockOf(declaration, portBlock),
    spiBlock: powerOfTwo('anchor.spiBlock', declaration.spiBlock ?? DEFAULT_BLOCK, 65_536),
    coolingMs,
    spiCoolingMs: declaration.spiCoolingMs ?? Math.max(SPI_COOLING_MS, coolingMs),
    longestLeaseMs,
    shortestLeaseMs: declaration.shortestLeaseMs ?? longestLeaseMs,
    maxLeasesPerTenant: declaration.maxLeasesPerTenant ?? null,
    retiring: declaration.retiring ?? false,
    home,
  };
}

function maxPortBlockOf({ maxPortBlock }: AnchorDeclaration, portBlock: number): number {
  if (maxPortBlock === undefined) return portBlock;
  const checked = powerOfTwo('anchor.maxPortBlock', maxPortBlock, 32_768);
  if (checked >= portBlock) return checked;
  throw badInput('anchor.maxPortBlock', maxPortBlock, `use at least portBlock (${portBlock})`);
}

/** The shape of a declaration's slots. */
export function shapeOf(declaration: CheckedDeclaration): Shape {
  const { pool, sharing, portBlock, spiBlock } = declaration;
  return {
    ...{ pool, sharing, portBlock, spiBlock },
    firstPortBlock: Math.ceil(FIRST_PORT / portBlock),
    spiWidth: 32 - Math.log2(spiBlock),
    reservedSpiBlocks: Math.ceil(FIRST_SPI / spiBlock),
  };
}

/** Leases that an address makes. */
export function slotsAnAddress({ sharing, portBlock, firstPortBlock }: Shape): number {
  return sharing === 'whole' ? 1 : 65_536 / portBlock - firstPortBlock;
}

function powerOfTwo(field: string, value: number, most: number): number {
  if (!Number.isInteger(value) || value < 1 || value > most || (value & (value - 1)) !== 0) {
    throw badInput(field, value, `use a power of two from 1 to ${most}`);
  }
  return value;
}
