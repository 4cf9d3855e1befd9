/**
 * Runs in a network namespace of its own, with a neighbour in another one behind a veth, as on a hotel's LAN: what that
 * neighbour learns when it asks for the leased address, before and after the agent's change that forbids an answer.
 */
import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChangeLog } from '../../../clients/laptop/change-log.ts';
import { linuxSystem } from '../../../clients/laptop/linux-system.ts';
import { planNetwork } from '../../../clients/laptop/network-plan.ts';
import { StateDir } from '../../../clients/laptop/state-dir.ts';
import { readSysctl, writeSysctl } from '../../../src/linux/sysctl.ts';
import { openTap } from '../../../src/linux/tun.ts';
import type { Lease } from '../../../src/protocol/lease.ts';

const LEASED = { 4: '198.51.100.77', 6: '2001:db8:7::77' } as const;

const run = (...args: string[]) =>
  execFileSync(args[0]!, args.slice(1), { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 }).toString();
const holder = spawn('unshare', ['--net', 'sleep', '60'], { stdio: 'ignore' });
const there = (...args: string[]) => run('nsenter', '-t', String(holder.pid), '-n', ...args);

async function becomes(holds: () => boolean, withinMs: number): Promise<boolean> {
  const end = performance.now() + withinMs;
  while (!holds()) {
    if (performance.now() > end) return false;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return true;
}

const SPEAK = `
import socket, sys
family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET
socket.socket(family, socket.SOCK_DGRAM).sendto(b'x', (sys.argv[1], 9))
`;

/** True when the neighbour got an answer to its ARP request or neighbour solicitation within a second. */
function isAnswered(family: 4 | 6): Promise<boolean> {
  const address = LEASED[family];
  there('ip', 'neigh', 'flush', 'dev', 'peer0');
  there('python3', '-c', SPEAK, address);
  return becomes(() => there('ip', 'neigh', 'show', address, 'dev', 'peer0').includes('lladdr'), 1_000);
}

const dir = mkdtempSync(join(tmpdir(), 'mooring-neighbour-'));
try {
  await becomes(() => there('readlink', '/proc/self/ns/net') !== run('readlink', '/proc/self/ns/net'), 5_000);
  run('ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'peer0', 'netns', String(holder.pid));
  run('ip', 'link', 'set', 'lan0', 'up');
  there('ip', 'link', 'set', 'peer0', 'up');
  for (const [family, own, other, bits] of [
    [4, '192.0.2.10', '192.0.2.20', 24],
    [6, '2001:db8:1::10', '2001:db8:1::20', 64],
  ] as const) {
    const dad = family === 6 ? ['nodad'] : [];
    run('ip', 'address', 'add', `${own}/${bits}`, 'dev', 'lan0', ...dad);
    there('ip', 'address', 'add', `${other}/${bits}`, 'dev', 'peer0', ...dad);
    there('ip', 'route', 'add', LEASED[family], 'dev', 'peer0');
  }
  const observed: Record<string, { withoutRule: boolean; withRule: boolean }> = {};
  const planned = (address: string, behind: { readonly behind?: string } = {}) =>
    planNetwork(
      { tun: 'moor0', table: 4556, routes: [], killSwitch: false, dns: [], templates: [], ...behind },
      {
        lease: { address, ports: null, spis: null } as Lease,
        mtu: 1280,
        endpoints: [{ address: '203.0.113.1', port: 4556 }],
        control: [],
      },
      { sysctl: readSysctl, file: () => null },
    );
  for (const family of [4, 6] as const) {
    const changes = new ChangeLog(new StateDir(join(dir, `state${family}`)), linuxSystem);
    changes.become(planned(LEASED[family]));
    const withRule = await isAnswered(family);
    if (family === 4) writeSysctl('net/ipv4/conf/all/arp_ignore', '0');
    observed[`IPv${family}`] = { withRule, withoutRule: await isAnswered(family) };
    changes.restore();
  }
  // The host that the address is handed to is on another interface than the one who asks.
  const lan = openTap({ name: 'lan1', mtu: 1500 });
  const changes = new ChangeLog(new StateDir(join(dir, 'state-behind')), linuxSystem);
  changes.become(planned(LEASED[4], { behind: 'lan1' }));
  const withRule = await isAnswered(4);
  writeSysctl('net/ipv4/conf/lan0/forwarding', '1');
  writeSysctl('net/ipv4/conf/lan0/proxy_arp', '1');
  writeSysctl('net/ipv4/neigh/lan0/proxy_delay', '0');
  observed.behind = { withRule, withoutRule: await isAnswered(4) };
  changes.restore();
  lan.close();
  process.stdout.write(JSON.stringify(observed));
} finally {
  holder.kill();
  rmSync(dir, { recursive: true, force: true });
}
