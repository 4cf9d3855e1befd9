/** The leases of the closed loop, by number from 0: in rows of 256 on an address, each with 8 ports and 256 SPIs. */
import type { Lease } from '../../../src/protocol/lease.ts';

const ROW = 256;
const BLOCK = { ports: 8, spis: 256 } as const;
const FIRST = { port: 16_384, spi: 65_536 } as const;
/** 198.19.0.0: half of the range for benchmarks (RFC 2544); the other half is the rig's own. */
export const FIRST_ADDRESS = 0xc613_0000;

export interface Place {
  /** Canonical text. */
  readonly address: string;
  /** The first of the lease, which its traffic uses. */
  readonly port: number;
  readonly spi: number;
}

export function placeOf(lease: number): Place {
  const address = FIRST_ADDRESS + Math.floor(lease / ROW);
  const place = lease % ROW;
  return {
    address: [24, 16, 8, 0].map((shift) => (address >>> shift) & 255).join('.'),
    port: FIRST.port + place * BLOCK.ports,
    spi: FIRST.spi + place * BLOCK.spis,
  };
}

/** Session indexes begin at 1. */
export function indexOf(lease: number): number {
  return lease + 1;
}

export function sessionId(lease: number): string {
  return indexOf(lease).toString(16).padStart(32, '0');
}

export function leaseOf(lease: number, anchor: string): Lease {
  const { address, port, spi } = placeOf(lease);
  return {
    id: `${anchor}.${String(indexOf(lease)).padStart(22, '0')}`,
    anchor,
    pool: 'bench',
    device: { tenant: 'bench', id: `d${indexOf(lease)}` },
    bindId: indexOf(lease),
    kind: 'rsipsec',
    address,
    ports: { first: port, count: BLOCK.ports },
    spis: { first: spi, count: BLOCK.spis },
    session: sessionId(lease),
    state: 'active',
    remainingMs: 86_400_000,
    fence: '1-1',
  };
}

/** Where a device is reached: at the first of two ports of its own, and after a flip at the other. */
export function devicePort(lease: number): number {
  return 10_000 + (lease % 20_000) * 2;
}
