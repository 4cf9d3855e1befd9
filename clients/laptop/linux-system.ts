import { existsSync } from 'node:fs';
import { readSysctl, writeSysctl } from '../../src/linux/sysctl.ts';
import { openTun, removeTun } from '../../src/linux/tun.ts';
import { ip, ipJson } from './ip-command.ts';
import type { System, SystemChange } from './system-change.ts';

type Of<K extends SystemChange['kind']> = Extract<SystemChange, { kind: K }>;

/** The Linux machine that this process runs on (its network namespace). */
export function linuxSystem(): System {
  return { exists, make, unmake };
}

async function exists(change: SystemChange): Promise<boolean> {
  switch (change.kind) {
    case 'tun':
      return interfaceExists(change.name);
    case 'address':
      return interfaceExists(change.device) && hasAddress(change);
    case 'route':
      return (await routes(change)).some((found) => found.metric === change.metric);
    case 'rule':
      return hasRule(change);
    case 'sysctl':
      return readSysctl(change.name) === change.value;
    default:
      return change satisfies never;
  }
}

async function make(change: SystemChange): Promise<void> {
  switch (change.kind) {
    case 'tun':
      openTun({ name: change.name, mtu: change.mtu, persist: true }).close();
      if (change.forwarding) writeSysctl(`net/ipv4/conf/${change.name}/forwarding`, '1');
      return;
    case 'address':
      await ip(family(change.prefix), 'address', 'replace', change.prefix, 'dev', change.device);
      return;
    case 'route':
      await ip(family(change.prefix), 'route', 'replace', ...routeWords(change));
      return;
    case 'rule':
      if (!(await hasRule(change))) await ip(...ruleWords('add', change));
      return;
    case 'sysctl':
      writeSysctl(change.name, change.value);
      return;
    default:
      change satisfies never;
  }
}

async function unmake(change: SystemChange): Promise<void> {
  switch (change.kind) {
    case 'tun':
      removeTun(change.name);
      return;
    case 'address':
      if (!interfaceExists(change.device) || !(await hasAddress(change))) return;
      await ip(family(change.prefix), 'address', 'del', change.prefix, 'dev', change.device);
      return;
    case 'route':
      if (change.device !== null && !interfaceExists(change.device)) return;
      if (!(await exists(change))) return;
      await ip(family(change.prefix), 'route', 'del', ...routeWords(change));
      return;
    case 'rule':
      if (await hasRule(change)) await ip(...ruleWords('del', change));
      return;
    case 'sysctl':
      // Whoever set another value since then wants that one.
      if (existsSync(`/proc/sys/${change.name}`) && readSysctl(change.name) === change.value) {
        writeSysctl(change.name, change.before);
      }
      return;
    default:
      change satisfies never;
  }
}

function interfaceExists(name: string): boolean {
  return existsSync(`/sys/class/net/${name}`);
}

function family(prefix: string): '-4' | '-6' {
  return prefix.includes(':') ? '-6' : '-4';
}

function routeWords({ prefix, table, metric, device, source }: Of<'route'>): string[] {
  return [
    ...(device === null ? ['blackhole', prefix] : [prefix, 'dev', device]),
    ...(source === null ? [] : ['src', source]),
    ...['table', String(table), 'metric', String(metric)],
  ];
}

function ruleWords(verb: 'add' | 'del', { priority, table, from, to }: Of<'rule'>): string[] {
  return [
    family(from ?? to ?? ''),
    ...['rule', verb, 'priority', String(priority)],
    ...(from === null ? [] : ['from', from]),
    ...(to === null ? [] : ['to', to]),
    ...['table', String(table)],
  ];
}

interface ShownRoute {
  readonly type?: string;
  readonly dst: string;
  readonly dev?: string;
  readonly metric?: number;
}

/** Routes of the same destination, table and device; `ip` fails for a table that nobody made yet. */
async function routes({ prefix, table, device }: Of<'route'>): Promise<readonly ShownRoute[]> {
  const shown = await ipJson<ShownRoute>(family(prefix), '-N', 'route', 'show', 'table', String(table)).catch(
    () => [],
  );
  const names = prefix === '0.0.0.0/0' || prefix === '::/0' ? ['default', prefix] : [prefix, bare(prefix)];
  return shown.filter(
    ({ dst, dev, type }) =>
      names.includes(dst) && (device === null ? type === '6' || type === 'blackhole' : dev === device),
  );
}

interface ShownRule {
  readonly priority: number;
  readonly src?: string;
  readonly srclen?: number;
  readonly dst?: string;
  readonly dstlen?: number;
  readonly table?: string;
}

async function hasRule({ priority, table, from, to }: Of<'rule'>): Promise<boolean> {
  const shown = await ipJson<ShownRule>(family(from ?? to ?? ''), '-N', 'rule', 'show');
  return shown.some(
    (rule) =>
      rule.priority === priority &&
      rule.table === String(table) &&
      isPrefix(from, rule.src, rule.srclen) &&
      isPrefix(to, rule.dst, rule.dstlen),
  );
}

function isPrefix(prefix: string | null, address: string | undefined, bits: number | undefined): boolean {
  if (prefix === null) return address === undefined || address === 'all';
  const width = prefix.includes(':') ? 128 : 32;
  return prefix === `${address}/${bits ?? width}`;
}

interface ShownDevice {
  readonly addr_info?: readonly { readonly local?: string; readonly prefixlen?: number }[];
}

async function hasAddress({ prefix, device }: Of<'address'>): Promise<boolean> {
  const shown = await ipJson<ShownDevice>(family(prefix), 'address', 'show', 'dev', device);
  return shown.some(({ addr_info: info }) =>
    info?.some(({ local, prefixlen }) => `${local}/${prefixlen}` === prefix),
  );
}

function bare(prefix: string): string {
  return /\/(32|128)$/.test(prefix) ? prefix.slice(0, prefix.indexOf('/')) : prefix;
}
