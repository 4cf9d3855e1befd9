import type { SocketAddress } from '../../../src/protocol/address.ts';
import type { createDeviceRebinding } from '../../../src/rebinding/device.ts';
import type { DeviceRebinding, LinkId } from '../../../src/rebinding/device-io.ts';
import type { createRelayRebinding } from '../../../src/rebinding/relay.ts';
import type { RelayRebinding } from '../../../src/rebinding/relay-io.ts';
import type { OldPath } from '../../../src/tunnel/wire.ts';
import { SimulatedClock } from './clock.ts';
import { DeviceEnd } from './device-end.ts';
import { type Captured, RebindingNetwork } from './network.ts';
import { RebindingPromises } from './promises.ts';
import { RelayEnd } from './relay-end.ts';

export interface Machines {
  readonly createRelayRebinding: typeof createRelayRebinding;
  readonly createDeviceRebinding: typeof createDeviceRebinding;
}

const DATA_EVERY_MS = 20;
/** A machine that is due so often at one moment will be so for ever. */
const MOST_TICKS = 100;

/**
 * A device, its relay, the network between them and an attacker, on one simulated clock. Every promise that can be broken is
 * checked as it happens ({@link RebindingPromises}) and noted in `broken`.
 *
 * The attacker sees every datagram and can send any of them to the relay from any address at any time, also
 * before the original arrives, and to the device again what it already received. He is not a path: a challenge
 * that goes to an address where the device is not does not reach the device.
 */
export class RebindingWorld {
  sendsData = true;
  receivesData = true;
  readonly network: RebindingNetwork;
  readonly relayEnd: RelayEnd;
  readonly deviceEnd: DeviceEnd;
  readonly #clock = new SimulatedClock();
  readonly #promises = new RebindingPromises(this.#clock);
  #lastBoot = 0n;
  #tickMs = 0;
  #ticks = 0;

  constructor({ createRelayRebinding, createDeviceRebinding }: Machines, random: () => number) {
    const clock = this.#clock;
    const promises = this.#promises;
    this.network = new RebindingNetwork(clock, random);
    this.relayEnd = new RelayEnd(createRelayRebinding, clock, this.network, promises, random);
    this.deviceEnd = new DeviceEnd(createDeviceRebinding, clock, this.network, promises);
    this.network.connect({ relay: this.relayEnd, device: this.deviceEnd });
    this.relayEnd.begin(this.#newBoot());
    this.deviceEnd.begin(this.#newBoot());
    this.#dataRounds();
  }

  get nowMs(): number {
    return this.#clock.nowMs;
  }
  get relay(): RelayRebinding {
    return this.relayEnd.machine;
  }
  get device(): DeviceRebinding {
    return this.deviceEnd.machine;
  }
  get broken(): string[] {
    return this.#promises.broken;
  }
  /** The engine's path, and whether it holds, as the outputs made them. */
  get active(): SocketAddress | null {
    return this.relayEnd.active;
  }
  get holding(): boolean {
    return this.relayEnd.holdUntilMs !== null;
  }

  runUntil(untilMs: number): void {
    this.#clock.runUntil(untilMs, () => this.#nextTick());
  }

  run(ms: number): void {
    this.runUntil(this.nowMs + ms);
  }

  use(link: LinkId, oldPath: OldPath): void {
    this.deviceEnd.step({ type: 'use', link, oldPath });
  }

  probe(link: LinkId): void {
    this.deviceEnd.step({ type: 'probe', link, id: 1 });
  }

  leaving(): void {
    this.deviceEnd.step({ type: 'leaving' });
  }

  /** The link goes; the device knows, and takes another one when there is one. */
  cut(link: LinkId): void {
    if (!this.network.cut(link)) return;
    const { uplink, bound } = this.device;
    const wasUsed = uplink === link || bound === link || uplink === null;
    this.deviceEnd.step({ type: 'link-gone', link });
    const other = this.network.anyUp;
    if (wasUsed && other !== undefined && !(this.device.binding && this.device.uplink === other)) {
      this.use(other, 'dead');
    }
  }

  /** The link is back, with another address. */
  restore(link: LinkId): void {
    if (this.network.restore(link) && this.device.uplink === null) this.use(link, 'dead');
  }

  restartRelay(hint: 'none' | 'known' | 'late', gapMs = 0): void {
    this.relayEnd.restart(this.#newBoot(), hint, gapMs);
  }

  handOver(): void {
    this.relayEnd.handOver(this.#newBoot());
  }

  restartDevice(): void {
    for (const link of this.network.links.keys()) this.network.remap(link);
    this.deviceEnd.begin(this.#newBoot());
    const up = this.network.anyUp;
    if (up !== undefined) this.use(up, 'unknown');
  }

  rekey(): void {
    this.relayEnd.step({ type: 'rekey' });
  }

  /** The attacker sends to the relay, now. */
  inject(captured: Captured, from: SocketAddress): void {
    this.relayEnd.arrive(captured.payload, from);
  }

  /** The attacker repeats to the device what it already received. */
  injectDown(index: number): void {
    const again = this.deviceEnd.delivered[index];
    if (again) this.deviceEnd.step({ type: 'control', link: again.link, message: again.message });
  }

  /** Null when both ends agree on path and keys, else what they do not agree on. */
  disagreement(): string | null {
    const { uplink, binding, bound } = this.device;
    const { active, sendKey, receiveKeys } = this.relayEnd;
    const { key, keys } = this.deviceEnd;
    if (uplink === null) return 'the device has no uplink';
    if (binding) return 'the device is still binding';
    if (active?.key !== this.network.address(uplink).key) return 'the relay sends elsewhere';
    if (bound !== uplink) return 'the device believes another link bound';
    if (sendKey === null || !keys.has(sendKey)) return 'the device cannot read downlink';
    if (key === null || !receiveKeys.has(key)) return 'the relay cannot read uplink';
    if (key !== sendKey) return 'they use different keys';
    return null;
  }

  #dataRounds(): void {
    this.#clock.at(DATA_EVERY_MS, () => {
      this.#dataRounds();
      if (this.sendsData) this.deviceEnd.sendData();
      if (this.receivesData) this.relayEnd.sendData();
    });
  }

  /** Of the machine that is due first. */
  #nextTick(): { atMs: number; run: () => void } {
    const { holdUntilMs, upMs } = this.relayEnd;
    const relayMs = Math.max(this.relay.nextDueMs, upMs);
    const atMs = Math.max(Math.min(relayMs, this.device.nextDueMs), this.nowMs);
    if (holdUntilMs !== null && holdUntilMs < this.nowMs) this.#promises.break('a hold did not end');
    const end = relayMs <= atMs ? this.relayEnd : this.deviceEnd;
    return { atMs, run: () => this.#tick(atMs, end) };
  }

  #tick(atMs: number, end: RelayEnd | DeviceEnd): void {
    this.#ticks = atMs > this.#tickMs ? 1 : this.#ticks + 1;
    this.#tickMs = atMs;
    if (this.#ticks > MOST_TICKS) throw new Error(`a machine is due at ${atMs} ms for ever`);
    end.step({ type: 'tick' });
  }

  #newBoot(): bigint {
    this.#lastBoot += 1n;
    return this.#lastBoot;
  }
}
