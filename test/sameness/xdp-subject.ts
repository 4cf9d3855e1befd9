import type { EngineCounters } from '../../src/datapath/engine-api.ts';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import type { SessionPolicing } from '../../src/datapath/userspace/session.ts';
import { boottimeOf } from '../../src/datapath/xdp/clock.ts';
import { Elements } from '../../src/datapath/xdp/elements.ts';
import { XdpMirror } from '../../src/datapath/xdp/mirror.ts';
import { type BpfObject, loadBpfObject } from '../../src/linux/bpf-object.ts';
import { createXdpRunner, type XdpRunner } from '../../src/linux/bpf-run.ts';
import { internetChecksum } from '../unit/datapath/packets.ts';
import { ANCHORS, INNER_MTU, TUNNEL_PORT } from './cast.ts';
import { hex } from './device.ts';
import { datagramOf, destinationOf, packetOf, textOf, udpChecksum6 } from './host.ts';
import { nextHopTo, RELAY_MACS } from './relay-network.ts';
import { EngineSubject, type Output, type Settings } from './subject.ts';

/** What a test run takes as one frame; longer ones are given to the kernel, as if the program were not there. */
const LARGEST_FRAME = 3_400;
const OUTER_TTL = 64;
const BPF_F_MMAPABLE = 1 << 10;
const EVER_NS = 0x7fff_ffff_ffff_ffffn;

const ENTRIES = { index: 1024, anchors: 8, sessions: 32, ways: 32, meters: 32, windows: 96 };

/** The XDP program with its maps, loaded once for many stories. */
export class XdpProgram {
  readonly mirror: XdpMirror;
  readonly runner: XdpRunner;
  readonly ifindex: number;
  readonly #object: BpfObject;
  readonly #config: Elements;
  readonly #reported: Uint8Array;

