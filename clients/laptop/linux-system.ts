import { existsSync } from 'node:fs';
import { ensureAddress, listAddresses, removeAddress } from '../../src/linux/addresses.ts';
import { findLink } from '../../src/linux/links.ts';
import { hasTable, removeTable, replaceTable } from '../../src/linux/nftables.ts';
import { ensureRoute, listRoutes, type RouteSpec, removeRoute } from '../../src/linux/routes.ts';
import { ensureRule, listRules, type Rule, removeRule } from '../../src/linux/rules.ts';
import { readSysctl, writeSysctl } from '../../src/linux/sysctl.ts';
import { openTun, removeTun } from '../../src/linux/tun.ts';
import { putBack, readWholeFile, replaceFile } from './replaced-file.ts';
import type { System, SystemChange } from './system-change.ts';

type Of<K extends SystemChange['kind']> = Extract<SystemChange, { kind: K }>;

/** The Linux machine that this process runs on, in its network namespace. */
export const linuxSystem: System = { exists, make, unmake };

function exists(change: SystemChange): boolean {
  switch (change.kind) {
    case 'tun':
      return findLink(change.name) !== undefined;
    case 'address':
      return (
        findLink(change.device) !== undefined &&
        listAddresses(change.device).some(({ address, bits }) => `${address}/${bits}` === change.prefix)
      );
    case 'route':
      return listRoutes({ family: familyOf(change.prefix), table: change.table }).some(
        ({ destination, metric }) => destination === change.prefix && metric === change.metric,
      );
    case 'rule':
      return listRules(familyOf(change.from ?? change.to ?? '')).some(
        ({ priority, table, from, to }) =>
          priority === change.priority &&
          table === change.table &&
          (from ?? null) === change.from &&
          (to ?? null) === change.to,
      );
    case 'sysctl':
      return readSysctl(change.name) === change.value;
    case 'nftables':
      return hasTable(change.table);
    case 'file':
      return readWholeFile(change.path) === change.text;
    default:
      return change satisfies never;
  }
}

function make(change: SystemChange): void {
  switch (change.kind) {
    case 'tun':
      openTun({ name: change.name, mtu: change.mtu, persist: true }).close();
      if (change.forwarding) writeSysctl(`net/ipv4/conf/${change.name}/forwarding`, '1');
      return;
    case 'address':
      ensureAddress(change.device, change.prefix);
      return;
    case 'route':
      ensureRoute(routeOf(change));
      return;
    case 'rule':
      ensureRule(ruleOf(change));
      return;
    case 'sysctl':
      writeSysctl(change.name, change.value);
      return;
    case 'nftables':
      replaceTable(change.table, change.rules);
      return;
    case 'file':
      replaceFile(change.path, change.text);
      return;
    default:
      change satisfies never;
  }
}

function unmake(change: SystemChange): void {
  switch (change.kind) {
    case 'tun':
      removeTun(change.name);
      return;
    case 'address':
      if (findLink(change.device) !== undefined) removeAddress(change.device, change.prefix);
      return;
    case 'route':
      if (change.device === null || findLink(change.device) !== undefined) removeRoute(routeOf(change));
      return;
    case 'rule':
      removeRule(ruleOf(change));
      return;
    case 'sysctl':
      // Whoever set another value since then wants that one.
      if (existsSync(`/proc/sys/${change.name}`) && readSysctl(change.name) === change.value) {
        writeSysctl(change.name, change.before);
      }
      return;
    case 'nftables':
      removeTable(change.table);
      return;
    case 'file':
      putBack(change.path, change.text, change.before);
      return;
    default:
      change satisfies never;
  }
}

function familyOf(prefix: string): 4 | 6 {
  return prefix.includes(':') ? 6 : 4;
}

function routeOf({ prefix, table, metric, device, source }: Of<'route'>): RouteSpec {
  return {
    destination: prefix,
    table,
    metric,
    ...(device === null ? { kind: 'blackhole' } : { device }),
    ...(source === null ? {} : { source }),
  };
}

function ruleOf({ priority, table, from, to }: Of<'rule'>): Rule {
  return {
    family: familyOf(from ?? to ?? ''),
    priority,
    table,
    ...(from === null ? {} : { from }),
    ...(to === null ? {} : { to }),
  };
}
