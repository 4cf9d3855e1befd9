import { type SocketAddress, socketAddress } from '../../../src/protocol/address.ts';
import type { createRelayRebinding } from '../../../src/rebinding/relay.ts';
import type { PathHinted, RelayInput, RelayOutput, RelayRebinding } from '../../../src/rebinding/relay-io.ts';
import type { ControlMessage } from '../../../src/tunnel/message.ts';
import { CONTROL } from '../../../src/tunnel/wire.ts';
import type { SimulatedClock } from './clock.ts';
import type { RebindingNetwork } from './network.ts';
import { octetsOf, type Payload, sealed } from './payload.ts';
import type { RebindingPromises } from './promises.ts';

/** A hint that comes late comes so long after its relay. */
const LATE_HINT_MS = 15;
/** Challenges that a hint is worth, on top of what is answered. */
const HINT_OCTETS = 4 * CONTROL.length;
/** Where a device believes to be that signals a BIND. */
const BELIEVED = socketAddress('10.0.0.2', 4000);

/** The relay's state machine, and its packet engine as the machine's outputs alone make it. */
export class RelayEnd {
  machine!: RelayRebinding;
  epoch = 0n;
  /** While it restarts it hears nothing. */
  upMs = 0;
  readonly outputs: RelayOutput[] = [];
  readonly flips: { readonly atMs: number; readonly path: SocketAddress }[] = [];
  /** Where downlink goes, under which key; until when it is held. */
  active: SocketAddress | null = null;
  sendKey: string | null = null;
  holdUntilMs: number | null = null;
  receiveKeys = new Set<string>();
  readonly #create: typeof createRelayRebinding;
  readonly #clock: SimulatedClock;
  readonly #network: RebindingNetwork;
  readonly #promises: RebindingPromises;
  readonly #octets: (count: number) => Uint8Array;
  #boot = 0n;
  #counter = 0n;
  #sendKeyNumber = 0;
  #sequence = 0;
  readonly #received = new Set<string>();
  #arrived = new Set<string>();

  constructor(
    create: typeof createRelayRebinding,
    clock: SimulatedClock,
    network: RebindingNetwork,
    promises: RebindingPromises,
    random: () => number,
  ) {
    this.#create = create;
    this.#clock = clock;
    this.#network = network;
    this.#promises = promises;
    this.#octets = (count) => Uint8Array.from({ length: count }, () => Math.floor(random() * 256));
  }

  /** The first incarnation. */
  begin(boot: bigint): void {
    this.#newIncarnation(boot, 0);
    this.#start(boot, { hint: null });
  }

  /** `hint`: whether the next one knows where the device was, or hears of it when it may be proven already. */
  restart(boot: bigint, hint: 'none' | 'known' | 'late', gapMs: number): void {
    const { active, generation, deviceBoot } = this.machine;
    const known = active === null ? null : { path: active, generation, deviceBoot };
    this.#newIncarnation(boot, gapMs);
    if (hint === 'known' && known !== null) {
      this.#promises.grant(known.path, HINT_OCTETS);
      this.#promises.accepted(this.#generationScope(known.deviceBoot), known.generation);
    }
    this.#start(boot, { hint: hint === 'known' ? known : null, awaitsHint: hint === 'late' });
    if (known !== null && hint === 'late') this.#hintLater(known, gapMs);
  }

  /** To a relay that goes on with what this one knows. */
  handOver(boot: bigint): void {
    const state = this.machine.exportState();
    if (state === null) {
      this.restart(boot, 'none', 0);
      return;
    }
    const { sendKey, receiveKeys } = this;
    const sendKeyNumber = this.#sendKeyNumber;
    this.#newIncarnation(boot, 0);
    this.#start(boot, { resumed: state });
    this.active = state.active;
    if (state.active) this.#promises.proven(state.active);
    this.#promises.accepted(this.#generationScope(state.deviceBoot), state.generation);
    this.sendKey = sendKey;
    this.#sendKeyNumber = sendKeyNumber;
    this.receiveKeys = new Set(receiveKeys);
  }

