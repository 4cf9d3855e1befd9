import type { SocketAddress } from '../../../src/protocol/address.ts';
import type { createDeviceRebinding } from '../../../src/rebinding/device.ts';
import type { DeviceOutput, DeviceRebinding, LinkId } from '../../../src/rebinding/device-io.ts';
import type { ControlMessage } from '../../../src/tunnel/message.ts';
import type { SimulatedClock } from './clock.ts';
import type { RebindingNetwork } from './network.ts';
import { type Payload, sealed } from './payload.ts';
import type { RebindingPromises } from './promises.ts';

/** The device's state machine, and its engine as the machine's outputs make it. */
export class DeviceEnd {
  machine!: DeviceRebinding;
  readonly outputs: DeviceOutput[] = [];
  readonly delivered: { readonly message: ControlMessage; readonly link: LinkId }[] = [];
  /** DATA that it could read. */
  readonly downlink: { readonly atMs: number; readonly sequence: number }[] = [];
  /** What it sends DATA under, and all that it receives under. */
  key: string | null = null;
  keys = new Set<string>();
  readonly #create: typeof createDeviceRebinding;
  readonly #clock: SimulatedClock;
  readonly #network: RebindingNetwork;
  readonly #promises: RebindingPromises;
  #boot = 0n;
  #counter = 0n;
  #sequence = 0;

  constructor(
    create: typeof createDeviceRebinding,
    clock: SimulatedClock,
    network: RebindingNetwork,
    promises: RebindingPromises,
  ) {
    this.#create = create;
    this.#clock = clock;
    this.#network = network;
    this.#promises = promises;
  }

  begin(boot: bigint): void {
    this.#boot = boot;
    this.#counter = 0n;
    this.key = null;
    this.keys = new Set();
    this.machine = this.#create({ boot });
  }

  arrive(payload: Payload, link: LinkId, at: SocketAddress): void {
    if (payload.kind === 'data') {
      if (!this.keys.has(payload.key)) return;
      this.downlink.push({ atMs: this.#clock.nowMs, sequence: payload.sequence });
      this.machine.noteReceived(this.#clock.nowMs);
      return;
    }
    if (payload.kind === 'challenge') this.#promises.challenged(payload.boot, at);
    this.delivered.push({ message: payload, link });
    this.step({ type: 'control', link, message: payload });
  }

  sendData(): void {
    const { uplink, keyNumber } = this.machine;
    if (uplink === null || this.key === null) return;
    this.#sequence += 1;
    this.#network.sendUp(uplink, { kind: 'data', key: this.key, keyNumber, sequence: this.#sequence });
    this.machine.noteSent(this.#clock.nowMs);
  }

  step(input: Parameters<DeviceRebinding['step']>[0]): void {
    const { epoch } = this.machine;
    const outputs = this.machine.step(input, this.#clock.nowMs);
    if (this.machine.epoch < epoch) {
      this.#promises.break('the device went back to a former incarnation of the relay');
    }
    this.outputs.push(...outputs);
    for (const output of outputs) this.#carryOut(output);
  }

  #carryOut(output: DeviceOutput): void {
    if (output.type === 'send' || output.type === 'signal') {
      this.#counter += 1n;
      const message = sealed(output.draft, this.#boot, this.#counter);
      if (output.type === 'send') this.#network.sendUp(output.link, message);
      else this.#network.signal(message);
    } else if (output.type === 'keys') {
      this.key = `${output.epoch}/${output.relayBoot}/${this.#boot}/${output.keyNumber}`;
      this.keys.add(this.key);
    }
  }
}
