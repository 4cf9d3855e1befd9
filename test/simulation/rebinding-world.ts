import { type SocketAddress, socketAddress } from '../../src/protocol/address.ts';
import type { createDeviceRebinding } from '../../src/rebinding/device.ts';
import type { DeviceOutput, DeviceRebinding, LinkId } from '../../src/rebinding/device-io.ts';
import type { createRelayRebinding } from '../../src/rebinding/relay.ts';
import type { RelayInput, RelayOutput, RelayRebinding } from '../../src/rebinding/relay-io.ts';
import type { ControlDraft, ControlMessage } from '../../src/tunnel/message.ts';
import { CONTROL, type OldPath } from '../../src/tunnel/wire.ts';
import { RebindingPromises } from './rebinding-promises.ts';

/** What one DATA datagram of the model carries: which key it was made with, and its sequence. */
interface DataPacket {
  readonly kind: 'data';
  readonly key: string;
  readonly keyNumber: number;
  readonly sequence: number;
}
type Payload = ControlMessage | DataPacket;

export interface Captured {
  readonly payload: Payload;
  /** Uplink: where it came from. Downlink: where it went. */
  readonly address: SocketAddress;
}

export interface Machines {
  readonly createRelayRebinding: typeof createRelayRebinding;
  readonly createDeviceRebinding: typeof createDeviceRebinding;
}

export interface Network {
  /** One way. */
  delayMs: number;
  /** Added at random, so that datagrams overtake each other. */
  jitterMs: number;
  /** Probability, 0–1. */
  loss: number;
  duplication: number;
}

/** A hint that comes late comes so long after its relay. */
const LATE_HINT_MS = 15;

interface Link {
  address: SocketAddress;
  up: boolean;
}

/** DATA of the model: big enough that one pays for a challenge, small enough that two are needed for small ones. */
export const DATA_OCTETS = 100;
const DATA_EVERY_MS = 20;

/**
 * A device, its relay, the network between them and an attacker, on one simulated clock. The relay's packet
 * engine is modelled from the machine's outputs alone; every promise that can be broken is checked as it happens
 * ({@link RebindingPromises}) and noted in `broken`.
 *
 * The attacker sees every datagram and can send any of them to the relay from any address at any time, also
 * before the original arrives, and to the device again what it already received. He is not a path: a challenge
 * that goes to an address where the device is not does not reach the device.
 */
export class RebindingWorld {
  readonly network: Network = { delayMs: 20, jitterMs: 0, loss: 0, duplication: 0 };
  readonly broken: string[] = [];
  readonly relayOutputs: RelayOutput[] = [];
  readonly deviceOutputs: DeviceOutput[] = [];
  readonly uplinkCaptured: Captured[] = [];
  readonly delivered: { readonly message: ControlMessage; readonly link: LinkId }[] = [];
  readonly flips: { readonly atMs: number; readonly path: SocketAddress }[] = [];
  readonly downlink: { readonly atMs: number; readonly sequence: number }[] = [];
  nowMs = 0;
  /** The next that many uplink datagrams reach the relay first from here. */
  racing: { from: SocketAddress; left: number } | null = null;
  sendsData = true;
  receivesData = true;

  relay!: RelayRebinding;
  device!: DeviceRebinding;
  relayBoot = 0n;
  deviceBoot = 0n;
  epoch = 0n;
  readonly links = new Map<LinkId, Link>();

  readonly #machines: Machines;
  readonly #random: () => number;
  #queue: { atMs: number; order: number; run: () => void }[] = [];
  #order = 0;
  #tickMs = 0;
  #ticks = 0;
  #nextBoot = 1n;
  #nextPort = 10_000;
  #relayCounter = 0n;
  #deviceCounter = 0n;
  #relayUpMs = 0;
  /** The packet engine, as the outputs made it. */
  #active: SocketAddress | null = null;
  #holdUntilMs: number | null = null;
  #receiveKeys = new Set<string>();
  #sendKey: string | null = null;
  #sendKeyNumber = 0;
  #relaySequence = 0;
  #received = new Set<string>();
  #arrived = new Set<string>();
  #deviceKey: string | null = null;
  #deviceKeys = new Set<string>();
  #deviceSequence = 0;
  readonly #promises = new RebindingPromises((what) => this.#break(what));

