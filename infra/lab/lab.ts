/**
 * A lab: network namespaces and processes made by code and removed by code, also after a kill.
 * Needs root. Two labs side by side do not see each other.
 *
 * ```ts
 * cleanStaleLabs();
 * const lab = await createLab({ name: 'demo' });
 * try {
 *   const net = await createPublicNetwork(lab);
 *   const relay = await net.host('r1', { address: '198.51.100.11', forwarding: true });
 *   const wifi = await net.accessNetwork('wifi', { kind: 'nat-preserving' });
 *   const phone = await net.device('phone');
 *   const wifi0 = await phone.attach(wifi, { interface: 'wifi0', metric: 100, delayMs: 10, lossRate: 0.001 });
 *   await lab.spawn(relay.namespace, nodeCommand('dist/src/cli/main.js', 'serve', '--config', file), { label: 'r1' });
 *
 *   // A Linux kernel with IPsec behind the phone, and an application behind that kernel.
 *   const app = await lab.namespace('phone-app');
 *   const kernel = await bootUml(lab, { name: 'phone', cards: [
 *     { namespace: phone.namespace, tap: 'uml0', tapAddress: '169.254.7.1/32', mtu: 1280 },
 *     { namespace: app, tap: 'app0', tapAddress: '10.50.1.2/24', address: '10.50.1.1/24' } ] });
 *   await establish(withFreshKeys(association), kernel, peerKernel);
 *
 *   const traffic = await startTraffic(lab, [{ name: 'phone', device, peer, packetsPerSecond: 500 }]);
 *   await traffic.start();
 *   const fromMs = monotonicMs();
 *   await wifi0.cut();
 *   await wifi.remap();
 *   await Promise.race([lab.failure, somethingToHappen]);   // a process that dies fails the scenario
 *   const { up, down, both } = await traffic.measure('phone', { fromMs, toMs: monotonicMs() });
 * } finally {
 *   await lab.close();
 * }
 * ```
 */
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { type LabProcess, startProcess } from './lab-process.ts';
import { destroy, identify, isRecorded, type LabRecord, writeRecord } from './lab-record.ts';

export type { LabProcess } from './lab-process.ts';
export { cleanStaleLabs } from './lab-record.ts';

/** Full name of a network namespace, as `ip netns` lists it. */
export type Namespace = string;

export interface SpawnOptions {
  /** Names the process in errors and its log file; default: the program's name. */
  readonly label?: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Working directory; default: the lab's directory. */
  readonly directory?: string;
  /** The process may end with status 0 by itself. Default: no, it runs until it is stopped. */
  readonly mayEnd?: boolean;
  /** Open a control channel on descriptor 3 (see control-channel.ts). Default: no. */
  readonly control?: boolean;
}

export interface Lab {
  /** Also the prefix of every name it makes, without the dash. */
  readonly id: string;
  /** Temporary directory, gone after `close`. */
  readonly directory: string;
  /** Rejects when a process of the lab ends unexpectedly, with the tail of its log. Never resolves. */
  readonly failure: Promise<never>;
  /** Makes a namespace with loopback up. Labels are unique within the lab. */
  namespace(label: string): Promise<Namespace>;
  /** Runs a program to its end. @throws Error with its standard error unless it ends with status 0 */
  run(namespace: Namespace, argv: readonly string[], input?: string): Promise<{ readonly stdout: string }>;
  /** Runs `ip` commands in one batch. */
  ip(namespace: Namespace, commands: readonly string[]): Promise<void>;
  /** Starts a program that runs on. */
  spawn(namespace: Namespace, argv: readonly string[], options?: SpawnOptions): Promise<LabProcess>;
  /** Path of a file in the lab's directory. */
  file(name: string): string;
  /** Ends processes, removes namespaces and files. Harmless when repeated. */
  close(): Promise<void>;
}

export interface LabOptions {
  /** Shown in the names of directories, for people. */
  readonly name?: string;
  /** Leave the directory with its logs behind after `close`; default: no. */
  readonly keepFiles?: boolean;
}

const openLabs = new Map<string, { record: LabRecord; keepFiles: boolean }>();

function destroyOpenLabs(): void {
  for (const [id, { record, keepFiles }] of openLabs) {
    openLabs.delete(id);
    destroy(record, 500, keepFiles);
  }
}

const EXIT_STATUS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;
let watching = false;

/** Installed with the first lab: whoever ends this process takes its labs along. */
function watchForEnd(): void {
  if (watching) return;
  watching = true;
  process.on('exit', destroyOpenLabs);
  for (const [signal, status] of Object.entries(EXIT_STATUS)) {
    process.on(signal, () => {
      if (openLabs.size === 0 && process.listenerCount(signal) > 1) return;
      destroyOpenLabs();
      process.exit(status);
    });
  }
}

