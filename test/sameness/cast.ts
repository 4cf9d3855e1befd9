import type { EngineCommand } from '../../src/datapath/engine-api.ts';
import { type SocketAddress, socketAddress } from '../../src/protocol/address.ts';
import type { Lease } from '../../src/protocol/lease.ts';

/** Who takes part in every story: two anchors, five devices, the addresses of everybody around them. */

export const ANCHORS = [
  { id: 'a1', endpoints: ['203.0.113.1', '2001:db8::1'] },
  { id: 'a2', endpoints: ['203.0.113.2'] },
] as const;

export const SHARED = ['203.0.113.7', '2001:db8::7'] as const;
export const WHOLE = ['203.0.113.8', '2001:db8::8'] as const;
export const SPARE = ['203.0.113.9', '2001:db8::9'] as const;
export const PEERS = ['198.51.100.9', '2001:db8:ffff::9'] as const;
/** The relay's own host. */
export const HOST = ['198.51.100.4', '2001:db8:ffff::4'] as const;

/** Access addresses that devices wander over. */
export const PATHS: readonly SocketAddress[] = [
  socketAddress('192.0.2.10', 40_001),
  socketAddress('2001:db8:a::10', 40_002),
  socketAddress('192.0.2.20', 40_003),
  socketAddress('2001:db8:b::20', 40_004),
  // Behind the same NAT as the first: only the port differs.
  socketAddress('192.0.2.10', 40_005),
];

export const INNER_MTU = 1280;
export const TUNNEL_PORT = 4556;

type Terms = Pick<Lease, 'kind' | 'address' | 'ports' | 'spis' | 'ikeSpis' | 'remote'>;

export interface Role {
  readonly name: string;
  readonly anchor: (typeof ANCHORS)[number]['id'];
  readonly index: number;
  readonly leases: readonly Terms[];
  /** What its device speaks from: a place in `NEAR` of the traffic, and one in `PORTS`. */
  readonly speaks: { readonly near: number; readonly port?: number };
}

const ports = (first: number) => ({ first, count: 64 });
const spis = (first: number) => ({ first, count: 16 });

function ipsecShares(port: number, spi: number, ikeSpis: Lease['ikeSpis'] = null): Terms[] {
  return SHARED.map((address) => ({
    kind: 'rsipsec',
    address,
    ports: ports(port),
    spis: spis(spi),
    ikeSpis,
    remote: null,
  }));
}

function plainShare(address: string, port: number, remote: Lease['remote'] = null): Terms {
  return { kind: 'rsap-ip', address, ports: ports(port), spis: null, remote };
}

function wholeAddress(address: string, remote: Lease['remote'] = null): Terms {
  return { kind: 'rsa-ip', address, ports: null, spis: null, remote };
}

/**
 * Ann and Bob share addresses with IPsec, Bob with IKE SPIs of his own, Cyd without IPsec and over IPv6 for one remote
 * only; Dan has whole addresses, on another anchor under the index that Ann has on hers; Eve leases nothing; Fay has
 * whole addresses for one port of one remote.
 */
export const ROLES: readonly Role[] = [
  {
    name: 'ann',
    anchor: 'a1',
    index: 1,
    leases: ipsecShares(1024, 0x1000_0000),
    speaks: { near: 0, port: 0 },
  },
  {
    name: 'bob',
    anchor: 'a1',
    index: 2,
    leases: ipsecShares(1088, 0x2000_0000, { first: 0xaaaa_0000, count: 2 }),
    speaks: { near: 0, port: 2 },
  },
  {
    name: 'cyd',
    anchor: 'a1',
    index: 3,
    leases: [plainShare(SHARED[0], 2048), plainShare(SHARED[1], 2048, { address: PEERS[1], port: null })],
    speaks: { near: 0, port: 6 },
  },
  {
    name: 'dan',
    anchor: 'a2',
    index: 1,
    leases: [wholeAddress(WHOLE[0]), wholeAddress(WHOLE[1])],
    speaks: { near: 1 },
  },
  { name: 'eve', anchor: 'a1', index: 0xfffffe, leases: [], speaks: { near: 0 } },
  {
    name: 'fay',
    anchor: 'a1',
    index: 4,
    leases: SPARE.map((address, i) => wholeAddress(address, { address: PEERS[i]!, port: 53 })),
    speaks: { near: 2 },
  },
];

/** Ports and SPIs worth trying: the edges of every block, one outside, and those with a meaning of their own. */
export const PORTS = [
  ...[1024, 1087, 1088, 1151, 1152, 1023, 2048, 2111, 2112, 500, 4500, 4556, 53, 0, 65535],
  ...[2175, 2176],
];
export const SPIS = [
  0x1000_0000, 0x1000_000f, 0x1000_0010, 0x2000_0000, 0x2000_000f, 0x2000_0010, 0x0fff_ffff, 0, 1,
  0xffff_ffff,
];

/** Life number `life` of a role's session: a session that ended comes back under another id and another key. */
export function sessionId(role: number, life: number): string {
  return `${(role + 1).toString(16).padStart(8, '0')}${life.toString(16).padStart(24, '0')}`;
}

export function rootOf(role: number, life: number): Uint8Array {
  return new Uint8Array(32).fill(role * 16 + life + 1);
}

export function leaseOf(role: number, number: number, life: number): Lease {
  const { anchor, leases } = ROLES[role]!;
  return {
    id: `${anchor}.${`r${role}l${number}`.padStart(22, '0')}`,
    anchor,
    pool: 'p1',
    device: { tenant: 't', id: `d${role}` },
    bindId: number + 1,
    ...leases[number]!,
    session: sessionId(role, life),
    state: 'active',
    remainingMs: 60_000,
    fence: '1-1',
  };
}

export type AnchorCommand = Extract<EngineCommand, { op: 'anchor' }>;

export function anchorCommand(number: number, epoch: bigint, untilMs: number): AnchorCommand {
  const { id, endpoints } = ANCHORS[number]!;
  return { op: 'anchor', anchor: { id, endpoints, epoch, untilMs, resumes: false } };
}
