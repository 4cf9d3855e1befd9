import type { EngineCommand, EngineEvent } from '../../../src/datapath/engine-api.ts';
import type { FastPath } from '../../../src/datapath/fast-path.ts';
import { createEngine, type Engine } from '../../../src/datapath/userspace/engine.ts';
import type { SocketAddress } from '../../../src/protocol/address.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { at, HandDevice } from './hand-device.ts';
import { seededOctets } from './seeded-octets.ts';

export const ENDPOINT = '203.0.113.1';
export const ENDPOINT6 = '2001:db8::1';

type EngineOptions = Parameters<typeof createEngine>[0];

export interface Sent {
  readonly endpoint: string;
  readonly to: SocketAddress;
  readonly octets: Uint8Array;
  /** DSCP and ECN of the outer header. */
  readonly octet: number;
}

/** An engine whose network is a list, on a clock that a test moves. */
export class EngineRig {
  nowMs = 1000;
  readonly engine: Engine;
  /** What left towards devices and towards the network since it was last looked at. */
  sent: Sent[] = [];
  toNetwork: Uint8Array[] = [];
  readonly events: EngineEvent[] = [];

  constructor(
    relayBoot: bigint,
    seed = 1,
    rekeyAfterPackets?: number,
    fast: FastPath | null = null,
    rules: Pick<EngineOptions, 'marking' | 'policing'> = {},
  ) {
    this.engine = createEngine({
      ...rules,
      relayBoot,
      fast,
      random: seededOctets(seed),
      ...(rekeyAfterPackets === undefined ? {} : { rekeyAfterPackets }),
      io: {
        toDevice: (endpoint, to, buffer, from, length, octet) =>
          void this.sent.push({ endpoint, to, octets: buffer.slice(from, from + length), octet }),
        toNetwork: (buffer, from, length) => void this.toNetwork.push(buffer.slice(from, from + length)),
        event: (event) => void this.events.push(event),
      },
    });
  }

  command<C extends EngineCommand>(command: C) {
    return this.engine.command(command, this.nowMs);
  }

  /** Lets time pass, ticking whenever something is due. */
  pass(ms: number): void {
    const end = this.nowMs + ms;
    for (let due = this.engine.nextDueMs(); due <= end; due = this.engine.nextDueMs()) {
      this.nowMs = Math.max(this.nowMs, due);
      this.engine.tick(this.nowMs);
    }
    this.nowMs = end;
    this.engine.tick(end);
  }

  /** A datagram that arrives somewhere in a larger buffer, as it does in a receive arena. */
  datagram(from: SocketAddress, octets: Uint8Array, endpoint = ENDPOINT, octet = 0): void {
    const arena = new Uint8Array(64 + octets.length + 7).fill(0xee);
    arena.set(octets, 64);
    this.engine.datagram(endpoint, from, arena, 64, octets.length, this.nowMs, octet);
  }

  /** A packet from the public side. */
  packet(inner: Uint8Array): void {
    const buffer = new Uint8Array(DATA.inner + inner.length);
    buffer.set(inner, DATA.inner);
    this.engine.packet(buffer, DATA.inner, inner.length, this.nowMs);
  }

  takeSent(): Sent[] {
    const sent = this.sent;
    this.sent = [];
    return sent;
  }

  takeToNetwork(): Uint8Array[] {
    const packets = this.toNetwork;
    this.toNetwork = [];
    return packets;
  }

  counters() {
    return this.command({ op: 'counters' });
  }

  /** Hands over to the device what was sent to `path`, and sends its proofs back from there, until nothing more comes. */
  converse(device: HandDevice, path: SocketAddress, endpoint = ENDPOINT): void {
    for (let round = 0; round < 8; round += 1) {
      const here = this.takeSent().filter(({ to }) => to.key === path.key);
      if (here.length === 0) return;
      for (const { octets } of here) {
        const message = device.take(octets, this.nowMs);
        if (message?.kind === 'challenge') this.datagram(path, device.proof(message), endpoint);
      }
    }
  }

  /** BIND from `path` until accepted: a device that knows nothing yet is told the incarnation first. */
  connect(device: HandDevice, path: SocketAddress, endpoint = ENDPOINT): void {
    this.datagram(path, device.bind(), endpoint);
    this.converse(device, path, endpoint);
    this.datagram(path, device.again(), endpoint);
    this.converse(device, path, endpoint);
  }
}

export function anchor(
  rig: EngineRig,
  fields: { id?: string; epoch?: bigint; untilMs?: number; endpoints?: string[]; resumes?: boolean } = {},
) {
  rig.command({
    op: 'anchor',
    anchor: {
      id: fields.id ?? 'a1',
      endpoints: fields.endpoints ?? [ENDPOINT, ENDPOINT6],
      epoch: fields.epoch ?? 1n,
      untilMs: fields.untilMs ?? Number.POSITIVE_INFINITY,
      resumes: fields.resumes ?? false,
    },
  });
}

export const sessionId = (index: number) => index.toString(16).padStart(32, '0');
export const rootOf = (index: number) => new Uint8Array(32).fill(index);

/** Installs a session with its leases, and returns its device. */
export function install(
  rig: EngineRig,
  index: number,
  leases: readonly Lease[],
  fields: { anchor?: string; boot?: bigint; untilMs?: number } = {},
): HandDevice {
  const anchorId = fields.anchor ?? 'a1';
  const id = sessionId(index);
  rig.command({ op: 'session', anchor: anchorId, session: { id, index, root: rootOf(index), hint: null } });
  for (const lease of leases) {
    const untilMs = fields.untilMs ?? 1e9;
    rig.command({ op: 'lease', anchor: anchorId, lease: { ...lease, session: id }, untilMs });
  }
  rig.pass(0);
  return new HandDevice(rootOf(index), index, fields.boot ?? BigInt(0xd000 + index));
}

export { at };
