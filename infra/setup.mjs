#!/usr/bin/env node
// Makes a machine ready: Debian packages, npm packages, build. Idempotent; says what it does and why. Plain
// JavaScript without dependencies, because it runs before anything is installed.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const top = join(dirname(fileURLToPath(import.meta.url)), '..');

/** Debian package → the command or file that shows it is there, and what it is for. */
const PACKAGES = {
  'redis-server': { shows: 'redis-server', why: 'the registry: leases and ownership' },
  iproute2: { shows: 'ip', why: 'network namespaces of the lab' },
  procps: { shows: 'sysctl', why: "forwarding in the lab's namespaces" },
  nftables: { shows: 'nft', why: 'the NATs of the lab' },
  conntrack: { shows: 'conntrack', why: 'moving a NAT mapping silently in the lab' },
  ethtool: { shows: 'ethtool', why: 'switching offloads off on lab links' },
  tcpdump: { shows: 'tcpdump', why: "captures on the peer's interface" },
  clang: { shows: 'clang', why: 'compiling the XDP program; without it relays use the userspace engine' },
  'libbpf-dev': { shows: '/usr/include/bpf/bpf_helpers.h', why: 'what the XDP program is compiled against' },
  libbpf1: {
    shows: 'libbpf.so.1',
    why: 'loading the XDP program; without it relays use the userspace engine',
  },
  openssl: { shows: 'openssl', why: 'throw-away certificates of the lab' },
  kmod: { shows: 'depmod', why: 'modules of the lab kernels' },
  'user-mode-linux': { shows: 'linux.uml', why: 'real kernel ESP and AH, where the host kernel has none' },
  spin: { shows: 'spin', why: 'searching every history of the models of ownership and leases' },
  gcc: { shows: 'gcc', why: 'compiling what spin makes of a model' },
  'libc6-dev': { shows: '/usr/include/stdio.h', why: 'the same' },
  'python3-scapy': {
    shows: '/usr/lib/python3/dist-packages/scapy/__init__.py',
    why: 'an independent ESP and AH in tests',
  },
  'python3-cryptography': {
    shows: '/usr/lib/python3/dist-packages/cryptography/__init__.py',
    why: "the ciphers of scapy's ESP",
  },
  'strongswan-charon': {
    shows: '/usr/lib/ipsec/charon',
    why: 'an unmodified IKEv2 daemon at both ends in tests',
  },
  'strongswan-swanctl': { shows: 'swanctl', why: 'commands to that daemon' },
  'libnss3-tools': { shows: 'certutil', why: 'the key database that libreswan opens' },
  'libcap-ng0': { shows: 'libcap-ng.so.0', why: 'libreswan' },
  'libcurl3-nss': { shows: 'libcurl-nss.so.4', why: 'libreswan' },
  'libevent-core-2.1-7': { shows: 'libevent_core-2.1.so.7', why: 'libreswan' },
  'libevent-pthreads-2.1-7': { shows: 'libevent_pthreads-2.1.so.7', why: 'libreswan' },
  libldns3: { shows: 'libldns.so.3', why: 'libreswan' },
  libunbound8: { shows: 'libunbound.so.8', why: 'libreswan' },
};

/** What only a benchmark and the long tests need; they install it. */
export const IPERF = { iperf3: { shows: 'iperf3', why: 'TCP sessions through the agent' } };

/** Packages that conflict with others here and are only unpacked, each into its own folder. */
const UNPACKED = {
  libreswan: {
    shows: '/opt/mooring-lab/libreswan/usr/libexec/ipsec/pluto',
    folder: '/opt/mooring-lab/libreswan',
    why: 'a second, independent IKEv2 daemon as peer; beside strongSwan it can only be unpacked',
  },
  'valkey-server': {
    shows: '/opt/mooring-lab/valkey/usr/bin/valkey-server',
    folder: '/opt/mooring-lab/valkey',
    why: 'the registry on Valkey too; beside Redis its server need not be installed',
    // The program that the server's package links to.
    with: ['valkey-tools'],
    // Debian 12 itself has none.
    backports: 'bookworm',
    isOptional: true,
  },
};

const say = (text) => console.log(`setup: ${text}`);

function present(shows) {
  if (shows.startsWith('/')) return existsSync(shows);
  if (shows.includes('.so.')) {
    return ['/usr/lib/x86_64-linux-gnu', '/usr/lib/aarch64-linux-gnu', '/usr/lib64', '/usr/lib'].some(
      (folder) => existsSync(join(folder, shows)),
    );
  }
  const path = `${process.env.PATH ?? ''}:/usr/sbin:/sbin:/usr/bin:/bin`;
  return path.split(':').some((folder) => folder !== '' && existsSync(join(folder, shows)));
}

function run(command, args, options = {}) {
  const done = spawnSync(command, args, {
    cwd: top,
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    ...options,
  });
  if (done.status !== 0) {
    const tail = `${done.stdout ?? ''}${done.stderr ?? ''}`.trim().split('\n').slice(-12).join('\n');
    throw new Error(
      `${command} ${args.join(' ')} failed (${done.error?.message ?? `exit ${done.status}`})\n${tail}`,
    );
  }
}

function checkNode() {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new Error(`Node ${process.versions.node} is too old; install Node 20.19 or newer`);
  }
}

