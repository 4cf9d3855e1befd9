import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { ip, udp } from '../../unit/datapath/packets.ts';
import { withoutNamespaces } from './requirements.ts';

if (withoutNamespaces)
  process.stderr.write(`skipped: the packet thread between real sockets: ${withoutNamespaces}\n`);

interface Journey {
  readonly kinds: string[];
  readonly sources: string[];
  readonly uplink: { readonly from: string; readonly text: string };
  readonly downlink: string | null;
  readonly refused: unknown[];
}

interface Observed {
  readonly refused: string;
  readonly v4: Journey;
  readonly v6: Journey;
  readonly counters: { readonly downlink: Record<string, number>; readonly uplink: Record<string, number> };
  readonly host: string[];
  readonly toHost: unknown[];
  readonly refusedToHost: Record<string, number>;
  readonly second: string;
  readonly exits: unknown[];
  readonly afterClose: string;
  readonly kept: boolean;
}

describe.skipIf(withoutNamespaces)('the packet thread between real sockets and a real TUN device', () => {
  let seen: Observed;

  beforeAll(async () => {
    const script = fileURLToPath(new URL('./engine-in-namespace.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(
      'unshare',
      ['--net', '--kill-child', process.execPath, '--import', 'tsx', script],
      { timeout: 45_000, cwd: fileURLToPath(new URL('../../..', import.meta.url)) },
    );
    seen = JSON.parse(stdout.trim().split('\n').at(-1)!) as Observed;
  });

  it('tells a new device its incarnation, challenges it, and accepts its path', () => {
    expect(seen.v4.kinds).toEqual(['sync', 'challenge', 'sync']);
    expect(seen.v4.refused).toEqual([]);
  });

  it('answers from the endpoint that was spoken to', () => {
    expect(seen.v4.sources).toEqual(['203.0.113.1|4556']);
    expect(seen.v6.sources).toEqual(['2001:db8:7::1|4556']);
  });

  it('carries uplink packets to the peer from the leased address and port', () => {
    expect(seen.v4.uplink).toEqual({ from: '203.0.113.7|1030', text: 'question over IPv4' });
    expect(seen.v6.uplink).toEqual({ from: '2001:db8:7::7|1030', text: 'question over IPv6' });
  });

  it('R37: carries downlink packets to the device as the public side sent them', () => {
    const inner = Buffer.from(seen.v4.downlink!, 'hex');
    const expected = Buffer.from(ip('198.51.100.9', '203.0.113.7', 17, udp(53, 1030, Buffer.from('answer'))));
    // Identification, header checksum and UDP checksum are the sending kernel's.
    for (const at of [4, 5, 6, 7, 10, 11, 26, 27]) expected[at] = inner[at]!;
    expect(inner.toString('hex')).toBe(expected.toString('hex'));
    expect(Buffer.from(seen.v6.downlink!, 'hex').subarray(48).toString()).toBe('answer');
  });

  it('counts what it forwarded, and nothing was lost on the way', () => {
    expect(seen.counters.uplink).toEqual({ forwarded: 2 });
    expect(seen.counters.downlink.forwarded).toBe(2);
    expect(Object.keys(seen.counters.downlink).filter((name) => name.startsWith('lost'))).toEqual([]);
  });

  it('R47: carries nothing to an address of its own host, broadcast addresses among them, and says so', () => {
    expect(seen.host).toEqual(
      expect.arrayContaining(['203.0.113.1', '198.51.100.9', '2001:db8:9::9', '192.0.2.129', '192.0.2.255']),
    );
    expect(seen.toHost).toEqual([
      { kind: 'notice', code: 314 },
      { kind: 'notice', code: 314 },
    ]);
    // The two packets that went before were carried to the very same address.
    expect(seen.refusedToHost).toEqual({ forwarded: 2, 'relay-host': 2 });
  });

  it('passes refusals on with their codes, and says which port is taken', () => {
    expect(seen.refused).toBe('ERR_MOORING_UNKNOWN_ANCHOR');
    expect(seen.second).toMatch(/4556.*EADDRINUSE/);
  });

  it('ends when asked, once, and leaves TUN device and routes for the next process', () => {
    expect(seen.exits).toEqual([null]);
    expect(seen.afterClose).toBe('ERR_MOORING_ENGINE_ENDED');
    expect(seen.kept).toBe(true);
  });
});
