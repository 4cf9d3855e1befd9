import { parseAddress, type SocketAddress } from '../../src/protocol/address.ts';
import { createDeviceRebinding } from '../../src/rebinding/device.ts';
import type { DeviceInput, DeviceOutput, DeviceRebinding, LinkId } from '../../src/rebinding/device-io.ts';
import { ControlChannel, type ControlRefusal, peekType } from '../../src/tunnel/control.ts';
import { DataReceiver, DataSender, dataRefusalName, KEY_EXHAUSTED } from '../../src/tunnel/data.ts';
import {
  CONGESTION_UNHEARD,
  DEFAULT_MARKING,
  egressInner,
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../src/tunnel/dscp-ecn.ts';
import { deriveDataKey } from '../../src/tunnel/keys.ts';
import type { ControlDraft } from '../../src/tunnel/message.ts';
import { sipKey } from '../../src/tunnel/siphash.ts';
import { DATA, TYPE } from '../../src/tunnel/wire.ts';
import { UplinkQueue } from './uplink-queue.ts';

export interface DeviceSessionOptions {
  /** K_root, 32 octets. */
  readonly root: Uint8Array;
  readonly index: number;
  /** This process's incarnation: 64 random bits, not 0. */
  readonly boot: bigint;
  /** Leased addresses: nothing else is delivered upwards. */
  readonly addresses: readonly string[];
  /** DSCP and ECN at the device's end of the tunnel (default: DEVICE_MARKING). */
  readonly marking?: TunnelMarking;
  readonly sink: DeviceSessionSink;
}

/** As a relay's default, but that congestion may be marked on the way to the relay: it obeys the table of RFC 6040 §4.2. */
export const DEVICE_MARKING: TunnelMarking = { ...DEFAULT_MARKING, ecn: 'normal' };

/** Where a session's output goes. Buffers are lent for the duration of the call. */
export interface DeviceSessionSink {
  /** Send a datagram to the relay over `link`; `octet` is its outer DSCP and ECN, 0 where that cannot be set. */
  send(link: LinkId, buffer: Uint8Array, at: number, length: number, octet: number): void;
  /** An inner packet for the leased address. */
  deliver(buffer: Uint8Array, at: number, length: number): void;
  /** Offer a sealed BIND over signalling too, with the address of `link`. */
  signal(link: LinkId, datagram: Uint8Array): void;
  event(event: DeviceSessionEvent): void;
}

export type DeviceSessionEvent =
  | Extract<DeviceOutput, { type: 'bound' | 'lost' | 'notice' }>
  /** `packets`: DATA of the session so far, both ways. */
  | (Extract<DeviceOutput, { type: 'answered' }> & { readonly packets: number })
  | { readonly type: 'keys'; readonly epoch: bigint; readonly relayBoot: bigint; readonly keyNumber: number };

/** Links as the device's machine knows them; `control` and `tick` are the session's own business. */
export type LinkInput = Extract<DeviceInput, { type: 'use' | 'link-gone' | 'leaving' | 'probe' }>;

export interface DeviceSessionStatus {
  /** Link that DATA leaves on. */
  readonly uplink: LinkId | null;
  /** Link that the relay sends to. */
  readonly bound: LinkId | null;
  readonly observed: SocketAddress | null;
  readonly generation: number;
  readonly epoch: bigint;
  readonly keyNumber: number;
  readonly rttMs: number;
  /** Packets and events since the session began. */
  readonly counters: Readonly<Record<string, number>>;
}

/** One session's tunnel at the device: sans I/O. Times are milliseconds on one monotonic clock. */
export interface DeviceSession {
  link(input: LinkInput, nowMs: number): void;
  /**
   * A datagram that came in on `link`; `octet` held its outer DSCP and ECN (default 0: unknown, for a relay that sends Not-ECT).
   * Never throws, whatever the octets.
   */
  datagram(link: LinkId, buffer: Uint8Array, at: number, length: number, nowMs: number, octet?: number): void;
  /** An inner packet to send, with 16 octets of room in front of `at`. */
  packet(buffer: Uint8Array, at: number, length: number, nowMs: number): void;
  /** To be called at `nextDueMs`. */
  tick(nowMs: number): void;
  readonly nextDueMs: number;
  status(): DeviceSessionStatus;
}

/** Old DATA keys are received this long after new ones. */
const OLD_KEYS_MS = 10_000;
/** What waits while there is no path: half a second at 10 Mbit/s. */
const QUEUE = { maxOctets: 640 * 1024, maxAgeMs: 1_000 };

export function createDeviceSession(options: DeviceSessionOptions): DeviceSession {
  return new Session(options);
}

class Session implements DeviceSession {
  readonly #root: Uint8Array;
  readonly #boot: bigint;
  readonly #index: number;
  readonly #sink: DeviceSessionSink;
  readonly #marking: TunnelMarking;
  readonly #channel: ControlChannel;
  readonly #rebinding: DeviceRebinding;
  readonly #receiver = new DataReceiver();
  readonly #addresses: readonly Uint8Array[];
  readonly #queue = new UplinkQueue(QUEUE);
  readonly #counters: Record<string, number> = {
    sent: 0,
    sentOctets: 0,
    received: 0,
    receivedOctets: 0,
  };
  #sender: DataSender | null = null;
  #senderName = '';
  #relayBoot = 0n;
  /**
   * This incarnation of the relay may not know ours yet: it has no DATA keys for us before our proof, so what is
   * sent ahead of that would be lost.
   */
  #unproven = false;
  #uplink: LinkId | null = null;
  /** Until then packets queue, so that they do not overtake those on the slower path left. */
  #holdUntilMs = 0;
  #observed: SocketAddress | null = null;

  constructor(options: DeviceSessionOptions) {
    this.#root = options.root;
    this.#boot = options.boot;
    this.#index = options.index;
    this.#sink = options.sink;
    this.#marking = options.marking ?? DEVICE_MARKING;
    this.#addresses = options.addresses.map((address) => parseAddress(address));
    this.#channel = new ControlChannel({
      root: options.root,
      sends: 'to-relay',
      index: options.index,
      boot: options.boot,
    });
    this.#rebinding = createDeviceRebinding({ boot: options.boot });
  }

  get nextDueMs(): number {
    return this.#holdUntilMs > 0
      ? Math.min(this.#holdUntilMs, this.#rebinding.nextDueMs)
      : this.#rebinding.nextDueMs;
  }

  link(input: LinkInput, nowMs: number): void {
    this.#step(input, nowMs);
    this.#uplink = this.#rebinding.uplink;
    this.#flush(nowMs);
  }

  datagram(link: LinkId, buffer: Uint8Array, at: number, length: number, nowMs: number, octet = 0): void {
    if (peekType(buffer, at, length) === TYPE.control) {
      const message = this.#channel.open(buffer, at, length);
      if (typeof message === 'string') this.#count(`control-${message satisfies ControlRefusal}`);
      else {
        this.#step({ type: 'control', link, message }, nowMs);
        if (message.observed !== null && link === this.#rebinding.bound) this.#observed = message.observed;
      }
      return;
    }
    const innerAt = this.#receiver.open(buffer, at, length, nowMs);
    if (innerAt < 0) {
      this.#count(`refused-${dataRefusalName(innerAt)}`);
      return;
    }
    this.#rebinding.noteReceived(nowMs);
    const innerLength = length - DATA.inner;
    if (!this.#isForUs(buffer, innerAt)) {
      this.#count('not-leased');
      return;
    }
    const inner = trafficClass(buffer, innerAt);
    const marked = egressInner(this.#marking, inner, octet);
    if (marked === CONGESTION_UNHEARD) {
      this.#count('congestion-unheard');
      return;
    }
    if (marked !== inner) setTrafficClass(buffer, innerAt, marked);
    this.#counters.received! += 1;
    this.#counters.receivedOctets! += innerLength;
    this.#sink.deliver(buffer, innerAt, innerLength);
  }

  packet(buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    if (this.#uplink === null || this.#sender === null || this.#unproven || this.#holdUntilMs > nowMs) {
      this.#queue.push(buffer, at, length, nowMs);
      return;
    }
    if (this.#queue.length > 0) this.#flush(nowMs);
    this.#transmit(this.#uplink, this.#sender, buffer, at, length);
    this.#rebinding.noteSent(nowMs);
  }

  tick(nowMs: number): void {
    if (this.#rebinding.nextDueMs <= nowMs) this.#step({ type: 'tick' }, nowMs);
    this.#flush(nowMs);
  }

  status(): DeviceSessionStatus {
    const { bound, generation, epoch, keyNumber, rttMs } = this.#rebinding;
    return {
      uplink: this.#uplink,
      bound,
      observed: this.#observed,
      generation,
      epoch,
      keyNumber,
      rttMs,
      counters: { ...this.#counters, queued: this.#queue.length, overdue: this.#queue.dropped },
    };
  }

  #step(input: DeviceInput, nowMs: number): void {
    for (const output of this.#rebinding.step(input, nowMs)) this.#carryOut(output, nowMs);
    if (!this.#rebinding.binding) this.#unproven = false;
    this.#flush(nowMs);
  }

  #carryOut(output: DeviceOutput, nowMs: number): void {
    switch (output.type) {
      case 'send':
        this.#control(output.link, output.draft);
        return;
      case 'signal':
        this.#sink.signal(output.link, this.#channel.seal(output.draft));
        return;
      case 'uplink':
        this.#uplink = output.link;
        this.#holdUntilMs = output.afterMs > 0 ? nowMs + output.afterMs : 0;
        return;
      case 'keys':
        this.#installKeys(output, nowMs);
        return;
      case 'bound':
        this.#observed = output.observed;
        this.#count('bound');
        this.#sink.event(output);
        return;
      case 'lost':
        this.#count(`lost-${output.reason}`);
        this.#sink.event(output);
        return;
      case 'answered':
        this.#sink.event({ ...output, packets: this.#counters.sent! + this.#counters.received! });
        return;
      case 'notice':
        this.#count(`notice-${output.code}`);
        this.#sink.event(output);
        return;
      case 'count':
        this.#count(output.reason);
        return;
      default:
        output satisfies never;
    }
  }

  #installKeys(output: Extract<DeviceOutput, { type: 'keys' }>, nowMs: number): void {
    const { epoch, relayBoot, keyNumber } = output;
    const name = `${epoch}/${relayBoot}/${keyNumber}`;
    // The same keys again must not number packets from 1 again.
    if (name === this.#senderName) return;
    this.#senderName = name;
    if (relayBoot !== this.#relayBoot) this.#unproven = true;
    this.#relayBoot = relayBoot;
    const of = { epoch, relayBoot, deviceBoot: this.#boot, keyNumber };
    this.#receiver.install(sipKey(deriveDataKey(this.#root, 'to-device', of)), keyNumber, {
      previousUntilMs: nowMs + OLD_KEYS_MS,
    });
    this.#sender = new DataSender({
      key: sipKey(deriveDataKey(this.#root, 'to-relay', of)),
      index: this.#index,
      keyNumber,
    });
    this.#sink.event({ type: 'keys', epoch, relayBoot, keyNumber });
  }

  #control(link: LinkId, draft: ControlDraft): void {
    const datagram = this.#channel.seal(draft);
    this.#count('control-sent');
    this.#sink.send(link, datagram, 0, datagram.length, 0);
    if (draft.kind === 'proof') this.#unproven = false;
  }

  #flush(nowMs: number): void {
    if (this.#unproven || this.#holdUntilMs > nowMs) return;
    this.#holdUntilMs = 0;
    const link = this.#uplink;
    const sender = this.#sender;
    if (link === null || sender === null || this.#queue.length === 0) return;
    this.#queue.drain(nowMs, (packet) => {
      const roomy = new Uint8Array(DATA.inner + packet.length);
      roomy.set(packet, DATA.inner);
      this.#transmit(link, sender, roomy, DATA.inner, packet.length);
    });
    this.#rebinding.noteSent(nowMs);
  }

  #transmit(link: LinkId, sender: DataSender, buffer: Uint8Array, at: number, length: number): void {
    const inner = trafficClass(buffer, at);
    const marked = ingressInner(this.#marking, inner);
    if (marked !== inner) setTrafficClass(buffer, at, marked);
    const start = sender.seal(buffer, at, length);
    if (start === KEY_EXHAUSTED) {
      this.#count('key-exhausted');
      return;
    }
    this.#counters.sent! += 1;
    this.#counters.sentOctets! += length;
    this.#sink.send(link, buffer, start, length + DATA.inner, ingressOuter(this.#marking, inner));
  }

  #isForUs(buffer: Uint8Array, at: number): boolean {
    const v4 = buffer[at]! >> 4 === 4;
    const destinationAt = at + (v4 ? 16 : 24);
    const octets = v4 ? 4 : 16;
    for (const address of this.#addresses) {
      if (address.length !== octets) continue;
      let i = 0;
      while (i < octets && address[i] === buffer[destinationAt + i]) i += 1;
      if (i === octets) return true;
    }
    return false;
  }

  #count(what: string): void {
    this.#counters[what] = (this.#counters[what] ?? 0) + 1;
  }
}
