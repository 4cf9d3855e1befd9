import { expect, test } from 'vitest';
import { anchorKeys, deviceKeys } from '../../../src/registry/keys.ts';

const SLOTS = 16_384;

/** CRC-16/XMODEM of the hash tag: the slot of a key by the specification of Redis Cluster. */
function slotOf(key: string): number {
  const tag = /\{([^}]+)\}/.exec(key)?.[1] ?? key;
  let crc = 0;
  for (const octet of new TextEncoder().encode(tag)) {
    crc ^= octet << 8;
    for (let bit = 0; bit < 8; bit += 1) crc = crc & 0x8000 ? ((crc << 1) ^ 0x1021) & 0xffff : crc << 1;
  }
  return crc % SLOTS;
}

/** The fullest server's share in an even one's, with equal ranges of slots. */
function fullest(keys: readonly string[], servers: number): number {
  const counts = new Array<number>(servers).fill(0);
  for (const key of keys) {
    const at = Math.floor((slotOf(key) * servers) / SLOTS);
    counts[at] = (counts[at] ?? 0) + 1;
  }
  return Math.max(...counts) / (keys.length / servers);
}

const NAMES: Record<string, (at: number) => string> = {
  'counted names': (at) => `a${at}`,
  'names by relay': (at) => `r${at % 8}-${String(at).padStart(4, '0')}`,
  'names by address': (at) => `v4-192-0-${at >> 8}-${at & 255}`,
  'names by pool': (at) => `residential-north-${at}`,
};

test('the known slots of the specification come out', () => {
  expect(slotOf('123456789')).toBe(12_739);
  expect(slotOf('mooring1:{123456789}:meta')).toBe(12_739);
});

test.each(Object.entries(NAMES))('1,000 anchors of %s spread evenly over a cluster', (_what, name) => {
  const keys = Array.from({ length: 1000 }, (_, at) => anchorKeys(name(at))[0] as string);
  expect(fullest(keys, 3)).toBeLessThan(1.05);
  expect(fullest(keys, 6)).toBeLessThan(1.1);
});

test('devices spread evenly over a cluster', () => {
  const keys = Array.from(
    { length: 100_000 },
    (_, at) => deviceKeys({ tenant: 'acme', id: `dev-${at}` })[0] as string,
  );
  expect(fullest(keys, 6)).toBeLessThan(1.02);
});

test('all keys of an anchor, and all of a device, are in one slot, whatever its name', () => {
  for (const id of ['a1', 'x}y', '{}', 'ü']) {
    expect(new Set(deviceKeys({ tenant: 'acme', id }).map(slotOf)).size).toBe(1);
  }
  expect(new Set(anchorKeys('a1').map(slotOf)).size).toBe(1);
});
