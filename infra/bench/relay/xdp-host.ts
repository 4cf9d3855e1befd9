/**
 * Program: the relay host of the closed loop. It puts the relay's XDP program, or the least relay there is, on both of its
 * interfaces. Argument: `XdpHostPlan` as JSON; obeys `XdpHostCommand`.
 */
import { attachXdp, type XdpLink, type XdpMode } from '../../../src/linux/bpf-link.ts';
import { type BpfObject, loadBpfObject } from '../../../src/linux/bpf-object.ts';
import { createXdpRunner } from '../../../src/linux/bpf-run.ts';
import { findLink } from '../../../src/linux/links.ts';
import { compileBpf, compileXdp } from '../../build/xdp.ts';
import { serve } from '../../lab/control-channel.ts';
import { median } from '../statistics.ts';
import { createInstance, type Instance } from './program-instance.ts';

export interface XdpHostPlan {
  readonly interfaces: readonly string[];
  readonly endpoint: string;
  readonly device: string;
  readonly innerMtu: number;
  /** Hexadecimal. */
  readonly keys: { readonly toRelay: string; readonly toDevice: string };
}

export type XdpHostCommand =
  /** Loads a program with so many leases under a name; answers `Loaded`. */
  | { readonly op: 'load'; readonly name: string; readonly leases: number; readonly benchmark?: boolean }
  /** Closes what was loaded under a name. */
  | { readonly op: 'unload'; readonly name: string }
  /** Puts `name` ('bare': the least relay; 'leave': the kernel's) on both interfaces in place of what is there. */
  | { readonly op: 'attach'; readonly name: string; readonly mode: XdpMode }
  /** Flips the paths of the first `sessions` sessions in turn; answers how many flips it made. */
  | {
      readonly op: 'flip';
      readonly name: string;
      readonly sessions: number;
      readonly perSecond: number;
      readonly forMs: number;
    }
  /** Nanoseconds a run of a program that was loaded with `benchmark`, on a frame (hexadecimal) of an interface. */
  | {
      readonly op: 'ns';
      readonly name: string;
      readonly program: string;
      readonly frame: string;
      readonly interface: string;
      readonly repeat: number;
    };

export interface Loaded {
  readonly kernelBytes: number;
  readonly tookMs: number;
}

const plan = JSON.parse(process.argv[2] ?? '') as XdpHostPlan;
const instances = new Map<string, Instance>();
let others: BpfObject | undefined;
let links: XdpLink[] = [];

function instance(name: string): Instance {
  const found = instances.get(name);
  if (found === undefined) throw new Error(`nothing is loaded as ${name}`);
  return found;
}

function load(name: string, leases: number, benchmark: boolean): Loaded {
  const fromMs = performance.now();
  const keys = {
    toRelay: Buffer.from(plan.keys.toRelay, 'hex'),
    toDevice: Buffer.from(plan.keys.toDevice, 'hex'),
  };
  const octets = compileXdp(benchmark ? ['MOORING_BENCHMARK'] : []);
  const made = createInstance(octets, { ...plan, keys, leases });
  instances.set(name, made);
  return {
    kernelBytes: made.kernelBytes(),
    tookMs: performance.now() - fromMs,
  };
}

function programOf(name: string): number {
  if (name !== 'bare' && name !== 'leave') return instance(name).object.program('relay');
  others ??= loadBpfObject(compileBpf({ folder: 'infra/bench/relay/xdp', file: 'ends.bpf.c' }), {
    program: 'bare',
  });
  return others.program(name);
}

function attach(name: string, mode: XdpMode): void {
  for (const link of links) {
    link.detach();
    link.close();
  }
  const program = programOf(name);
  links = plan.interfaces.map((device) => attachXdp(program, findLink(device)!.ifindex, mode));
}

/** Blocks: a pause longer than a flip would be a pause of all. What falls behind is made up for. */
function flip(of: Instance, sessions: number, perSecond: number, forMs: number): { flips: number } {
  const startMs = performance.now();
  const pause = new Int32Array(new SharedArrayBuffer(4));
  let flips = 0;
  for (let nowMs = startMs; nowMs - startMs < forMs; nowMs = performance.now()) {
    const due = ((nowMs - startMs) * perSecond) / 1_000;
    if (flips >= due) {
      Atomics.wait(pause, 0, 0, 0.05);
      continue;
    }
    for (; flips < due; flips += 1) of.flip(flips % sessions, (Math.floor(flips / sessions) & 1) === 0);
  }
  return { flips };
}

function nanoseconds(of: Instance, program: string, frame: string, device: string, repeat: number) {
  const runner = createXdpRunner(of.object.program(program));
  const octets = Buffer.from(frame, 'hex');
  const { ifindex } = findLink(device)!;
  const runs = Array.from({ length: 5 }, () => runner.run(octets, { ifindex, repeat }));
  return { ns: median(runs.map((run) => run.ns)), verdict: runs[0]!.verdict };
}

setInterval(() => {
  for (const each of instances.values()) each.alive();
}, 400);

serve<XdpHostCommand>((command) => {
  switch (command.op) {
    case 'load':
      return load(command.name, command.leases, command.benchmark ?? false);
    case 'unload':
      instance(command.name).close();
      return void instances.delete(command.name);
    case 'attach':
      return attach(command.name, command.mode);
    case 'flip':
      return flip(instance(command.name), command.sessions, command.perSecond, command.forMs);
    case 'ns':
      return nanoseconds(
        instance(command.name),
        command.program,
        command.frame,
        command.interface,
        command.repeat,
      );
    default:
      return command satisfies never;
  }
});
