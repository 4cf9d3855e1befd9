import { parseAddress } from '../../src/protocol/address.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { LaptopConfig } from './config.ts';
import type { SystemChange } from './system-change.ts';

const MAIN_TABLE = 254;
/** Behind every other route of the table. */
const LAST_METRIC = 0x7fff_ffff;

export interface Planned {
  /** Leased address, canonical text. */
  readonly address: string;
  /** Inner MTU, octets. */
  readonly mtu: number;
  /** Tunnel endpoints of the anchor. */
  readonly endpoints: readonly string[];
}

/**
 * The changes that make the leased address usable, in the order in which they are safe: the way out (the
 * TUN, and a blackhole under it) stands before anything is sent its way.
 */
export function planNetwork(
  config: Pick<LaptopConfig, 'tun' | 'table' | 'behind' | 'routes'>,
  { address, mtu, endpoints }: Planned,
  readSysctl: (name: string) => string,
): SystemChange[] {
  const v4 = parseAddress(address).length === 4;
  const host = `${address}/${v4 ? 32 : 128}`;
  const everything = v4 ? '0.0.0.0/0' : '::/0';
  const { tun, table, behind } = config;
  const plan: SystemChange[] = [{ kind: 'tun', name: tun, mtu, forwarding: behind !== undefined }];
  const set = (name: string, value: string, enough: (now: string) => boolean): void => {
    const before = readSysctl(name);
    plan.push({ kind: 'sysctl', name, value: enough(before) ? before : value, before });
  };

  // The kernel would answer ARP for the leased address on every access network otherwise (RFC 3102 §3.1).
  if (v4) set('net/ipv4/conf/all/arp_ignore', '1', (now) => Number(now) >= 1);

  const route = { kind: 'route', prefix: everything, table, source: null } as const;
  // Without it, packets from the leased address would leave by the access network once the TUN is gone.
  plan.push({ ...route, metric: LAST_METRIC, device: null });
  plan.push({ ...route, metric: 1, device: tun });
  plan.push({ kind: 'rule', priority: table, table, from: host, to: null });
  if (behind === undefined) {
    plan.push({ kind: 'address', device: tun, prefix: host });
  } else {
    if (!v4) {
      throw new MooringError(
        'ERR_MOORING_BEHIND',
        `the leased address ${address} is IPv6: \`behind\` passes IPv4 only, because IPv6 forwarding would stop this machine from taking its own routes from router advertisements; lease from an IPv4 pool`,
      );
    }
    plan.push({ kind: 'route', prefix: host, table: MAIN_TABLE, metric: 1, device: behind, source: null });
    set(`net/ipv4/conf/${behind}/forwarding`, '1', (now) => now === '1');
  }

  const routed = config.routes.filter((prefix) => !prefix.includes(':') === v4);
  if (routed.length > 0) {
    for (const endpoint of endpoints) {
      const endpointV4 = !endpoint.includes(':');
      if (endpointV4 !== v4) continue;
      // The tunnel itself never goes through the tunnel.
      plan.push({
        kind: 'rule',
        priority: table - 1,
        table: MAIN_TABLE,
        from: null,
        to: `${endpoint}/${v4 ? 32 : 128}`,
      });
    }
    for (const prefix of routed) plan.push({ kind: 'rule', priority: table, table, from: null, to: prefix });
  }
  return plan;
}
