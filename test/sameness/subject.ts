import type { EngineCommand, EngineCounters } from '../../src/datapath/engine-api.ts';
import type { Engine, EngineIo } from '../../src/datapath/userspace/engine.ts';
import type { SessionPolicing } from '../../src/datapath/userspace/session.ts';
import type { SocketAddress } from '../../src/protocol/address.ts';
import type { SessionState } from '../../src/protocol/relay-plane.ts';
import type { TunnelMarking } from '../../src/tunnel/dscp-ecn.ts';
import { DATA } from '../../src/tunnel/wire.ts';
import { seededOctets } from '../unit/datapath/seeded-octets.ts';
import { INNER_MTU, TUNNEL_PORT } from './cast.ts';
import { datagramOf, destinationOf, hop, packetOf, textOf } from './host.ts';

/** What left a relay: a datagram to a device, or an inner packet to the public side. */
export type Output =
  | {
      readonly to: 'device';
      readonly endpoint: string;
      readonly path: string;
      readonly octets: Uint8Array;
      /** DSCP and ECN of the outer header. */
      readonly outerClass: number;
    }
  | { readonly to: 'network'; readonly octets: Uint8Array };

/** A relay as the wire and its owner see it. Subjects that get the same must do the same. */
export interface Subject {
  readonly name: string;
  /** What was answered, as far as the owner can tell: null, sessions, or the code of the refusal. */
  command(command: EngineCommand, nowMs: number): string | readonly SessionState[] | null;
  /** An Ethernet frame on any of the relay's interfaces. */
  frame(frame: Uint8Array, nowMs: number): void;
  /** When something is due, and that it is. */
  nextDueMs(): number;
  tick(nowMs: number): void;
  /** What left since the last call, in order. */
  take(): Output[];
  counters(): EngineCounters;
}

export type MakeEngine = (options: {
  readonly relayBoot: bigint;
  readonly random: (octets: number) => Uint8Array;
  readonly io: EngineIo;
  readonly rekeyAfterPackets: number;
  readonly marking: TunnelMarking;
  readonly policing: SessionPolicing;
}) => Engine;

/** How a relay is set up, as far as packets can tell. */
export interface Settings {
  readonly rekeyAfterPackets: number;
  readonly marking: TunnelMarking;
  readonly policing: SessionPolicing;
}

/** This process's incarnation, the same in every subject. */
export const RELAY_BOOT = 0xbeef_0000_0000_0001n;
/** More often than any story goes round through leased addresses. */
const HAIRPINS = 4;

/** An engine with the kernel of its relay around it. */
export class EngineSubject implements Subject {
  readonly name: string;
  protected readonly engine: Engine;
  #outputs: Output[] = [];
  readonly #leased = new Map<
    string,
    { readonly address: string; readonly anchor: string; readonly session: string }
  >();
  #nowMs = 0;
  #depth = 0;

  constructor(name: string, makeEngine: MakeEngine, settings: Settings) {
    this.name = name;
    this.engine = makeEngine({
      relayBoot: RELAY_BOOT,
      random: seededOctets(1),
      ...settings,
      io: {
        toDevice: (endpoint, { key: path }, buffer, at, length, outerClass) =>
          void this.emit({ to: 'device', endpoint, path, octets: buffer.slice(at, at + length), outerClass }),
        toNetwork: (buffer, at, length) => this.#forward(buffer.slice(at, at + length)),
        event: () => {},
      },
    });
  }

  protected emit(output: Output): void {
    this.#outputs.push(output);
  }

  command(command: EngineCommand, nowMs: number) {
    this.#nowMs = nowMs;
    try {
      const answer = this.engine.command(command, nowMs);
      this.#route(command);
      return answer !== null && 'sessions' in answer ? answer.sessions : null;
    } catch (error) {
      const code = (error as { code?: unknown }).code;
      if (typeof code !== 'string' || !code.startsWith('ERR_MOORING_')) throw error;
      return code;
    }
  }

  frame(frame: Uint8Array, nowMs: number): void {
    this.#nowMs = nowMs;
    const packet = packetOf(frame);
    if (packet === null) return;
    const destination = destinationOf(packet);
    if (this.#isLeased(destination)) {
      if (hop(packet)) this.#intoTun(packet);
      return;
    }
    const outer = datagramOf(packet);
    if (outer === null || outer.destinationPort !== TUNNEL_PORT) return;
    const address = textOf(outer.source);
    const port = outer.sourcePort;
    const source: SocketAddress = { address, port, key: `${address}|${port}` };
    const arena = new Uint8Array(32 + outer.payload.length + 5).fill(0xee);
    arena.set(outer.payload, 32);
    this.engine.datagram(destination, source, arena, 32, outer.payload.length, nowMs, outer.trafficClass);
  }

  nextDueMs(): number {
    return this.engine.nextDueMs();
  }

  tick(nowMs: number): void {
    this.#nowMs = nowMs;
    this.engine.tick(nowMs);
  }

  take(): Output[] {
    const outputs = this.#outputs;
    this.#outputs = [];
    return outputs;
  }

  counters(): EngineCounters {
    return this.engine.command({ op: 'counters' }, this.#nowMs);
  }

  /** What the relay's routes say: every address of an installed lease goes into the TUN device. */
  #route(command: EngineCommand): void {
    if (command.op === 'lease') {
      const { id, address, anchor, session } = command.lease;
      this.#leased.set(id, { address, anchor, session });
    } else if (command.op === 'drop-lease') this.#leased.delete(command.id);
    else if (command.op === 'drop-session') this.#unroute(({ session }) => session === command.id);
    else if (command.op === 'drop-anchor') this.#unroute(({ anchor }) => anchor === command.anchor);
  }

  #unroute(matches: (lease: { anchor: string; session: string }) => boolean): void {
    for (const [id, lease] of this.#leased) if (matches(lease)) this.#leased.delete(id);
  }

  #isLeased(address: string): boolean {
    for (const lease of this.#leased.values()) if (lease.address === address) return true;
    return false;
  }

  #intoTun(packet: Uint8Array): void {
    // Too long for the device: the kernel says so to the sender.
    if (packet.length > INNER_MTU) return;
    const buffer = new Uint8Array(DATA.inner + packet.length);
    buffer.set(packet, DATA.inner);
    this.engine.packet(buffer, DATA.inner, packet.length, this.#nowMs);
  }

  /** Out of the TUN device: one hop, to the public side or back in. */
  #forward(packet: Uint8Array): void {
    if (!hop(packet)) return;
    if (!this.#isLeased(destinationOf(packet))) {
      this.emit({ to: 'network', octets: packet });
    } else if (this.#depth < HAIRPINS) {
      this.#depth += 1;
      this.#intoTun(packet);
      this.#depth -= 1;
    }
  }
}
