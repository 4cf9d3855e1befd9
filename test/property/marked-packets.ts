import { at } from '../unit/datapath/engine-rig.ts';
import { ip, lease, udp } from '../unit/datapath/packets.ts';

/** Numbered packets of one device with a port block, on one of three paths. */

export const SHARED = '203.0.113.7';
export const PEER = '198.51.100.9';
export const PATHS = [at('192.0.2.10', 1), at('192.0.2.20', 2), at('192.0.2.30', 3)] as const;
export const HELD = lease({ kind: 'rsap-ip', address: SHARED, ports: { first: 1024, count: 64 } });

const marked = (mark: number) => new Uint8Array([mark >>> 8, mark & 0xff, 1, 2, 3, 4, 5, 6]);
export const down = (mark: number) => ip(PEER, SHARED, 17, udp(53, 1024, marked(mark)));
export const up = (mark: number) => ip(SHARED, PEER, 17, udp(1024, 53, marked(mark)));
export const markOf = (packet: Uint8Array) => (packet[28]! << 8) | packet[29]!;
