/**
 * Program: one end of the closed loop, in its own namespace. It puts a program of `xdp/ends.bpf.c` on its interface,
 * starts packets, and counts what comes round. Obeys `LoopEndCommand`.
 */
import { attachXdp, type XdpLink, type XdpMode } from '../../../src/linux/bpf-link.ts';
import { type BpfMap, elementBytes, possibleCpus } from '../../../src/linux/bpf-map.ts';
import { loadBpfObject } from '../../../src/linux/bpf-object.ts';
import { findLink } from '../../../src/linux/links.ts';
import { TUNNEL_PORT } from '../../../src/tunnel/wire.ts';
import { compileBpf } from '../../build/xdp.ts';
import { serve } from '../../lab/control-channel.ts';
import { DELAY_STEPS } from './delays.ts';
import { devicePort, FIRST_ADDRESS, indexOf } from './leases.ts';
import { injectFrames, runOn } from './packet-injector.ts';

export type EndProgram = 'turn_plain' | 'turn_device' | 'note_delay';

export type LoopEndCommand =
  /** Puts the program on an interface, in place of the present one wherever that is. */
  | {
      readonly op: 'attach';
      readonly program: EndProgram;
      readonly mode: XdpMode;
      readonly interface: string;
    }
  /** Makes the devices of leases 0 … count − 1, all with one key (hexadecimal) to the relay. */
  | { readonly op: 'devices'; readonly count: number; readonly key: string; readonly keyNumber: number }
  /** Turn packets round for so long from now; above 1 `leases` spreads them by lot. 0 ms ends the loop. */
  | { readonly op: 'turn'; readonly forMs: number; readonly leases: number }
  /** Starts frames (hexadecimal) on that interface, those of each list from its own processor. */
  | { readonly op: 'inject'; readonly frames: readonly (readonly string[])[] }
  /** Answers `Turned`. */
  | { readonly op: 'counts' }
  /** Answers the `Delays` noted since the last time. */
  | { readonly op: 'delays' };

export interface Turned {
  readonly turned: number;
  /** To an address or port that the session never had. */
  readonly wrongPath: number;
  /** Left to the kernel. */
  readonly strange: number;
  /** Arrived after the end. */
  readonly refused: number;
  readonly atNs: number;
}

/** Packets by step of delay; see delays.ts. */
export interface Delays {
  readonly esp: readonly number[];
  readonly udp: readonly number[];
}

/** Room for every lease of the largest case. */
const DEVICES = 1 << 20;

const object = loadBpfObject(compileBpf({ folder: 'infra/bench/relay/xdp', file: 'ends.bpf.c' }), {
  program: 'turn_device',
  entries: { devices: DEVICES + 1 },
});
let link: XdpLink | undefined;
let device = '';

function map(name: string): BpfMap {
  const found = object.maps[name];
  if (found === undefined) throw new Error(`ends.bpf.c has no map ${name}`);
  return found;
}

function attach(program: EndProgram, mode: XdpMode, to: string): void {
  link?.detach();
  link?.close();
  device = to;
  link = attachXdp(object.program(program), findLink(device)!.ifindex, mode);
}

function setDevices(count: number, key: string, keyNumber: number): void {
  const devices = map('devices');
  const view = new DataView(devices.mapped());
  const octets = new Uint8Array(view.buffer);
  const struct = object.btf.struct('end_session');
  const stride = elementBytes(devices.info);
  const sealed = Buffer.from(key, 'hex');
  for (let lease = 0; lease < count; lease += 1) {
    const at = indexOf(lease) * stride;
    octets.set(sealed, at + struct.at('key').offset);
    view.setUint32(at + struct.at('phase').offset, keyNumber & 3, true);
    view.setUint32(at + struct.at('first_port').offset, devicePort(lease), true);
  }
}

function turn(forMs: number, leases: number): void {
  const struct = object.btf.struct('control');
  const value = new Uint8Array(struct.size);
  const view = new DataView(value.buffer);
  const untilNs = forMs === 0 ? 0n : process.hrtime.bigint() + BigInt(Math.round(forMs * 1e6));
  view.setBigUint64(struct.at('until_ns').offset, untilNs, true);
  view.setUint32(struct.at('tunnel_port').offset, TUNNEL_PORT, true);
  view.setUint32(struct.at('leases').offset, leases, true);
  view.setUint32(struct.at('first_address').offset, FIRST_ADDRESS, true);
  map('control').updateAt(0, value);
}

function counts(): Turned {
  const cpus = possibleCpus();
  const value = new Uint8Array(8 * cpus);
  const sum = (name: string): number => {
    map('counted').lookupAt(object.btf.enumeration('counted').get(name)!, value);
    let total = 0n;
    for (const one of new BigUint64Array(value.buffer)) total += one;
    return Number(total);
  };
  return {
    turned: sum('TURNED'),
    wrongPath: sum('WRONG_PATH'),
    strange: sum('STRANGE'),
    refused: sum('REFUSED'),
    atNs: Number(process.hrtime.bigint()),
  };
}

function delays(): Delays {
  const steps = new BigUint64Array(map('delays').mapped(), 0, 2 * DELAY_STEPS);
  const counts = Array.from(steps, Number);
  steps.fill(0n);
  return { esp: counts.slice(0, DELAY_STEPS), udp: counts.slice(DELAY_STEPS) };
}

serve<LoopEndCommand>((command) => {
  switch (command.op) {
    case 'attach':
      return attach(command.program, command.mode, command.interface);
    case 'devices':
      return setDevices(command.count, command.key, command.keyNumber);
    case 'turn':
      return turn(command.forMs, command.leases);
    case 'inject':
      for (const [processor, frames] of command.frames.entries()) {
        runOn([processor]);
        injectFrames(
          device,
          frames.map((frame) => Buffer.from(frame, 'hex')),
        );
      }
      return runOn([0, 1]);
    case 'counts':
      return counts();
    case 'delays':
      return delays();
    default:
      return command satisfies never;
  }
});
