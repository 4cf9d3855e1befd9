import { describe, expect, test } from 'vitest';
import { charonSettings } from '../../../clients/laptop/charon-settings.ts';
import type { Lease } from '../../../src/protocol/lease.ts';

const LEASE = {
  id: 'shared-1.x',
  address: '198.51.100.21',
  ports: { first: 1024, count: 1024 },
  spis: { first: 0x1000, count: 256 },
  ikeSpis: { first: 0xa1a1_0000, count: 65_536 },
} as Lease;

describe("strongSwan's settings for a lease", () => {
  test('R51: pin SPIs to the block, both ends included, and IKE SPIs to their leading octets', () => {
    expect(charonSettings(LEASE)).toBe(`# Lease shared-1.x of 198.51.100.21; written anew with every lease.
charon {
  spi_min = 0x1000
  spi_max = 0x10ff
  spi_label = 0xa1a1000000000000
  spi_mask = 0xffff000000000000
}
`);
  });

  test('of a lease without SPIs pin nothing', () => {
    expect(charonSettings({ ...LEASE, spis: null, ikeSpis: null })).not.toContain('charon {');
  });
});
