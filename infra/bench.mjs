#!/usr/bin/env node
// Sets the machine up, installs the rivals that a benchmark compares with, then runs it. Without a name: the list.
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IPERF, installPackages, setup } from './setup.mjs';

const top = join(dirname(fileURLToPath(import.meta.url)), '..');
const pinning = { shows: 'taskset', why: 'keeping a relay and its load on separate cores' };

const TUNNELS = {
  'wireguard-go': { shows: 'wireguard-go', why: 'a rival whose peers roam' },
  'wireguard-tools': { shows: 'wg', why: 'configuring wireguard-go' },
  openvpn: { shows: 'openvpn', why: 'a rival whose clients float' },
};

/** Benchmark → Debian package → what shows that it is there, and why it is needed. */
const RIVALS = {
  relay: {
    'util-linux': pinning,
    coturn: { shows: 'turnserver', why: 'the TURN relay that the packet path is compared with' },
  },
  registry: {
    'kea-dhcp4-server': { shows: 'kea-dhcp4', why: 'the DHCP server that grants are compared with' },
    'kea-admin': { shows: 'perfdhcp', why: 'its load generator' },
  },
  handover: TUNNELS,
  laptop: { ...IPERF, ...TUNNELS },
};

try {
  setup();
} catch (error) {
  console.error(`bench: ${error.message}`);
  process.exit(1);
}
try {
  const name = process.argv.slice(2).find((word) => !word.startsWith('-'));
  installPackages(RIVALS[name] ?? {});
} catch (error) {
  // The rest is measured all the same; a goal that needs the rival says that it was not.
  console.error(`bench: ${error.message}`);
}
const bench = spawn(process.execPath, [join(top, 'dist/infra/bench/main.js'), ...process.argv.slice(2)], {
  stdio: 'inherit',
});
// The terminal sends SIGINT to both; whoever kills only this one means both.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => bench.kill(signal));
bench.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 128)));
