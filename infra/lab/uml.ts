/**
 * A user-mode-linux kernel as an IPsec end: a real Linux kernel with ESP and AH where the host's kernel has none.
 * It runs the host's own files (hostfs, read-only), speaks through TAP devices, and is commanded over its console.
 */
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Lab, LabProcess, Namespace } from './lab.ts';
import { tail } from './lab-process.ts';
import { initScript, READY } from './uml-init.ts';

export const UML_PROGRAM = '/usr/bin/linux.uml';
const UML_MODULES = '/usr/lib/uml/modules';

/** One network card. Inside it is `vec0`, `vec1` … in order; outside a TAP device. */
export interface UmlCard {
  /** Where the TAP device ends up, and its name there. */
  readonly namespace: Namespace;
  readonly tap: string;
  /** Bridge in that namespace that the TAP joins. */
  readonly bridge?: string;
  /** Address with prefix length of the TAP itself, in that namespace. */
  readonly tapAddress?: string;
  /** Address with prefix length of the card, inside. */
  readonly address?: string;
  /** Default gateway inside, on this card; need not be in the card's prefix. */
  readonly gateway?: string;
  /** Default 1500. */
  readonly mtu?: number;
  /** Name of the host inside that the card belongs to: a network namespace of its own. Default: the kernel's first one. */
  readonly host?: string;
}

export interface UmlOptions {
  readonly name: string;
  readonly cards: readonly UmlCard[];
  /** Default 96. */
  readonly memoryMb?: number;
}

export interface Uml {
  readonly name: string;
  readonly pid: number;
  /** From start to ready. */
  readonly bootMs: number;
  /** Runs a shell command inside. @throws Error with its output unless it ends with status 0 within `timeoutMs` (10 s) */
  exec(command: string, timeoutMs?: number): Promise<string>;
  /** Ends the kernel at once, as pulling the plug does. */
  stop(): Promise<void>;
}

/** Why UML cannot run here, or undefined if it can. */
export function umlMissing(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  if (!existsSync(UML_PROGRAM)) return `${UML_PROGRAM} is missing (Debian package user-mode-linux)`;
  if (!existsSync(UML_MODULES)) return `${UML_MODULES} is missing (Debian package user-mode-linux)`;
  return undefined;
}

/** Steady, locally administered, different for each card of a lab. */
function macAddress(name: string, card: number): string {
  const digest = createHash('sha256').update(`${name}/${card}`).digest();
  return ['02', ...[...digest.subarray(0, 5)].map((octet) => octet.toString(16).padStart(2, '0'))].join(':');
}

/** Modules where modprobe looks for them, and the wrapper that the kernel inside calls. */
function moduleRoot(lab: Lab): { readonly root: string; readonly modprobe: string } {
  const root = lab.file('uml-modules');
  const modprobe = path.join(root, 'modprobe');
  if (!existsSync(modprobe)) {
    const versions = path.join(root, 'lib', 'modules');
    mkdirSync(versions, { recursive: true });
    for (const version of readdirSync(UML_MODULES)) {
      symlinkSync(path.join(UML_MODULES, version), path.join(versions, version));
    }
    writeFileSync(modprobe, `#!/bin/sh\nexec /sbin/modprobe -d ${root} "$@"\n`);
    chmodSync(modprobe, 0o755);
  }
  return { root, modprobe };
}

const BOOT_TIMEOUT_MS = 30_000;
const POLL_MS = 5;