/** A namespace is quiet, and answers every time: no router discovery, no duplicate address detection, no reverse path filter. */
const NAMESPACE_SETTINGS = [
  'net.ipv4.conf.all.rp_filter=0',
  'net.ipv4.conf.default.rp_filter=0',
  'net.ipv4.conf.all.send_redirects=0',
  'net.ipv4.conf.default.send_redirects=0',
  'net.ipv4.conf.all.accept_redirects=0',
  'net.ipv4.conf.default.accept_redirects=0',
  'net.ipv6.conf.all.accept_dad=0',
  'net.ipv6.conf.default.accept_dad=0',
  'net.ipv6.conf.all.accept_ra=0',
  'net.ipv6.conf.default.accept_ra=0',
  'net.ipv6.conf.default.router_solicitations=0',
  // Routers answer one packet a second to an address otherwise: a second traceroute would miss hops.
  'net.ipv4.icmp_ratelimit=0',
  'net.ipv6.icmp.ratelimit=0',
];

function execute(argv: readonly string[], input?: string): Promise<{ stdout: string }> {
  const [program, ...args] = argv;
  return new Promise((resolve, reject) => {
    const child = execFile(
      program!,
      args,
      { encoding: 'utf8', maxBuffer: 64 << 20 },
      (error, stdout, stderr) => {
        if (!error) return resolve({ stdout });
        const detail = `${stderr}${stdout}`.trim() || error.message;
        reject(new Error(`${argv.join(' ')} failed: ${detail}`, { cause: error }));
      },
    );
    child.stdin!.on('error', () => {});
    child.stdin!.end(input ?? '');
  });
}

/** Short, because interface and namespace names carry it. */
function freshId(): string {
  for (;;) {
    const id = `mo${randomBytes(2).toString('hex')}`;
    if (!isRecorded(id)) return id;
  }
}

/** @throws Error if not run as root */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  if (process.getuid?.() !== 0) {
    throw new Error('a lab makes network namespaces: run it as root (user id 0)');
  }
  const id = freshId();
  const directory = mkdtempSync(path.join(os.tmpdir(), `${id}-${options.name ?? 'lab'}-`));
  const record: LabRecord = { id, owner: identify(process.pid), directory, namespaces: [], processes: [] };
  const keepFiles = options.keepFiles ?? false;
  writeRecord(record);
  openLabs.set(id, { record, keepFiles });
  watchForEnd();

  const running = new Set<LabProcess>();
  const labels = new Map<string, number>();
  let closed = false;
  let fail: (error: Error) => void = () => {};
  const failure = new Promise<never>((_, reject) => {
    fail = reject;
  });
  // Whoever does not race against `failure` shall not be ended by it.
  failure.catch(() => {});

  const inside = (namespace: Namespace, argv: readonly string[]) => [
    'ip',
    'netns',
    'exec',
    namespace,
    ...argv,
  ];
  const run: Lab['run'] = (namespace, argv, input) => execute(inside(namespace, argv), input);

  const lab: Lab = {
    id,
    directory,
    failure,
    run,
    async namespace(label) {
      const name = `${id}-${label}`;
      if (closed) throw new Error(`lab ${id} is closed: namespace ${label} cannot be made`);
      record.namespaces.push(name);
      writeRecord(record);
      await execute(['ip', 'netns', 'add', name]);
      await execute(['ip', '-n', name, 'link', 'set', 'lo', 'up']);
      await run(name, ['sysctl', '-qw', ...NAMESPACE_SETTINGS]);
      return name;
    },
    async ip(namespace, commands) {
      await execute(['ip', '-n', namespace, '-batch', '-'], `${commands.join('\n')}\n`);
    },
    async spawn(namespace, argv, spawnOptions = {}) {
      if (closed) throw new Error(`lab ${id} is closed: ${argv.join(' ')} cannot be started`);
      const label = spawnOptions.label ?? path.basename(argv[0] ?? 'process');
      const count = labels.get(label) ?? 0;
      labels.set(label, count + 1);
      const fileName = label.replace(/[^\w.-]+/g, '-') + (count > 0 ? `-${count + 1}` : '');
      const child = await startProcess(
        inside(namespace, argv),
        {
          label,
          log: path.join(directory, `${fileName}.log`),
          directory: spawnOptions.directory ?? directory,
          ...(spawnOptions.env && { env: spawnOptions.env }),
          mayEnd: spawnOptions.mayEnd ?? false,
          control: spawnOptions.control ?? false,
        },
        (error) => fail(error),
      );
      running.add(child);
      void child.ended.then(() => running.delete(child));
      try {
        record.processes.push(identify(child.pid));
      } catch {
        // It has ended already; `ended` and `failure` tell.
      }
      writeRecord(record);
      return child;
    },
    file: (name) => path.join(directory, name),
    async close() {
      if (closed) return;
      closed = true;
      // Nobody asks a machine that is switched off whether it is done.
      for (const child of running) child.kill('SIGKILL');
      await Promise.all([...running].map((child) => child.ended));
      destroy(record, 0, keepFiles);
      openLabs.delete(id);
    },
  };
  return lab;
}
