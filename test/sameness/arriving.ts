import type { OldPath } from '../../src/tunnel/wire.ts';
import { fragment, piece } from '../unit/datapath/fragment.ts';
import { udp } from '../unit/datapath/packets.ts';
import { ANCHORS, PATHS, PEERS, ROLES, SHARED, TUNNEL_PORT, WHOLE } from './cast.ts';
import type { StoryDevice } from './device.ts';
import type { Ensemble } from './ensemble.ts';
import { frameOf, outerPacket } from './host.ts';
import type { Step } from './story.ts';
import { headerChange, tampered } from './tampering.ts';
import { build, joined, type PacketPlan } from './traffic.ts';

/** What arrives at the subjects of a story, from devices and from the public side. */
export class Arriving {
  readonly #ensemble: Ensemble;
  /** Of each role: the number of the path that it speaks from. */
  readonly #where: number[];
  /** From one DATA datagram to what it overtakes. */
  readonly #lagMs: number;
  #late: { readonly role: number; readonly frame: Uint8Array }[] = [];
  /** What devices said. */
  readonly #said: PacketPlan[] = [];

  constructor(ensemble: Ensemble, where: readonly number[], lagMs: number) {
    this.#ensemble = ensemble;
    this.#where = [...where];
    this.#lagMs = lagMs;
  }

  where(role: number): number {
    return this.#where[role]!;
  }

  noise(octets: Uint8Array): void {
    this.#ensemble.frame(octets);
  }

  /** Octets behind the tunnel's header of UDP, at an anchor's endpoint. */
  raw(octets: Uint8Array, from: number, anchor: number): void {
    this.#datagram(octets, from, ANCHORS[anchor]!.endpoints);
  }

  down({ packet, padding }: Extract<Step, { do: 'down' }>): void {
    this.#ensemble.frame(joined(frameOf(build(packet, 'down')), new Uint8Array(padding)));
  }

  /** Answers what devices said so many packets ago. */
  reply({ ago, as }: Extract<Step, { do: 'reply' }>): void {
    const about = this.#said.at(-1 - ago);
    if (about !== undefined) this.#ensemble.frame(frameOf(build(replyTo(about, as), 'down')));
  }

  /** Both kinds of reply to each of the last `count` packets of devices: what was learned shows in what becomes of them. */
  probe(count: number): void {
    for (const packet of this.#said.slice(-count)) {
      for (const as of ['answer', 'error'] as const) {
        this.#ensemble.frame(frameOf(build(replyTo(packet, as), 'down')));
      }
      this.#ensemble.compare();
    }
  }

  up({ role, packet: plan, own, from, tamper, outerClass }: Extract<Step, { do: 'up' }>): void {
    const packet = own ? { ...plan, ...ROLES[role]!.speaks } : plan;
    this.#said.push(packet);
    const device = this.#ensemble.leader.devices[role];
    const sealed = device?.data(build(packet, 'up'), headerChange(tamper, device)) ?? null;
    if (sealed === null) return;
    const frame = frameFrom(
      tampered(sealed, tamper),
      from ?? this.#where[role]!,
      endpointsOf(role),
      outerClass,
    );
    if (frame === null) return;
    if (tamper?.kind === 'later') {
      this.#late.push({ role, frame });
      return;
    }
    this.#ensemble.frame(frame);
    if (tamper?.kind === 'twice') this.#ensemble.frame(frame);
    const late = this.#late.filter((one) => one.role === role);
    this.#late = this.#late.filter((one) => one.role !== role);
    for (const one of late) {
      this.#ensemble.pass(this.#lagMs);
      this.#ensemble.frame(one.frame);
    }
  }

  pieces({ role, packet, order, id }: Extract<Step, { do: 'pieces' }>): void {
    const [near, far] = [(packet.near === 0 ? SHARED : WHOLE)[packet.family]!, PEERS[packet.family]!];
    const [source, destination] = role === null ? [far, near] : [near, far];
    const payload =
      role === null
        ? udp(53, 1024 + id * 64, new Uint8Array(64))
        : udp(1024 + id * 64, 53, new Uint8Array(64));
    const name = 0x4200 + id;
    const overlap = (start: number) =>
      piece(source, destination, 17, payload.subarray(start, start + 16), { start, more: true, id: name });
    const pieces = [...fragment(source, destination, 17, payload, [24, 48], name), overlap(16), overlap(40)];
    for (const number of order) {
      const octets = pieces[number]!;
      if (role === null) this.#ensemble.frame(frameOf(octets));
      else {
        const sealed = this.#ensemble.leader.devices[role]?.data(octets) ?? null;
        if (sealed !== null) this.#datagram(sealed, this.#where[role]!, endpointsOf(role));
      }
    }
  }

  /** The device moves and says so. */
  bind(role: number, path: number, oldPath: OldPath): void {
    this.#where[role] = path;
    this.#say(role, (device) => {
      device.generation += 1;
      return device.control({ kind: 'bind', oldPath });
    });
  }

  say(role: number, kind: 'hold' | 'keepalive'): void {
    this.#say(role, (device) => device.control({ kind }));
  }

  /** The device reads what came, and proves itself where it was challenged. */
  answer(role: number): void {
    const asked = this.#ensemble.parties.map(({ devices }) => devices[role]?.challenges.splice(0) ?? []);
    asked[0]!.forEach(({ path, endpoint }, i) => {
      this.#ensemble.parties.forEach(({ subject, devices }, party) => {
        const own = asked[party]![i];
        if (own === undefined) throw this.#ensemble.missing('a challenge', subject);
        const from = PATHS.findIndex(({ key }) => key === path);
        const frame = frameFrom(devices[role]!.proof(own.message), from, [endpoint, endpoint], 0);
        if (frame !== null) subject.frame(frame, this.#ensemble.nowMs);
      });
      this.#ensemble.compare();
    });
  }

  /** A CONTROL datagram of the device, sealed by each party's own. */
  #say(role: number, seal: (device: StoryDevice) => Uint8Array): void {
    for (const { subject, devices } of this.#ensemble.parties) {
      const device = devices[role];
      if (device == null) continue;
      const frame = frameFrom(seal(device), this.#where[role]!, endpointsOf(role), 0);
      if (frame !== null) subject.frame(frame, this.#ensemble.nowMs);
    }
  }

  #datagram(octets: Uint8Array, from: number, endpoints: readonly string[]): void {
    const frame = frameFrom(octets, from, endpoints, 0);
    if (frame !== null) this.#ensemble.frame(frame);
  }
}

function endpointsOf(role: number): readonly string[] {
  return ANCHORS.find(({ id }) => id === ROLES[role]!.anchor)!.endpoints;
}

/** A tunnel datagram from a path; null where there is no endpoint of its family. */
function frameFrom(
  octets: Uint8Array,
  from: number,
  endpoints: readonly string[],
  outerClass: number,
): Uint8Array | null {
  const { address, port } = PATHS[from]!;
  const endpoint = endpoints.find((one) => one.includes(':') === address.includes(':'));
  if (endpoint === undefined) return null;
  return frameOf(outerPacket(address, port, endpoint, TUNNEL_PORT, octets, outerClass));
}

function replyTo(packet: PacketPlan, as: 'answer' | 'error'): PacketPlan {
  const plain = { ...packet, flaw: null, ttl: 64 };
  if (as === 'error') return { ...plain, shape: as, size: 31 };
  return packet.shape === 'echo' ? { ...plain, shape: 'echo-reply' } : plain;
}
