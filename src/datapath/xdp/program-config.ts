import { bootTimeNs } from '../../linux/boot-time.ts';
import type { BpfMap } from '../../linux/bpf-map.ts';
import type { Btf } from '../../linux/btf.ts';
import type { DscpRule, TunnelMarking } from '../../tunnel/dscp-ecn.ts';
import { Elements } from './elements.ts';

/** How long the program takes the process for living after its last sign. */
const ALIVE_NS = 2_000_000_000n;
/** How often it is to give one, milliseconds. */
export const ALIVE_EVERY_MS = 500;

export interface ProgramSettings {
  readonly tunnelPort: number;
  readonly innerMtu: number;
  /** Downlink packets under one key after which the process is told. */
  readonly rekeyAfter: number;
  readonly marking: TunnelMarking;
  /** `kind` as the kernel tells it, such as `veth`. */
  readonly interfaces: readonly {
    readonly ifindex: number;
    readonly mac: Uint8Array;
    readonly kind?: string;
  }[];
}

/** The program's settings. It decides nothing until they are written to their end. */
export class ProgramConfig {
  readonly #element: Elements;
  readonly #btf: Btf;

  constructor(map: BpfMap, btf: Btf) {
    this.#element = new Elements(map, btf.struct('config'));
    this.#btf = btf;
  }

  /** Written anew member by member: a program that forwards already goes on. */
  write(settings: ProgramSettings): void {
    const element = this.#element;
    const { view } = element;
    const at = (path: string) => element.offset(path);
    const { ingress, egress, ecn } = settings.marking;
    element.setU32(at('layout_version'), this.#version('LAYOUT_VERSION_NUMBER'));
    view.setUint16(at('tunnel_port'), settings.tunnelPort, true);
    view.setUint16(at('inner_mtu'), settings.innerMtu, true);
    element.setU32(at('rekey_after'), settings.rekeyAfter);
    this.#writeRule('ingress', ingress);
    this.#writeRule('egress', egress);
    const ecnModes = this.#btf.enumeration('ecn_mode');
    view.setUint8(at('ingress_ecn_mode'), ecnModes.get(`ECN_${ecn.toUpperCase()}`)!);
    const redirectOnly = settings.interfaces.some(({ kind }) => kind === 'veth');
    view.setUint8(at('redirect_only'), redirectOnly ? 1 : 0);
    const ports = element.struct.at('ports').count;
    for (let i = 0; i < ports; i += 1) {
      const wanted = settings.interfaces[i];
      element.setU32(at(`ports[${i}].ifindex`), wanted?.ifindex ?? 0);
      element.set(at(`ports[${i}].mac`), wanted?.mac ?? new Uint8Array(6));
    }
    this.alive();
    const magic =
      (BigInt(this.#version('LAYOUT_MAGIC_HIGH')) << 32n) | BigInt(this.#version('LAYOUT_MAGIC_LOW') >>> 0);
    element.storeU64(at('magic'), magic);
  }

  /** Says that the process lives; see `ALIVE_EVERY_MS`. */
  alive(): void {
    this.#element.storeU64(this.#element.offset('alive_until_ns'), bootTimeNs() + ALIVE_NS);
  }

  #writeRule(point: 'ingress' | 'egress', { mode, value }: DscpRule): void {
    const modes = this.#btf.enumeration('dscp_mode');
    const { view } = this.#element;
    view.setUint8(this.#element.offset(`${point}_dscp_mode`), modes.get(`DSCP_${mode.toUpperCase()}`)!);
    view.setUint8(this.#element.offset(`${point}_dscp`), value);
  }

  #version(name: string): number {
    return this.#btf.enumeration('layout_version').get(name)!;
  }
}