  /** `file` is an object that was compiled with MOORING_TEST_CLOCK; `rates` are those of every session. */
  constructor(
    file: Uint8Array,
    interfaces: Record<keyof typeof RELAY_MACS, number>,
    rates: SessionPolicing = { uplink: null, downlink: null },
  ) {
    this.#object = loadBpfObject(file, { entries: ENTRIES, flags: { reported: BPF_F_MMAPABLE } });
    const { maps, btf } = this.#object;
    this.#reported = new Uint8Array(maps.reported!.mapped());
    this.runner = createXdpRunner(this.#object.program('relay'));
    this.ifindex = interfaces.pub0;
    // Test runs are over when they return: there is never a packet under way.
    const mirror = { maps, btf, askGrace: (done: () => void) => done(), waitGrace: () => {}, rates };
    this.mirror = new XdpMirror(mirror);
    this.#config = new Elements(maps.config!, btf.struct('config'));
    const c = this.#config;
    const names = btf.enumeration('layout_version');
    c.setU32(c.offset('layout_version'), names.get('LAYOUT_VERSION_NUMBER')!);
    c.view.setUint16(c.offset('tunnel_port'), TUNNEL_PORT, true);
    c.view.setUint16(c.offset('inner_mtu'), INNER_MTU, true);
    c.setU64(c.offset('alive_until_ns'), EVER_NS);
    Object.entries(interfaces).forEach(([name, ifindex], i) => {
      c.setU32(c.offset(`ports[${i}].ifindex`), ifindex);
      c.set(c.offset(`ports[${i}].mac`), macOf(RELAY_MACS[name as keyof typeof RELAY_MACS]));
    });
    const magic =
      (BigInt(names.get('LAYOUT_MAGIC_HIGH')! >>> 0) << 32n) | BigInt(names.get('LAYOUT_MAGIC_LOW')! >>> 0);
    c.storeU64(c.offset('magic'), magic);
  }

  /** How the next story's relay is set up. */
  configure({ rekeyAfterPackets, marking: { ingress, egress, ecn } }: Settings): void {
    const c = this.#config;
    const modes = this.#object.btf.enumeration('dscp_mode');
    const ecnModes = this.#object.btf.enumeration('ecn_mode');
    const octet = (member: string, value: number) => c.storeU8(c.offset(member), value);
    c.setU32(c.offset('rekey_after'), rekeyAfterPackets);
    octet('ingress_dscp_mode', modes.get(`DSCP_${ingress.mode.toUpperCase()}`)!);
    octet('ingress_dscp', ingress.value);
    octet('egress_dscp_mode', modes.get(`DSCP_${egress.mode.toUpperCase()}`)!);
    octet('egress_dscp', egress.value);
    octet('ingress_ecn_mode', ecnModes.get(`ECN_${ecn.toUpperCase()}`)!);
    // All stories happen at the same time: flows that were reported in another one would not be in this.
    new Uint8Array(this.#object.maps.reported!.mapped()).fill(0);
  }

  setClock(nowMs: number): void {
    const c = this.#config;
    c.setU64(c.offset('test_now_ns'), boottimeOf(nowMs));
  }

  /** Flows are reported seldom, and one that shares its place with another later: here each packet reports its own. */
  forgetReports(): void {
    this.#reported.fill(0);
  }

  /** What became of packets at the program alone, by group and reason. */
  counted(): EngineCounters & { readonly passed: Readonly<Record<string, number>> } {
    return { ...this.mirror.counters(), passed: this.mirror.counts.group('passed') };
  }

  close(): void {
    this.#object.close();
  }
}

/** The XDP program with the userspace engine behind it. */
export class XdpSubject extends EngineSubject {
  readonly #program: XdpProgram;
  readonly #before: EngineCounters;

  constructor(program: XdpProgram, settings: Settings) {
    super('xdp', (options) => createEngine({ ...options, fast: program.mirror }), settings);
    this.#program = program;
    program.configure(settings);
    this.#before = program.mirror.counters();
  }

  override command(...given: Parameters<EngineSubject['command']>) {
    const answer = super.command(...given);
    this.#settle(given[1]);
    return answer;
  }

  override tick(nowMs: number): void {
    super.tick(nowMs);
    this.#settle(nowMs);
  }

  override frame(frame: Uint8Array, nowMs: number): void {
    if (frame.length < 14 || frame.length > LARGEST_FRAME) super.frame(frame, nowMs);
    else this.#run(frame, nowMs);
    this.#settle(nowMs);
  }

  /** This story's counts: the maps keep those of all before. */
  override counters(): EngineCounters {
    const all = super.counters();
    return {
      uplink: less(all.uplink, this.#before.uplink),
      downlink: less(all.downlink, this.#before.downlink),
      control: less(all.control, this.#before.control),
    };
  }

  #run(frame: Uint8Array, nowMs: number): void {
    const { runner, ifindex, mirror } = this.#program;
    this.#program.setClock(nowMs);
    this.#program.forgetReports();
    const run = runner.run(frame, { ifindex });
    const left = run.frame.slice();
    switch (run.verdict) {
      case 'pass':
        if (Buffer.compare(left, frame) !== 0)
          throw new Error(`XDP passed ${hex(frame)} changed: ${hex(left)}`);
        super.frame(frame, nowMs);
        break;
      case 'tx':
      case 'redirect':
        this.emit(outputOf(left));
        break;
      case 'drop':
        break;
      case 'aborted':
        throw new Error(`XDP gave up on ${hex(frame)}`);
      default:
        run.verdict satisfies never;
    }
    mirror.takeEvents(nowMs);
  }

  /** What was under way from the program to the engine has arrived: there is nothing in between here. */
  #settle(nowMs: number): void {
    if (this.engine.settling) this.engine.settle(nowMs);
  }
}

/** What a frame that the program sent carries; throws for one that no router would take. */
function outputOf(frame: Uint8Array): Output {
  const fault = (why: string) => new Error(`XDP sent a frame that ${why}: ${hex(frame)}`);
  const packet = packetOf(frame);
  if (packet === null || packet.length !== frame.length - 14) throw fault('is not one packet');
  const hop = nextHopTo(destinationOf(packet));
  if (hex(frame.subarray(0, 6)) !== hex(macOf(hop.mac))) throw fault('goes to the wrong router');
  if (hex(frame.subarray(6, 12)) !== hex(macOf(RELAY_MACS[hop.interface])))
    throw fault('is from another interface');
  const outer = datagramOf(packet);
  const endpoint = outer === null ? '' : textOf(outer.source);
  const fromEndpoint = ANCHORS.some(({ endpoints }) => (endpoints as readonly string[]).includes(endpoint));
  if (outer === null || !fromEndpoint) return { to: 'network', octets: packet };
  const v4 = packet[0]! >> 4 === 4;
  if (outer.sourcePort !== TUNNEL_PORT) throw fault('is not from the port of the tunnel');
  if (packet[v4 ? 8 : 7] !== OUTER_TTL) throw fault('has another hop limit');
  if (v4 && packet[0] !== 0x45) throw fault('has options');
  if (v4 && internetChecksum(packet.subarray(0, 20)) !== 0) throw fault('has a wrong IPv4 checksum');
  const checksum = v4 ? (packet[26]! << 8) | packet[27]! : (packet[46]! << 8) | packet[47]!;
  if (checksum !== (v4 ? 0 : udpChecksum6(packet))) throw fault('has a wrong UDP checksum');
  if (outer.payload.length !== packet.length - (v4 ? 28 : 48)) throw fault('has a wrong UDP length');
  const path = `${textOf(v4 ? packet.subarray(16, 20) : packet.subarray(24, 40))}|${outer.destinationPort}`;
  return { to: 'device', endpoint, path, octets: outer.payload, outerClass: outer.trafficClass };
}

function less(all: Readonly<Record<string, number>>, before: Readonly<Record<string, number>>) {
  return Object.fromEntries(Object.entries(all).map(([name, count]) => [name, count - (before[name] ?? 0)]));
}

function macOf(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
}