  constructor(machines: Machines, random: () => number) {
    this.#machines = machines;
    this.#random = random;
    for (const link of ['wifi', 'cell']) this.links.set(link, { address: this.#newAddress(), up: true });
    this.#startRelay(null, 0);
    this.#startDevice();
    this.#at(DATA_EVERY_MS, () => this.#dataRound());
  }

  // --- what a scenario does ---------------------------------------------------------------------------

  runUntil(untilMs: number): void {
    for (;;) {
      this.#arm();
      const next = this.#queue[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#queue.shift();
      this.nowMs = Math.max(this.nowMs, next.atMs);
      next.run();
    }
    this.nowMs = untilMs;
  }

  run(ms: number): void {
    this.runUntil(this.nowMs + ms);
  }

  use(link: LinkId, oldPath: OldPath): void {
    this.#device({ type: 'use', link, oldPath });
  }

  probe(link: LinkId): void {
    this.#device({ type: 'probe', link, id: 1 });
  }

  leaving(): void {
    this.#device({ type: 'leaving' });
  }

  /** The link goes; the device knows, and takes another one when there is one. */
  cut(link: LinkId): void {
    const down = this.links.get(link)!;
    if (!down.up) return;
    down.up = false;
    const wasUsed = this.device.uplink === link || this.device.bound === link || this.device.uplink === null;
    this.#device({ type: 'link-gone', link });
    const other = [...this.links].find(([, { up }]) => up)?.[0];
    if (wasUsed && other !== undefined && !(this.device.binding && this.device.uplink === other)) {
      this.use(other, 'dead');
    }
  }

  /** The link is back, with another address. */
  restore(link: LinkId): void {
    const up = this.links.get(link)!;
    if (up.up) return;
    up.up = true;
    up.address = this.#newAddress();
    if (this.device.uplink === null) this.use(link, 'dead');
  }

  /** The NAT in front of the link forgets its mapping; nobody is told. */
  remap(link: LinkId): SocketAddress {
    const mapped = this.links.get(link)!;
    mapped.address = this.#newAddress();
    return mapped.address;
  }

  /** `hint`: whether the next one knows where the device was, or hears of it when it may be proven already. */
  restartRelay(hint: 'none' | 'known' | 'late', gapMs = 0): void {
    const { active, generation, deviceBoot } = this.relay;
    const known = active === null ? null : { path: active, generation, deviceBoot };
    this.#startRelay(hint === 'known' ? known : null, gapMs, hint === 'late');
    const { epoch } = this;
    if (known === null || hint !== 'late') return;
    this.#at(gapMs + LATE_HINT_MS, () => {
      if (this.epoch !== epoch) return;
      this.#promises.grant(known.path, 4 * CONTROL.length);
      this.#relay({ type: 'hint', hint: known });
    });
  }

