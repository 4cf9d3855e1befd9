import { contains, formatAddress, type Prefix, parseAddress, parsePrefix } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import type { AnchorDeclaration } from './registry.ts';

/** Leases an anchor holds at most: keeps a snapshot, which stops everything else in Redis, to milliseconds. */
export const MAX_LEASES = 4096;
/** Ports below are never leased. */
const FIRST_PORT = 1024;
/** SPIs below are reserved (RFC 4303 §2.1). */
const FIRST_SPI = 256;
/** Addresses of a larger prefix differ in so many bits: Lua counts exactly up to 2^53. */
const MAX_WIDTH = 48;
const DEFAULT_BLOCK = 64;
const DEFAULT_COOLING_MS = 120_000;

/** A declaration checked and made canonical. */
export type CheckedDeclaration = Required<AnchorDeclaration>;

/** What decides the resources of a slot; read by commands/include/resources.lua, which adds the key. */
export interface Plan {
  readonly pool: string;
  readonly sharing: 'whole' | 'shared';
  readonly prefixes: readonly {
    /** Octets in hexadecimal. */
    readonly hex: string;
    /** Bits of the host part that vary. */
    readonly width: number;
    /** Addresses used: all, or as many as the anchor can need. */
    readonly addresses: number;
  }[];
  readonly addresses: number;
  readonly portBlock: number;
  readonly firstPortBlock: number;
  readonly spiBlock: number;
  readonly spiWidth: number;
  readonly reservedSpiBlocks: number;
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
  if (prefixes.length === 0) throw badInput('anchor.prefixes', '', 'name at least one prefix');
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
  return {
    id,
    pool,
    sharing,
    prefixes: prefixes.map((prefix) => `${formatAddress(prefix.bytes)}/${prefix.bits}`),
    endpoints: endpoints.map(formatAddress),
    portBlock: powerOfTwo('anchor.portBlock', declaration.portBlock ?? DEFAULT_BLOCK, 32_768),
    spiBlock: powerOfTwo('anchor.spiBlock', declaration.spiBlock ?? DEFAULT_BLOCK, 65_536),
    coolingMs: declaration.coolingMs ?? DEFAULT_COOLING_MS,
    home,
  };
}

/** The plan of a checked declaration, and how many leases it makes. */
export function planOf(declaration: CheckedDeclaration): { plan: Plan; capacity: number } {
  let needed = MAX_LEASES;
  const prefixes = declaration.prefixes.map((text) => {
    const { bytes, bits } = parsePrefix(text);
    const width = Math.min(bytes.length * 8 - bits, MAX_WIDTH);
    const addresses = Math.min(2 ** width, needed);
    needed -= addresses;
    return { hex: Buffer.from(bytes).toString('hex'), width, addresses };
  });
  const addresses = MAX_LEASES - needed;
  const firstPortBlock = Math.ceil(FIRST_PORT / declaration.portBlock);
  const blocks = declaration.sharing === 'whole' ? 1 : 65_536 / declaration.portBlock - firstPortBlock;
  return {
    plan: {
      pool: declaration.pool,
      sharing: declaration.sharing,
      prefixes: prefixes.filter((prefix) => prefix.addresses > 0),
      addresses,
      portBlock: declaration.portBlock,
      firstPortBlock,
      spiBlock: declaration.spiBlock,
      spiWidth: 32 - Math.log2(declaration.spiBlock),
      reservedSpiBlocks: Math.ceil(FIRST_SPI / declaration.spiBlock),
    },
    capacity: Math.min(MAX_LEASES, addresses * blocks),
  };
}

function overlap(a: Prefix, b: Prefix): boolean {
  return contains(a, b.bytes) || contains(b, a.bytes);
}

function powerOfTwo(field: string, value: number, most: number): number {
  if (!Number.isInteger(value) || value < 1 || value > most || (value & (value - 1)) !== 0) {
    throw badInput(field, value, `use a power of two from 1 to ${most}`);
  }
  return value;
}
