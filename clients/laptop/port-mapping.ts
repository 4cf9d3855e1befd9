import type { Lease } from '../../src/protocol/lease.ts';
import type { SystemChange } from './system-change.ts';

/** IKE and IPsec in UDP: a lease with SPIs may send from these ports of a shared address (RFC 3104 §2, R53). */
const IPSEC_PORTS = '500, 4500';

/**
 * On a shared address a program that wants no particular port gets one of the lease's block, whatever the system drew
 * for it (RFC 3102 §3.1): the source port is replaced on the way into the tunnel, and back on the way in. A program that
 * binds a port of the block keeps it. Null for a whole address.
 */
export function portMapping(
  tun: string,
  table: number,
  { address, ports, spis }: Pick<Lease, 'address' | 'ports' | 'spis'>,
): Extract<SystemChange, { kind: 'nftables' }> | null {
  if (ports === null) return null;
  const v6 = address.includes(':');
  const family = v6 ? 'ip6' : 'ip';
  const block = `${ports.first}-${ports.first + ports.count - 1}`;
  const to = `snat ${family} to ${v6 ? `[${address}]` : address}:${block}`;
  const from = `oifname "${tun}" ${family} saddr ${address}`;
  const rules = [
    ...(spis === null ? [] : [`${from} udp sport { ${IPSEC_PORTS} } accept`]),
    ...['tcp', 'udp'].map((protocol) => `${from} ${protocol} sport != ${block} ${to}`),
  ];
  return {
    kind: 'nftables',
    table: `mooring_ports_${table}`,
    rules: `  chain out {\n    type nat hook postrouting priority srcnat;\n${rules.map((rule) => `    ${rule}\n`).join('')}  }\n`,
  };
}