  handOver(): void {
    const state = this.relay.exportState();
    if (state === null) {
      this.restartRelay('none');
      return;
    }
    const former = { sendKey: this.#sendKey, number: this.#sendKeyNumber, keys: this.#receiveKeys };
    this.#newRelayIncarnation(0);
    this.relay = this.#machines.createRelayRebinding({
      epoch: this.epoch,
      relayBoot: this.relayBoot,
      random: this.#octets,
      resumed: state,
    });
    this.#active = state.active;
    if (state.active) this.#promises.proven(state.active);
    this.#promises.accepted(this.#generationScope(state.deviceBoot), state.generation);
    this.#sendKey = former.sendKey;
    this.#sendKeyNumber = former.number;
    this.#receiveKeys = new Set(former.keys);
  }

  restartDevice(): void {
    for (const link of this.links.keys()) this.remap(link);
    this.#startDevice();
    const up = [...this.links].find(([, link]) => link.up)?.[0];
    if (up !== undefined) this.use(up, 'unknown');
  }

  rekey(): void {
    this.#relay({ type: 'rekey' });
  }

  /** The attacker sends to the relay, now. */
  inject(captured: Captured, from: SocketAddress): void {
    this.#arriveAtRelay(captured.payload, from);
  }

  /** The attacker repeats to the device what it already received. */
  injectDown(index: number): void {
    const again = this.delivered[index];
    if (again) this.#device({ type: 'control', link: again.link, message: again.message });
  }

  address(link: LinkId): SocketAddress {
    return this.links.get(link)!.address;
  }

  /** The engine's path, and whether it holds, as the outputs made them. */
  get active(): SocketAddress | null {
    return this.#active;
  }
  get holding(): boolean {
    return this.#holdUntilMs !== null;
  }
  /** Until then a restarting relay hears nothing. */
  get relayUpMs(): number {
    return this.#relayUpMs;
  }

  /** Null when both ends agree on path and keys, else what they do not agree on. */
  disagreement(): string | null {
    const link = this.device.uplink;
    if (link === null) return 'the device has no uplink';
    if (this.device.binding) return 'the device is still binding';
    if (this.#active?.key !== this.address(link).key) return 'the relay sends elsewhere';
    if (this.device.bound !== link) return 'the device believes another link bound';
    if (this.#sendKey === null || !this.#deviceKeys.has(this.#sendKey))
      return 'the device cannot read downlink';
    if (this.#deviceKey === null || !this.#receiveKeys.has(this.#deviceKey))
      return 'the relay cannot read uplink';
    if (this.#deviceKey !== this.#sendKey) return 'they use different keys';
    return null;
  }

  // --- the network ------------------------------------------------------------------------------------

  #transmit(arrive: () => void): void {
    const { delayMs, jitterMs, loss, duplication } = this.network;
    if (this.#random() >= loss) this.#at(delayMs + this.#random() * jitterMs, arrive);
    if (this.#random() < duplication) this.#at(delayMs + this.#random() * (jitterMs + 30), arrive);
  }

  #sendUp(link: LinkId, payload: Payload): void {
    const { address, up } = this.links.get(link)!;
    if (!up) return;
    this.uplinkCaptured.push({ payload, address });
    if (this.racing && this.racing.left > 0) {
      this.racing.left -= 1;
      this.inject({ payload, address }, this.racing.from);
    }
    this.#transmit(() => this.#arriveAtRelay(payload, address));
  }

  #sendDown(to: SocketAddress, payload: Payload): void {
    this.#transmit(() => {
      for (const [link, { address, up }] of this.links) {
        if (up && address.key === to.key) this.#arriveAtDevice(link, payload, to);
      }
    });
  }

  #arriveAtRelay(payload: Payload, from: SocketAddress): void {
    if (this.nowMs < this.#relayUpMs) return;
    const octets = payload.kind === 'data' ? DATA_OCTETS : CONTROL.length;
    this.#promises.grant(from, octets);
    if (payload.kind !== 'data') {
      this.#controlAtRelay(payload, from);
      return;
    }
    const id = `${payload.key}#${payload.sequence}`;
    const fresh = this.#receiveKeys.has(payload.key) && !this.#received.has(id);
    if (fresh) this.#received.add(id);
    if (from.key === this.#active?.key && payload.keyNumber === this.#sendKeyNumber) return;
    this.#relay({ type: 'data', from, fresh, keyNumber: payload.keyNumber, octets });
  }

  /** A datagram that arrived before, from wherever it comes, changes nothing and gets no answer. */
  #controlAtRelay(message: ControlMessage, from: SocketAddress): void {
    const id = `${message.boot}/${message.counter}`;
    const isAgain = this.#arrived.has(id) && message.boot === this.relay.deviceBoot;
    this.#arrived.add(id);
    if (isAgain) this.#relay({ type: 'tick' });
    const outputs = this.#relay({ type: 'control', from, message });
    if (isAgain && outputs.some(({ type }) => type !== 'count'))
      this.#break('a replayed message did something');
  }

  #arriveAtDevice(link: LinkId, payload: Payload, at: SocketAddress): void {
    if (payload.kind === 'data') {
      if (!this.#deviceKeys.has(payload.key)) return;
      this.downlink.push({ atMs: this.nowMs, sequence: payload.sequence });
      this.device.noteReceived(this.nowMs);
      return;
    }
    if (payload.kind === 'challenge') this.#promises.challenged(payload.boot, at);
    this.delivered.push({ message: payload, link });
    this.#device({ type: 'control', link, message: payload });
  }

  #dataRound(): void {
    this.#at(DATA_EVERY_MS, () => this.#dataRound());
    const link = this.device.uplink;
    if (this.sendsData && link !== null && this.#deviceKey !== null) {
      this.#deviceSequence += 1;
      const { keyNumber } = this.device;
      this.#sendUp(link, { kind: 'data', key: this.#deviceKey, keyNumber, sequence: this.#deviceSequence });
      this.device.noteSent(this.nowMs);
    }
    if (this.receivesData && this.#active && this.#sendKey !== null && this.#holdUntilMs === null) {
      if (this.nowMs < this.#relayUpMs) return;
      this.#relaySequence += 1;
      const keyNumber = this.#sendKeyNumber;
      this.#sendDown(this.#active, {
        kind: 'data',
        key: this.#sendKey,
        keyNumber,
        sequence: this.#relaySequence,
      });
    }
  }

  // --- the two ends -----------------------------------------------------------------------------------

  #relay(input: RelayInput): readonly RelayOutput[] {
    if (input.type === 'signalled') this.#promises.grant(input.believed, CONTROL.length);
    const before = this.relay.deviceBoot;
    const outputs = this.relay.step(input, this.nowMs);
    this.relayOutputs.push(...outputs);
    for (const output of outputs) this.#carryOutAtRelay(output);
    if (before !== 0n && this.relay.deviceBoot === 0n) this.#break('the relay forgot its device');
    return outputs;
  }

  #carryOutAtRelay(output: RelayOutput): void {
    switch (output.type) {
      case 'send': {
        this.#promises.sent(output.to, output.draft);
        this.#relayCounter += 1n;
        this.#sendDown(output.to, sealed(output.draft, this.relayBoot, this.#relayCounter));
        break;
      }
      case 'hold':
        this.#promises.held(output.untilMs - this.nowMs);
        this.#holdUntilMs = output.untilMs;
        break;
      case 'release':
        this.#holdUntilMs = null;
        break;
      case 'flip':
        this.#promises.flipped(output.path, this.relayBoot, this.holding);
        this.#active = output.path;
        this.flips.push({ atMs: this.nowMs, path: output.path });
        break;
      case 'keys': {
        const key = `${this.epoch}/${this.relayBoot}/${output.deviceBoot}/${output.keyNumber}`;
        this.#promises.began(key);
        this.#receiveKeys.add(key);
        break;
      }
      case 'sender-keys':
        this.#sendKey = `${this.epoch}/${this.relayBoot}/${this.relay.deviceBoot}/${output.keyNumber}`;
        this.#sendKeyNumber = output.keyNumber;
        if (!this.#receiveKeys.has(this.#sendKey)) this.#break('downlink uses a key that was not derived');
        break;
      case 'moved':
        this.#promises.moved(this.#generationScope(output.deviceBoot), output.generation);
        break;
      case 'count':
        break;
      default:
        output satisfies never;
    }
  }

  #device(input: Parameters<DeviceRebinding['step']>[0]): void {
    const { epoch } = this.device;
    const outputs = this.device.step(input, this.nowMs);
    if (this.device.epoch < epoch) this.#break('the device went back to a former incarnation of the relay');
    this.deviceOutputs.push(...outputs);
    for (const output of outputs) {
      if (output.type === 'send') {
        this.#deviceCounter += 1n;
        this.#sendUp(output.link, sealed(output.draft, this.deviceBoot, this.#deviceCounter));
      } else if (output.type === 'signal') {
        this.#deviceCounter += 1n;
        const message = sealed(output.draft, this.deviceBoot, this.#deviceCounter);
        const believed = socketAddress('10.0.0.2', 4000);
        this.#at(100, () => {
          if (this.nowMs >= this.#relayUpMs) this.#relay({ type: 'signalled', believed, message });
        });
      } else if (output.type === 'keys') {
        this.#deviceKey = `${output.epoch}/${output.relayBoot}/${this.deviceBoot}/${output.keyNumber}`;
        this.#deviceKeys.add(this.#deviceKey);
      }
    }
  }

  #startDevice(): void {
    this.deviceBoot = this.#nextBoot++;
    this.#deviceCounter = 0n;
    this.#deviceKey = null;
    this.#deviceKeys = new Set();
    this.device = this.#machines.createDeviceRebinding({ boot: this.deviceBoot });
  }

  #startRelay(
    hint: { path: SocketAddress; generation: number; deviceBoot: bigint } | null,
    gapMs: number,
    awaitsHint = false,
  ): void {
    this.#newRelayIncarnation(gapMs);
    // The challenges that a hint is worth come on top of what is answered.
    if (hint) this.#promises.grant(hint.path, 4 * CONTROL.length);
    if (hint) this.#promises.accepted(this.#generationScope(hint.deviceBoot), hint.generation);
    this.relay = this.#machines.createRelayRebinding({
      epoch: this.epoch,
      relayBoot: this.relayBoot,
      random: this.#octets,
      hint,
      awaitsHint,
    });
  }

  #newRelayIncarnation(gapMs: number): void {
    this.epoch += 1n;
    this.relayBoot = this.#nextBoot++;
    this.#relayCounter = 0n;
    this.#relayUpMs = this.nowMs + gapMs;
    this.#active = null;
    this.#holdUntilMs = null;
    this.#receiveKeys = new Set();
    this.#sendKey = null;
    this.#sendKeyNumber = 0;
    this.#promises.relayBegins();
    this.#arrived = new Set();
  }

  #generationScope(deviceBoot: bigint): string {
    return `${this.epoch}/${deviceBoot}`;
  }

  // --- the clock --------------------------------------------------------------------------------------

  #at(afterMs: number, run: () => void): void {
    const event = { atMs: this.nowMs + afterMs, order: this.#order++, run };
    let at = this.#queue.length;
    while (at > 0 && this.#queue[at - 1]!.atMs > event.atMs) at -= 1;
    this.#queue.splice(at, 0, event);
  }

  /** Ticks are events too: a machine that is due before the next one goes first. */
  #arm(): void {
    const relayMs = Math.max(this.relay.nextDueMs, this.#relayUpMs);
    const dueMs = Math.max(Math.min(relayMs, this.device.nextDueMs), this.nowMs);
    if (dueMs > (this.#queue[0]?.atMs ?? Number.POSITIVE_INFINITY)) return;
    if (this.#holdUntilMs !== null && this.#holdUntilMs < this.nowMs) this.#break('a hold did not end');
    this.#ticks = dueMs > this.#tickMs ? 1 : this.#ticks + 1;
    this.#tickMs = dueMs;
    if (this.#ticks > 100) throw new Error(`a machine is due at ${dueMs} ms for ever`);
    const run = relayMs <= dueMs ? () => this.#relay({ type: 'tick' }) : () => this.#device({ type: 'tick' });
    this.#queue.unshift({ atMs: dueMs, order: this.#order++, run });
  }

  #newAddress(): SocketAddress {
    this.#nextPort += 1;
    return socketAddress('198.51.100.7', this.#nextPort);
  }

  readonly #octets = (count: number): Uint8Array =>
    Uint8Array.from({ length: count }, () => Math.floor(this.#random() * 256));

  #break(what: string): void {
    this.broken.push(`at ${this.nowMs.toFixed(1)} ms: ${what}`);
  }
}

function sealed(draft: ControlDraft, boot: bigint, counter: bigint): ControlMessage {
  return {
    epoch: 0n,
    echoBoot: 0n,
    echoCounter: 0n,
    generation: 0,
    keyNumber: 0,
    oldPath: 'unknown',
    code: 0,
    cookie: new Uint8Array(16),
    observed: null,
    delayMs: 0,
    ...draft,
    boot,
    counter,
  };
}

/** A small seeded generator (mulberry32): the same seed gives the same world. */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}