  arrive(payload: Payload, from: SocketAddress): void {
    if (this.#clock.nowMs < this.upMs) return;
    const octets = octetsOf(payload);
    this.#promises.grant(from, octets);
    if (payload.kind !== 'data') {
      this.#control(payload, from);
      return;
    }
    const id = `${payload.key}#${payload.sequence}`;
    const fresh = this.receiveKeys.has(payload.key) && !this.#received.has(id);
    if (fresh) this.#received.add(id);
    if (from.key === this.active?.key && payload.keyNumber === this.#sendKeyNumber) return;
    this.step({ type: 'data', from, fresh, keyNumber: payload.keyNumber, octets });
  }

  signalled(message: ControlMessage): void {
    if (this.#clock.nowMs < this.upMs) return;
    this.#promises.grant(BELIEVED, CONTROL.length);
    this.step({ type: 'signalled', believed: BELIEVED, message });
  }

  sendData(): void {
    if (this.active === null || this.sendKey === null || this.holdUntilMs !== null) return;
    if (this.#clock.nowMs < this.upMs) return;
    this.#sequence += 1;
    this.#network.sendDown(this.active, {
      kind: 'data',
      key: this.sendKey,
      keyNumber: this.#sendKeyNumber,
      sequence: this.#sequence,
    });
  }

  step(input: RelayInput): readonly RelayOutput[] {
    const before = this.machine.deviceBoot;
    const outputs = this.machine.step(input, this.#clock.nowMs);
    this.outputs.push(...outputs);
    for (const output of outputs) this.#carryOut(output);
    if (before !== 0n && this.machine.deviceBoot === 0n) this.#promises.break('the relay forgot its device');
    return outputs;
  }

  /** A datagram that arrived before, from wherever it comes, changes nothing and gets no answer. */
  #control(message: ControlMessage, from: SocketAddress): void {
    const id = `${message.boot}/${message.counter}`;
    const isAgain = this.#arrived.has(id) && message.boot === this.machine.deviceBoot;
    this.#arrived.add(id);
    if (isAgain) this.step({ type: 'tick' });
    const outputs = this.step({ type: 'control', from, message });
    if (isAgain && outputs.some(({ type }) => type !== 'count')) {
      this.#promises.break('a replayed message did something');
    }
  }

  #carryOut(output: RelayOutput): void {
    switch (output.type) {
      case 'send': {
        this.#promises.sent(output.to, output.draft);
        this.#counter += 1n;
        this.#network.sendDown(output.to, sealed(output.draft, this.#boot, this.#counter));
        break;
      }
      case 'hold':
        this.#promises.held(output.untilMs - this.#clock.nowMs);
        this.holdUntilMs = output.untilMs;
        break;
      case 'release':
        this.holdUntilMs = null;
        break;
      case 'flip':
        this.#promises.flipped(output.path, this.#boot, this.holdUntilMs !== null);
        this.active = output.path;
        this.flips.push({ atMs: this.#clock.nowMs, path: output.path });
        break;
      case 'keys': {
        const key = this.#key(output.deviceBoot, output.keyNumber);
        this.#promises.began(key);
        this.receiveKeys.add(key);
        break;
      }
      case 'sender-keys':
        this.sendKey = this.#key(this.machine.deviceBoot, output.keyNumber);
        this.#sendKeyNumber = output.keyNumber;
        if (!this.receiveKeys.has(this.sendKey)) {
          this.#promises.break('downlink uses a key that was not derived');
        }
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

  #newIncarnation(boot: bigint, gapMs: number): void {
    this.epoch += 1n;
    this.upMs = this.#clock.nowMs + gapMs;
    this.active = null;
    this.holdUntilMs = null;
    this.receiveKeys = new Set();
    this.sendKey = null;
    this.#boot = boot;
    this.#counter = 0n;
    this.#sendKeyNumber = 0;
    this.#arrived = new Set();
    this.#promises.relayBegins();
  }

  #start(
    relayBoot: bigint,
    knowing: Pick<Parameters<typeof createRelayRebinding>[0], 'hint' | 'awaitsHint' | 'resumed'>,
  ): void {
    this.machine = this.#create({ epoch: this.epoch, relayBoot, random: this.#octets, ...knowing });
  }

  #hintLater(hint: PathHinted, gapMs: number): void {
    const { epoch } = this;
    this.#clock.at(gapMs + LATE_HINT_MS, () => {
      if (this.epoch !== epoch) return;
      this.#promises.grant(hint.path, HINT_OCTETS);
      this.step({ type: 'hint', hint });
    });
  }

  #key(deviceBoot: bigint, keyNumber: number): string {
    return `${this.epoch}/${this.#boot}/${deviceBoot}/${keyNumber}`;
  }

  #generationScope(deviceBoot: bigint): string {
    return `${this.epoch}/${deviceBoot}`;
  }
}
