import type { SystemChange } from './system-change.ts';

/** An address and a port of it. */
export interface Destination {
  readonly address: string;
  readonly port: number;
}

export interface KillSwitchPlan {
  readonly tun: string;
  /** Routing table of the agent: its number makes the table's name unique. */
  readonly table: number;
  /** Tunnel endpoints: UDP. */
  readonly endpoints: readonly Destination[];
  /** Doors of signalling and issuer: TCP. */
  readonly control: readonly Destination[];
}

type TableChange = Extract<SystemChange, { kind: 'nftables' }>;

/**
 * Nothing leaves this machine but through the tunnel, except what the tunnel lives on: its datagrams, the agent's
 * connections to signalling and issuer, and what it takes to be in a network at all (DHCP, neighbours, routers). In the
 * kernel, so it stands when the agent does not. Routes decide nothing here: one that a hostile network slips in leads
 * into the drop (TunnelVision, CVE-2024-3661).
 */
export function killSwitch({ tun, table, endpoints, control }: KillSwitchPlan): TableChange {
  const rules = [
    'oifname "lo" accept',
    `oifname "${tun}" accept`,
    ...accept('udp', endpoints),
    ...accept('tcp', control),
    'meta nfproto ipv4 udp sport 68 udp dport 67 accept',
    'meta nfproto ipv6 udp sport 546 udp dport 547 accept',
    'icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert, mld2-listener-report } accept',
  ];
  const chain = (hook: string, lines: readonly string[]): string =>
    `  chain ${hook} {\n    type filter hook ${hook} priority filter; policy drop;\n${lines.map((line) => `    ${line}\n`).join('')}  }\n`;
  return {
    kind: 'nftables',
    table: `${TABLE_PREFIX}${table}`,
    rules: chain('output', rules) + chain('forward', [`oifname "${tun}" accept`, `iifname "${tun}" accept`]),
  };
}

const TABLE_PREFIX = 'mooring_kill_switch_';

export function isKillSwitch(change: SystemChange): boolean {
  return change.kind === 'nftables' && change.table.startsWith(TABLE_PREFIX);
}

function accept(protocol: 'udp' | 'tcp', destinations: readonly Destination[]): string[] {
  return [
    ...new Set(
      destinations.map(({ address, port }) => {
        const family = address.includes(':') ? 'ip6' : 'ip';
        return `${family} daddr ${address} ${protocol} dport ${port} accept`;
      }),
    ),
  ];
}
