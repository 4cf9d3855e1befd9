/**
 * Runs in namespaces of its own (network, mounts): brings the machine to one plan after another, and prints what it
 * looked like between them.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ChangeLog } from '../../../clients/laptop/change-log.ts';
import { linuxSystem } from '../../../clients/laptop/linux-system.ts';
import { type Planned, planNetwork } from '../../../clients/laptop/network-plan.ts';
import { formerFile } from '../../../clients/laptop/replaced-file.ts';
import { StateDir } from '../../../clients/laptop/state-dir.ts';
import { listAddresses } from '../../../src/linux/addresses.ts';
import { listLinks, setLink } from '../../../src/linux/links.ts';
import { listRoutes } from '../../../src/linux/routes.ts';
import { listRules } from '../../../src/linux/rules.ts';
import { readSysctl } from '../../../src/linux/sysctl.ts';
import { openTap } from '../../../src/linux/tun.ts';
import { CONTROL, FORMS, leased } from './killed-life.ts';
import { haveOwnEtc } from './own-etc.ts';

function machine(): string {
  return JSON.stringify({
    links: listLinks().map(({ name, up, mtu }) => ({ name, up, mtu })),
    addresses: listAddresses().map(({ address, bits, ifindex }) => ({ address, bits, ifindex })),
    routes: listRoutes(),
    rules: listRules(),
    arpIgnore: readSysctl('net/ipv4/conf/all/arp_ignore'),
    forwarding: readSysctl('net/ipv4/conf/lan0/forwarding'),
    firewall: execFileSync('nft', ['list', 'ruleset'], { encoding: 'utf8' }),
    resolvers: readFileSync('/etc/resolv.conf', 'utf8'),
    charon: formerFile(join(dir, 'charon.conf')),
  });
}

const dir = mkdtempSync(join(tmpdir(), 'mooring-crash-'));
try {
  const resolvConf = join(dir, 'resolv.conf');
  writeFileSync(resolvConf, 'nameserver 192.0.2.53\n');
  haveOwnEtc(dir);
  execFileSync('mount', ['--bind', resolvConf, '/etc/resolv.conf']);
  setLink('lo', { up: true });
  const lan = openTap({ name: 'lan0', mtu: 1500 });
  const forms = {
    own: {
      ...{ tun: 'moor0', table: 4556, routes: ['203.0.113.0/24', '0.0.0.0/0'] },
      ...{
        killSwitch: true,
        dns: ['198.51.100.53'],
        charon: { file: join(dir, 'charon.conf'), reload: [] },
        templates: [],
      },
    },
    behind: FORMS.behind,
  };
  const planned = (address: string): Planned => ({ ...leased(address), control: CONTROL.destinations });
  const here = { sysctl: readSysctl, file: formerFile };
  // A new process goes on with what the dead one made, and leaves nothing of a plan that changed.
  const before = machine();
  const state = new StateDir(join(dir, 'resumed'));
  const own = () => planNetwork(forms.own, planned('198.51.100.77'), here);
  new ChangeLog(state, linuxSystem).become(own());
  const once = machine();
  new ChangeLog(state, linuxSystem).become(own());
  const twice = machine();
  const other = planNetwork(forms.behind, planned('198.51.100.99'), here);
  new ChangeLog(state, linuxSystem).become(other);
  const moved = machine();
  new ChangeLog(state, linuxSystem).restore();
  const restored = machine();

  // What is there and is not ours is neither taken over nor taken away.
  const foreign = openTap({ name: 'moor0', mtu: 1500 });
  let conflict = '';
  const clash = new StateDir(join(dir, 'clash'));
  try {
    new ChangeLog(clash, linuxSystem).become(own());
  } catch (error) {
    conflict = (error as Error).message;
  }
  new ChangeLog(clash, linuxSystem).restore();
  const foreignStays = listLinks().some((link) => link.name === 'moor0');
  foreign.close();
  lan.close();
  process.stdout.write(JSON.stringify({ before, once, twice, moved, restored, conflict, foreignStays }));
} finally {
  execFileSync('umount', ['/etc/resolv.conf']);
  rmSync(dir, { recursive: true, force: true });
}