/** Installs what is missing of `packages` (in the form of PACKAGES), saying why; without the rights, says what is missing. */
export function installPackages(packages) {
  const missing = Object.entries(packages).filter(([, { shows }]) => !present(shows));
  if (missing.length === 0) return;
  for (const [name, { why }] of missing) say(`missing Debian package ${name}: ${why}`);
  const names = missing.map(([name]) => name);
  if (process.platform !== 'linux' || !present('apt-get') || process.getuid?.() !== 0) {
    say(`cannot install them here; run as root: apt-get install ${names.join(' ')}`);
    say('what needs them will be skipped and named');
    return;
  }
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  say('apt-get update');
  run('apt-get', ['update', '-q'], { env });
  say(`apt-get install ${names.join(' ')}`);
  // Debian starts servers of their own on installation, which nothing here uses: keep them from starting.
  const policy = '/usr/sbin/policy-rc.d';
  const guard = !existsSync(policy);
  if (guard) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    run('apt-get', ['install', '-y', '-q', '--no-install-recommends', ...names], { env });
  } finally {
    if (guard) execFileSync('rm', ['-f', policy]);
  }
}

/** Unpacks what is missing of UNPACKED; the programs in it run from where they lie. */
function unpackPackages() {
  for (const [name, one] of Object.entries(UNPACKED)) {
    const { shows, folder, why, isOptional = false } = one;
    if (present(shows)) continue;
    say(`missing Debian package ${name}: ${why}`);
    if (!present('apt-get') || process.getuid?.() !== 0) {
      say(
        `cannot unpack it here; run as root: apt-get download ${name} && dpkg-deb -x ${name}_*.deb ${folder}`,
      );
      continue;
    }
    try {
      unpack(name, one);
    } catch (error) {
      if (!isOptional) throw error;
      say(`${error.message}\nwhat needs it will be skipped and named`);
    }
  }
}

function unpack(name, { folder, backports, with: others = [] }) {
  const scratch = mkdtempSync(join(tmpdir(), 'mooring-setup-'));
  try {
    const lists = listsOf(scratch, backports);
    const names = [name, ...others];
    say(`apt-get download ${names.join(' ')}, unpacked in ${folder}`);
    // A machine that lacks nothing else may never have read the lists.
    run('apt-get', [...lists, 'update', '-q']);
    run('apt-get', [...lists, 'download', '-q', ...names], { cwd: scratch });
    mkdirSync(folder, { recursive: true });
    for (const file of readdirSync(scratch).filter((one) => one.endsWith('.deb')))
      run('dpkg-deb', ['-x', join(scratch, file), folder]);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Options of apt-get: the machine's own lists, or on that release those of its backports, which it need not know of. */
function listsOf(scratch, release) {
  const isRelease =
    release !== undefined &&
    existsSync('/etc/os-release') &&
    readFileSync('/etc/os-release', 'utf8').includes(`VERSION_CODENAME=${release}\n`);
  if (!isRelease) return [];
  const keys = '/usr/share/keyrings/debian-archive-keyring.gpg';
  const source = `deb [signed-by=${keys}] http://deb.debian.org/debian ${release}-backports main\n`;
  writeFileSync(join(scratch, 'sources.list'), source);
  mkdirSync(join(scratch, 'lists', 'partial'), { recursive: true });
  mkdirSync(join(scratch, 'cache', 'archives', 'partial'), { recursive: true });
  return [
    ['Dir::Etc::sourcelist', join(scratch, 'sources.list')],
    ['Dir::Etc::sourceparts', '/dev/null'],
    ['Dir::State::lists', join(scratch, 'lists')],
    ['Dir::Cache', join(scratch, 'cache')],
  ].flatMap(([option, value]) => ['-o', `${option}=${value}`]);
}

function installModules() {
  const lock = createHash('sha256')
    .update(readFileSync(join(top, 'package-lock.json')))
    .digest('hex');
  const stamp = join(top, 'node_modules', '.mooring-lock');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return;
  say('npm ci (packages of package-lock.json)');
  run('npm', ['ci', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error']);
  writeFileSync(stamp, lock);
}

function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) latest = Math.max(latest, newest(path));
    else if (/\.(ts|c|h)$/.test(entry.name)) latest = Math.max(latest, statSync(path).mtimeMs);
  }
  return latest;
}

function build() {
  const stamp = join(top, 'dist', '.built');
  const sources = Math.max(...['src', 'clients', 'infra'].map((folder) => newest(join(top, folder))));
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= sources) return;
  say('build (TypeScript → dist)');
  run(process.execPath, [join(top, 'node_modules/typescript/bin/tsc'), '-p', 'tsconfig.build.json']);
  run(process.execPath, ['--import', 'tsx', join(top, 'infra/build/programs.ts')]);
  mkdirSync(join(top, 'dist'), { recursive: true });
  say(
    present('clang')
      ? 'build (C → XDP program)'
      : 'no clang: no XDP program, relays use the userspace engine',
  );
  run(process.execPath, ['--import', 'tsx', join(top, 'infra/build/xdp.ts')]);
  writeFileSync(stamp, '');
}

/** Everything that `npm run demo`, `npm test` and `npm run bench` need; does nothing when all is there. */
export function setup() {
  checkNode();
  installPackages(PACKAGES);
  unpackPackages();
  installModules();
  build();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    setup();
    say('ready');
  } catch (error) {
    console.error(`setup: ${error.message}`);
    process.exit(1);
  }
}
