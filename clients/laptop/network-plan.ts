import { parseAddress } from '../../src/protocol/address.ts';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import { charonSettings } from './charon-settings.ts';
import type { LaptopConfig } from './config.ts';
import { type Destination, killSwitch } from './kill-switch.ts';
import { filledTemplate } from './lease-template.ts';
import { portMapping } from './port-mapping.ts';
import type { FormerFile } from './replaced-file.ts';
import type { SystemChange } from './system-change.ts';

const MAIN_TABLE = 254;
/** Behind every other route of the table. */
const LAST_METRIC = 0x7fff_ffff;

const RESOLV_CONF = '/etc/resolv.conf';

export interface Planned {
  readonly lease: Lease;
  /** Inner MTU, octets. */
  readonly mtu: number;
  /** Tunnel endpoints of the anchor. */
  readonly endpoints: readonly Destination[];
  /** Where signalling and issuer are. */
  readonly control: readonly Destination[];
}

/** What a plan needs to know of the machine. */
export interface Machine {
  sysctl(name: string): string;
  file(path: string): FormerFile;
}

/**
 * The changes that make the leased address usable, in the order in which they are safe: the way out (the
 * TUN, and a blackhole under it) stands before anything is sent its way.
 */
export function planNetwork(
  config: Pick<
    LaptopConfig,
    'tun' | 'table' | 'behind' | 'routes' | 'killSwitch' | 'dns' | 'charon' | 'templates'
  >,
  { lease, mtu, endpoints, control }: Planned,
  machine: Machine,
): SystemChange[] {
  const { address } = lease;
  const v4 = parseAddress(address).length === 4;
  const host = `${address}/${v4 ? 32 : 128}`;
  const everything = v4 ? '0.0.0.0/0' : '::/0';
  const { tun, table, behind } = config;
  const plan: SystemChange[] = config.killSwitch ? [killSwitch({ tun, table, endpoints, control })] : [];
  plan.push({ kind: 'tun', name: tun, mtu, forwarding: behind !== undefined });
  const set = (name: string, value: string, enough: (now: string) => boolean): void => {
    const before = machine.sysctl(name);
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
    const mapping = portMapping(tun, table, lease);
    if (mapping !== null) plan.push(mapping);
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
    // The tunnel itself never goes through the tunnel, nor does what brings it back when it is lost.
    const beside = [...endpoints, ...control].map((destination) => destination.address);
    for (const outer of new Set(beside.filter((one) => !one.includes(':') === v4))) {
      plan.push({
        kind: 'rule',
        priority: table - 1,
        table: MAIN_TABLE,
        from: null,
        to: `${outer}/${v4 ? 32 : 128}`,
      });
    }
    for (const prefix of routed) {
      // The kernel takes a rule that says nothing for every other one of its priority (EEXIST): it gets its own.
      const priority = prefix.endsWith('/0') ? table + 1 : table;
      plan.push({ kind: 'rule', priority, table, from: null, to: prefix });
    }
  }
  if (config.dns.length > 0) {
    const text = `# Until \`mooring down\` or \`mooring restore\`.\n${config.dns.map((one) => `nameserver ${one}\n`).join('')}`;
    plan.push({ kind: 'file', path: RESOLV_CONF, text, before: machine.file(RESOLV_CONF) });
  }
  if (config.charon !== undefined) {
    const path = config.charon.file;
    plan.push({ kind: 'file', path, text: charonSettings(lease), before: machine.file(path) });
  }
  for (const { template, file } of config.templates) {
    const source = machine.file(template);
    if (source === null || !('text' in source)) {
      throw new MooringError('ERR_MOORING_TEMPLATE', `${template}: is no file; name one in \`templates\``);
    }
    const text = filledTemplate(source.text, lease, template);
    plan.push({ kind: 'file', path: file, text, before: machine.file(file) });
  }
  return plan;
}

/** Whether a change steers what the machine sends from its own addresses, or asks of a resolver, towards the tunnel. */
export function leadsOwnTraffic(change: SystemChange): boolean {
  if (change.kind === 'rule') return change.to !== null && change.table !== MAIN_TABLE;
  return change.kind === 'file' && change.path === RESOLV_CONF;
}
