import {
  createDeviceSession,
  type DeviceSession,
  type DeviceSessionEvent,
} from '../../../clients/sdk/session.ts';
import type { SocketAddress } from '../../../src/protocol/address.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { anchor, at, EngineRig, rootOf, sessionId } from '../datapath/engine-rig.ts';
import { esp, ip, lease } from '../datapath/packets.ts';

export const LEASED = '203.0.113.7';
export const PEER = '198.51.100.9';
const held = lease({ kind: 'rsa-ip', address: LEASED });
const INDEX = 1;
const PACKET_EVERY_MS = 2;

export const up = (n: number): Uint8Array => ip(LEASED, PEER, 50, esp(0x1000, n));
export const down = (n: number): Uint8Array => ip(PEER, LEASED, 50, esp(0x2000, n));
/** The number in a packet that `up` or `down` made. */
const numberOf = (packet: Uint8Array): number => new DataView(packet.buffer, packet.byteOffset).getUint32(24);

/**
 * The device's session and the relay's real engine on one clock, an in-memory network with a delay between
 * them, and a packet every 2 ms in each direction.
 */
export class SessionWorld {
  nowMs = 1_000;
  relay = new EngineRig(0xa1n, 1);
  session: DeviceSession;
  readonly events: DeviceSessionEvent[] = [];
  readonly delayMs: number;
  readonly addresses = new Map<string, SocketAddress>([
    ['wifi', at('192.0.2.10', 40_000)],
    ['cell', at('192.0.2.77', 50_000)],
  ]);
  readonly sent = { up: 0, down: 0 };
  readonly received: { up: number[]; down: number[] } = { up: [], down: [] };
  flowing = false;
  #flight: { readonly atMs: number; readonly arrive: () => void }[] = [];
  #up = new Set(['wifi', 'cell']);
  #nextPacketAtMs = 0;
  readonly #believes: string;

  /** `believes`: the address that the device thinks it leased. */
  constructor(delayMs = 10, believes = LEASED) {
    this.delayMs = delayMs;
    this.#believes = believes;
    this.#installAt(this.relay, 1n);
    this.session = this.#newSession(0xd1n);
  }

  #newSession(boot: bigint): DeviceSession {
    return createDeviceSession({
      root: rootOf(INDEX),
      index: INDEX,
      boot,
      addresses: [this.#believes],
      sink: {
        send: (link, buffer, from, length) => {
          const source = this.addresses.get(link);
          if (source === undefined || !this.#up.has(link)) return;
          const octets = buffer.slice(from, from + length);
          this.#later(() => this.relay.datagram(source, octets));
        },
        deliver: (buffer, from, length) =>
          void this.received.down.push(numberOf(buffer.slice(from, from + length))),
        signal: (link, datagram) => {
          const believed = this.addresses.get(link);
          if (believed === undefined) return;
          this.#later(() => this.relay.command({ op: 'rebind', anchor: 'a1', datagram, believed }));
        },
        event: (event) => void this.events.push(event),
      },
    });
  }

  #installAt(rig: EngineRig, epoch: bigint): void {
    rig.nowMs = this.nowMs;
    anchor(rig, { epoch });
    const session = { id: sessionId(INDEX), index: INDEX, root: rootOf(INDEX), hint: null };
    rig.command({ op: 'session', anchor: 'a1', session });
    rig.command({ op: 'lease', anchor: 'a1', lease: { ...held, session: session.id }, untilMs: 1e9 });
    rig.pass(0);
  }

  /** The relay's process dies and starts again. */
  restartRelay(): void {
    this.relay = new EngineRig(0xa2n, 2);
    this.#installAt(this.relay, 2n);
  }

  /** The anchor moves to another relay, as planned. */
  handOver(): void {
    const { sessions } = this.relay.command({ op: 'export', anchor: 'a1' });
    this.#collect();
    this.relay = new EngineRig(0xb2n, 3);
    this.#installAt(this.relay, 2n);
    this.relay.command({ op: 'import', anchor: 'a1', sessions: structuredClone(sessions) });
  }

  /** The device's process dies and starts again. */
  restartDevice(): void {
    this.session = this.#newSession(0xd2n);
  }

  use(link: string, oldPath: 'alive' | 'dead' | 'unknown'): void {
    this.session.link({ type: 'use', link, oldPath }, this.nowMs);
  }

  /** The link is gone, with what is on it. */
  cut(link: string): void {
    this.#up.delete(link);
    this.session.link({ type: 'link-gone', link }, this.nowMs);
  }

  restore(link: string): void {
    this.#up.add(link);
  }

  /** The NAT gives the link another port, silently. */
  remap(link: string, port: number): void {
    this.addresses.set(link, at(this.addresses.get(link)!.address, port));
  }

  run(ms: number): void {
    const untilMs = this.nowMs + ms;
    while (this.nowMs < untilMs) {
      this.nowMs += 1;
      this.relay.nowMs = this.nowMs;
      for (const { arrive } of this.#arrived()) arrive();
      if (this.flowing && this.nowMs >= this.#nextPacketAtMs) this.#traffic();
      if (this.session.nextDueMs <= this.nowMs) this.session.tick(this.nowMs);
      this.relay.pass(0);
      this.#collect();
    }
  }

  /** Numbers that were sent and have not arrived, and those that arrived out of order or twice. */
  missing(way: 'up' | 'down', from = 1): number[] {
    const got = new Set(this.received[way]);
    return Array.from({ length: this.sent[way] }, (_, i) => i + 1).filter((n) => n >= from && !got.has(n));
  }

  disorder(way: 'up' | 'down'): number {
    return this.received[way].filter((n, i, all) => i > 0 && n <= all[i - 1]!).length;
  }

  #traffic(): void {
    this.#nextPacketAtMs = this.nowMs + PACKET_EVERY_MS;
    this.sent.up += 1;
    this.sent.down += 1;
    const packet = up(this.sent.up);
    const roomy = new Uint8Array(DATA.inner + packet.length);
    roomy.set(packet, DATA.inner);
    this.session.packet(roomy, DATA.inner, packet.length, this.nowMs);
    this.relay.packet(down(this.sent.down));
  }

  /** What the relay put out: inner packets have arrived, datagrams set out for the device. */
  #collect(): void {
    for (const packet of this.relay.takeToNetwork()) this.received.up.push(numberOf(packet));
    for (const { to, octets } of this.relay.takeSent()) {
      this.#later(() => {
        for (const [link, address] of this.addresses) {
          if (address.key !== to.key || !this.#up.has(link)) continue;
          this.session.datagram(link, octets, 0, octets.length, this.nowMs);
        }
      });
    }
  }

  #later(arrive: () => void): void {
    this.#flight.push({ atMs: this.nowMs + this.delayMs, arrive });
  }

  #arrived() {
    const due = this.#flight.filter(({ atMs }) => atMs <= this.nowMs);
    this.#flight = this.#flight.filter(({ atMs }) => atMs > this.nowMs);
    return due;
  }
}
