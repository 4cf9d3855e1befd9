import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { trafficClass } from '../../../src/tunnel/dscp-ecn.ts';
import { INNER_MTU } from '../../../src/tunnel/wire.ts';
import { withoutNamespaces } from './requirements.ts';

if (withoutNamespaces)
  process.stderr.write(`skipped: the kernel's forwarding around the engine: ${withoutNamespaces}\n`);

type Probes = Record<'IPv4' | 'IPv6', { readonly mtu: number; readonly got: readonly string[] }>;

interface Observed {
  readonly hairpin: Record<string, { readonly sent: string; readonly got: readonly string[] }>;
  readonly probes: Probes;
  /** The same through a relay with an inner MTU of 1,400. */
  readonly larger: Probes;
  /** A packet of class EF, ECT(0), sent under an outer CE and rewritten to class 10. */
  readonly marks: Record<'IPv4' | 'IPv6', { readonly inner: string; readonly outer: number }>;
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

  const mtus = [
    ['IPv4', INNER_MTU],
    ['IPv6', INNER_MTU],
    ['IPv4', 1400],
    ['IPv6', 1400],
  ] as const;
  const probed = (family: 'IPv4' | 'IPv6', mtu: number) =>
    (mtu === INNER_MTU ? seen.probes : seen.larger)[family];

  it.each(mtus)('R41: teach a peer the MTU of the tunnel (%s, %i)', (family, mtu) => {
    expect(probed(family, mtu).mtu).toBe(mtu);
  });

  it.each(mtus)(
    'R39, R41: deliver what is larger and may be cut as fragments that fit (%s, %i)',
    (family, mtu) => {
      const packets = probed(family, mtu).got.map(octets);
      expect(packets.every(({ length }) => length <= mtu)).toBe(true);
      expect(packets.some(({ length }) => length === mtu)).toBe(true);
      const header = family === 'IPv4' ? 20 : 40;
      const pieces = packets.filter((one) =>
        family === 'IPv4' ? (one.readUInt16BE(6) & 0x3fff) !== 0 : one[6] === 44,
      );
      expect(pieces).toHaveLength(2);
      const carried = pieces.reduce(
        (sum, { length }) => sum + length - header - (family === 'IPv4' ? 0 : 8),
        0,
      );
      expect(carried).toBe(8 + 1440);
    },
  );

  it.each(['IPv4', 'IPv6'] as const)(
    'R45: show class and congestion outside and inside, as the rules of the four points say (%s)',
    (family) => {
      const { inner, outer } = seen.marks[family];
      // CE of the uplink reached the inner packet; both headers of the downlink are of class 10.
      expect(trafficClass(octets(inner), 0)).toBe((10 << 2) | 3);
      expect(outer).toBe((10 << 2) | 3);
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
