import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { INNER_MTU } from '../../../src/tunnel/wire.ts';
import { withoutNamespaces } from './requirements.ts';

if (withoutNamespaces)
  process.stderr.write(`skipped: the kernel's forwarding around the engine: ${withoutNamespaces}\n`);

interface Observed {
  readonly hairpin: Record<string, { readonly sent: string; readonly got: readonly string[] }>;
  readonly probes: Record<'IPv4' | 'IPv6', { readonly mtu: number; readonly got: readonly string[] }>;
  readonly tooBig: string;
  readonly smaller: readonly string[];
  readonly traced: readonly string[];
  readonly counters: { readonly downlink: Record<string, number>; readonly uplink: Record<string, number> };
}

const octets = (hex: string) => Buffer.from(hex, 'hex');

describe.skipIf(withoutNamespaces)('the engine and the forwarding of a real kernel', () => {
  let seen: Observed;

  beforeAll(async () => {
    const script = fileURLToPath(new URL('./forwarding-in-namespace.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(
      'unshare',
      ['--net', '--kill-child', process.execPath, '--import', 'tsx', script],
      { timeout: 45_000, cwd: fileURLToPath(new URL('../../..', import.meta.url)) },
    );
    seen = JSON.parse(stdout.trim().split('\n').at(-1)!) as Observed;
  });

  it.each(['IPv4, two addresses', 'IPv4, one address', 'IPv6, two addresses', 'IPv6, one address'])(
    'R47: carry a packet from one device to another by leased address and port, one hop older (%s)',
    (name) => {
      const { sent, got } = seen.hairpin[name]!;
      const expected = octets(sent);
      const arrived = octets(got[0]!);
      expect(got).toHaveLength(1);
      if (name.startsWith('IPv4')) {
        expected[8]! -= 1;
        // The header checksum follows from the hop count.
        for (const at of [10, 11]) expected[at] = arrived[at]!;
      } else expected[7]! -= 1;
      expect(arrived.toString('hex')).toBe(expected.toString('hex'));
    },
  );

  it.each(['IPv4', 'IPv6'] as const)('R41: teach a peer the MTU of the tunnel (%s)', (family) => {
    expect(seen.probes[family].mtu).toBe(INNER_MTU);
  });

  it.each(['IPv4', 'IPv6'] as const)(
    'R39, R41: deliver what is larger and may be cut as fragments that fit (%s)',
    (family) => {
      const packets = seen.probes[family].got.map(octets);
      expect(packets.every(({ length }) => length <= INNER_MTU)).toBe(true);
      expect(packets.some(({ length }) => length === INNER_MTU)).toBe(true);
      const header = family === 'IPv4' ? 20 : 40;
      const pieces = packets.filter((one) =>
        family === 'IPv4' ? (one.readUInt16BE(6) & 0x3fff) !== 0 : one[6] === 44,
      );
      expect(pieces).toHaveLength(2);
      const carried = pieces.reduce(
        (sum, { length }) => sum + length - header - (family === 'IPv4' ? 0 : 8),
        0,
      );
      expect(carried).toBe(8 + 1400);
    },
  );

  it('R41, R42: bring a device the error about a smaller link behind the relay, with its MTU', () => {
    const error = octets(seen.smaller[0]!);
    expect([error[9], error[20], error[21], error.readUInt16BE(26)]).toEqual([1, 3, 4, 1000]);
    const quoted = error.subarray(28);
    const sent = octets(seen.tooBig);
    expect(quoted.subarray(12, 28)).toEqual(sent.subarray(12, 28));
  });

  it('R42: show a device its way: time exceeded comes back to who sent the probe', () => {
    const error = octets(seen.traced[0]!);
    expect([error[9], error[20], error[21]]).toEqual([1, 11, 0]);
  });

  it('R37: lose nothing and drop nothing on the way', () => {
    expect(Object.keys(seen.counters.uplink)).toEqual(['forwarded']);
    const { downlink } = seen.counters;
    // What the kernel says by itself on a new link concerns nobody.
    const { 'unleased-address': _, ...rest } = downlink;
    expect(Object.keys(rest).sort()).toEqual(['forwarded', 'fragment-waits']);
  });
});
