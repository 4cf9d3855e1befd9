import { describe, expect, it } from 'vitest';
import type { Rekey } from '../../../infra/demo/ike.ts';
import { peerRecord } from '../../../infra/demo/report.ts';
import type { Frame } from '../../../infra/lab/pcap.ts';

const PEER = '198.51.100.50';
const REKEYS: Rekey[] = (['child', 'ike'] as const).map((of) => ({
  ...{ device: 'alice', of, by: 'device', tookMs: 300 },
}));

/** A UDP datagram in an Ethernet frame, from a device to the peer. */
function datagram(port: number): Frame {
  const octets = Buffer.alloc(14 + 20 + 8 + 28);
  octets.writeUInt16BE(0x0800, 12);
  const ip = octets.subarray(14);
  ip[0] = 0x45;
  ip.writeUInt16BE(ip.length, 2);
  ip[9] = 17;
  ip.set([198, 51, 100, 21, 198, 51, 100, 50], 12);
  ip.writeUInt16BE(port, 20);
  ip.writeUInt16BE(port, 22);
  return { timeMs: 0, wireOctets: octets.length, octets };
}

describe("the demo's account of IKE", () => {
  const changes = (messages: number, associationChanges: number) => {
    const frames = Array.from({ length: messages }, (_, i) => datagram(i % 2 === 0 ? 500 : 4500));
    return peerRecord([...frames, datagram(5000)], [PEER], REKEYS, associationChanges).ikeOrSaChanges;
  };

  it('sets aside the messages and changes of the rekeys that were asked for, and no other', () => {
    expect(changes(8, 8)).toBe(0);
    expect(changes(9, 8)).toBe(1);
    expect(changes(8, 10)).toBe(2);
  });

  it('misses what a rekey should have brought', () => {
    expect(changes(4, 8)).toBe(4);
    expect(changes(8, 0)).toBe(8);
  });
});