/** @throws Error with the console's last lines if the kernel is not ready within 30 s */
export async function bootUml(lab: Lab, options: UmlOptions): Promise<Uml> {
  const missing = umlMissing();
  if (missing) throw new Error(`user-mode-linux: ${missing}`);
  const { name, cards } = options;
  const startedMs = performance.now();
  const directory = lab.file(`uml-${name}`);
  mkdirSync(directory, { recursive: true });
  const init = path.join(directory, 'init');
  writeFileSync(init, initScript({ name, cards, modules: moduleRoot(lab) }));
  chmodSync(init, 0o755);

  // UML opens its TAPs where it runs; afterwards they can go anywhere.
  const namespace = await lab.namespace(`uml-${name}`);
  await lab.ip(
    namespace,
    cards.map((_, card) => `tuntap add dev tap${card} mode tap`),
  );
  const vectors = cards.map(
    (_, card) => `vec${card}:transport=tap,ifname=tap${card},mac=${macAddress(name, card)},depth=128,gro=0`,
  );
  const kernel = await lab.spawn(
    namespace,
    [
      UML_PROGRAM,
      `umid=${lab.id}-${name}`,
      `uml_dir=${directory}`,
      `mem=${options.memoryMb ?? 96}M`,
      ...['root=/dev/root', 'rootfstype=hostfs', 'rootflags=/', 'ro', `init=${init}`],
      ...['con0=fd:0,fd:1', 'con=null', 'ssl=null', 'quiet', 'selinux=0'],
      ...vectors,
    ],
    { label: `uml ${name}`, env: { TMPDIR: '/dev/shm' } },
  );
  const consoleOutput = new Console(kernel);
  await consoleOutput.waitFor(new RegExp(`^${READY}`, 'm'), 0, BOOT_TIMEOUT_MS, 'become ready');
  await placeTaps(lab, namespace, cards);
  return {
    name,
    pid: kernel.pid,
    bootMs: performance.now() - startedMs,
    exec: (command, timeoutMs = 10_000) => consoleOutput.exec(command, timeoutMs),
    async stop() {
      kernel.kill('SIGKILL');
      await kernel.ended;
    },
  };
}

async function placeTaps(lab: Lab, from: Namespace, cards: readonly UmlCard[]): Promise<void> {
  for (const [number, card] of cards.entries()) {
    // Opening the device has set its features: offloads go off only now.
    await lab.run(from, [
      'ethtool',
      '-K',
      `tap${number}`,
      'tx',
      'off',
      'tso',
      'off',
      'gso',
      'off',
      'gro',
      'off',
    ]);
    await lab.ip(from, [`link set dev tap${number} netns ${card.namespace} name ${card.tap}`]);
    await lab.ip(card.namespace, [
      ...(card.bridge ? [`link set ${card.tap} master ${card.bridge}`] : []),
      ...(card.tapAddress ? [`address add ${card.tapAddress} dev ${card.tap}`] : []),
      `link set ${card.tap} mtu ${card.mtu ?? 1500} up`,
    ]);
  }
}

/** The shell on the kernel's console: commands go in one at a time, output and status come back. */
class Console {
  readonly #kernel: LabProcess;
  #turn: Promise<unknown> = Promise.resolve();
  #count = 0;

  constructor(kernel: LabProcess) {
    this.#kernel = kernel;
  }

  #output(): string {
    return readFileSync(this.#kernel.log, 'utf8').replaceAll('\r', '');
  }

  async waitFor(pattern: RegExp, from: number, timeoutMs: number, what: string): Promise<RegExpExecArray> {
    const deadlineMs = performance.now() + timeoutMs;
    for (;;) {
      const output = this.#output();
      const match = pattern.exec(output.slice(from));
      if (match) return match;
      if (!this.#kernel.running || performance.now() > deadlineMs) {
        const why = this.#kernel.running ? `within ${timeoutMs} ms` : 'before it ended';
        throw new Error(`${this.#kernel.label} did not ${what} ${why}; its console:\n${tail(output)}`);
      }
      await delay(POLL_MS);
    }
  }

  exec(command: string, timeoutMs: number): Promise<string> {
    const result = this.#turn.then(() => this.#execute(command, timeoutMs));
    this.#turn = result.catch(() => {});
    return result;
  }

  async #execute(command: string, timeoutMs: number): Promise<string> {
    const token = `MOORING-END-${++this.#count}`;
    const from = this.#output().length;
    this.#kernel.stdin.write(`{ ${command}\n} 2>&1; status=$?; echo; echo "${token}=$status"\n`);
    const match = await this.waitFor(new RegExp(`^${token}=(\\d+)$`, 'm'), from, timeoutMs, `run ${command}`);
    const output = this.#output()
      .slice(from, from + match.index)
      .replace(/\n$/, '');
    if (match[1] !== '0') {
      throw new Error(`${this.#kernel.label}: ${command} ended with status ${match[1]}: ${output.trim()}`);
    }
    return output;
  }
}
