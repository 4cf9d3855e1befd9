import { decideDownlink } from '../../../src/datapath/decision/downlink.ts';
import { packetHeaders, readPacket } from '../../../src/datapath/decision/packet.ts';
import { LeaseTables } from '../../../src/datapath/decision/tables.ts';
import { decideUplink } from '../../../src/datapath/decision/uplink.ts';
import { lease } from './packets.ts';

export const SHARED = '203.0.113.7';
export const SHARED6 = '2001:db8::7';
export const OTHER_SHARED = '203.0.113.17';
export const WHOLE = '203.0.113.8';
export const WHOLE6 = '2001:db8::8';
export const PEER = '198.51.100.9';
export const PEER6 = '2001:db8:ffff::9';
export const END = 1e9;

export type Name = 'ann' | 'bob' | 'cyd' | 'eve';

/** Ann and Bob share addresses with IPsec, Cyd without; Bob and Cyd have one whole address each; Eve has nothing. */
export function decisionWorld() {
  const tables = new LeaseTables<Name>();
  const share = (name: Name, address: string, port: number, spi: number | null) =>
    tables.put(
      lease({
        kind: spi === null ? 'rsap-ip' : 'rsipsec',
        address,
        ports: { first: port, count: 64 },
        spis: spi === null ? null : { first: spi, count: 16 },
      }),
      name,
      END,
      0,
    );
  for (const address of [SHARED, SHARED6, OTHER_SHARED]) {
    share('ann', address, 1024, 0x1000_0000);
    share('bob', address, 1088, 0x2000_0000);
    share('cyd', address, 2048, null);
  }
  tables.put(lease({ kind: 'rsa-ip', address: WHOLE }), 'bob', END, 0);
  tables.put(lease({ kind: 'rsa-ip', address: WHOLE6 }), 'cyd', END, 0);
  const headers = packetHeaders();

  return {
    tables,
    /** Whose the packet from the public side is, or its verdict. */
    down(packet: Uint8Array, nowMs = 0): string {
      if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
      const verdict = decideDownlink(tables, packet, headers, nowMs);
      return typeof verdict === 'string' ? verdict : verdict.session;
    },
    /** `forwarded`, or why what the device sent is dropped. */
    up(session: Name, packet: Uint8Array, nowMs = 0): string {
      if (!readPacket(packet, 0, packet.length, headers)) return 'malformed';
      return decideUplink(tables, session, packet, headers, nowMs) ?? 'forwarded';
    },
  };
}
