import type { SocketAddress } from '../../protocol/address.ts';
import type { RsipErrorNumber } from '../../protocol/errors.ts';
import type { PathHint } from '../../protocol/lease.ts';
import type { SessionState } from '../../protocol/relay-plane.ts';
import { createRelayRebinding } from '../../rebinding/relay.ts';
import type { RelayInput, RelayOutput, RelayRebinding } from '../../rebinding/relay-io.ts';
import { createTokenBucket } from '../../rebinding/token-bucket.ts';
import { ControlChannel, deriveControlKeys } from '../../tunnel/control.ts';
import {
  DATA_REFUSED,
  DataReceiver,
  DataSender,
  dataRefusalName,
  KEY_EXHAUSTED,
  type LaneWindows,
} from '../../tunnel/data.ts';
import {
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../tunnel/dscp-ecn.ts';
import { type DataKeyName, deriveDataKey } from '../../tunnel/keys.ts';
import type { ControlDraft, ControlMessage } from '../../tunnel/message.ts';
import { sipKey } from '../../tunnel/siphash.ts';
import type { WindowState } from '../../tunnel/window.ts';
import { CONTROL, DATA } from '../../tunnel/wire.ts';
import { admit, nanoseconds, type Policing, TOO_SOON } from '../decision/policing.ts';
import type { EngineEvent, EngineSession } from '../engine-api.ts';
import type { FastFlow, FastKey, FastListener, FastPath, FastSession } from '../fast-path.ts';
import { type Anchor, endpointFor } from './anchor.ts';
import { bootOf, ControlFilter } from './control-filter.ts';
import type { Counters } from './counters.ts';
import type { Due, DueQueue } from './due-queue.ts';
import { exportSession, readHint, readState } from './hand-over.ts';
import { type HoldBudget, HoldQueue } from './hold.ts';

/** How long DATA under the keys before the newest is still received. */
const OLD_KEYS_MS = 10_000;
/** Newest keys that the device has not been seen to use yet. */
const WAITING_KEYS = 4;
/** Numbers of lane 0 that are named to the next process ahead of their use: this many at a time. */
const RESERVED_NUMBERS = 64;
/** The engine in front holds this much longer than this one: what was queued must leave before what it lets through. */
const HOLD_LONGER_MS = 100;

const LIMITS = {
  /** CONTROL datagrams with a good tag that are opened: of the device's present incarnation, and of others. */
  control: { perSecond: 200, burst: 100 },
  otherBoots: { perSecond: 100, burst: 50 },
  /** DATA from an address that is not the path in use, told to the state machine. */
  strayData: { perSecond: 100, burst: 20 },
  /** DATA that no key or window admits: says next to nothing. */
  refusedData: { perSecond: 20, burst: 5 },
  notices: { perSecond: 2, burst: 5 },
} as const;

/** What a session needs of the engine around it. */
export interface SessionHost {
  readonly relayBoot: bigint;
  readonly random: (octets: number) => Uint8Array;
  readonly counters: Counters;
  readonly due: DueQueue<RelaySession>;
  readonly budget: HoldBudget;
  /** Packets under one DATA key, in either direction, after which the next is announced. */
  readonly rekeyAfterPackets: number;
  /** No (key, nonce) repeats, even when a session comes back to the same process: new ones start above these. */
  readonly used: { counter: bigint; keyNumber: number };
  /** The engine in front of this one; null without one. */
  readonly fast: FastPath | null;
  /** Sessions whose packets on their way to this engine are to be sent before the engine in front goes on with them. */
  readonly settling: Set<RelaySession>;
  readonly marking: TunnelMarking;
  readonly policing: SessionPolicing;
  toDevice(
    endpoint: string,
    to: SocketAddress,
    buffer: Uint8Array,
    at: number,
    length: number,
    octet: number,
  ): void;
  event(event: EngineEvent): void;
  /** The engine in front let ESP or AH of a shared address pass. */
  learn(session: RelaySession, flow: FastFlow, nowMs: number): void;
}

/** Rates of a session by direction; null: unlimited. */
export interface SessionPolicing {
  readonly uplink: Policing | null;
  readonly downlink: Policing | null;
}

/** DATA keys in use for sending, with their name: a hand-over passes the name, never the key. */
export interface Sending {
  readonly name: DataKeyName;
  readonly sender: DataSender;
  /** The same key for the engine in front, where there is one. */
  readonly fastKey: FastKey | null;
  /** Where lane 1 goes on under this key at an engine that has not sent under it. */
  readonly fastSequence: number;
}

function bucket({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
  return createTokenBucket(burst, perSecond);
}

/** One session at its owner relay: keys, path, held packets; carries out what its state machine decides. */
export class RelaySession implements Due, FastListener {
  dueMs = Number.POSITIVE_INFINITY;
  queuedMs = Number.POSITIVE_INFINITY;
  readonly id: string;
  readonly index: number;
  readonly anchor: Anchor;
  /** Ids of the leases that it carries; kept by the installation. */
  readonly leases = new Set<string>();
  readonly receiver = new DataReceiver();
  sending: Sending | null = null;
  /** Theoretical arrival times, nanoseconds: the state of its policing. */
  readonly arrivalsNs = { uplink: 0, downlink: 0 };

  readonly #host: SessionHost;
  readonly #root: Uint8Array;
  readonly #channel: ControlChannel;
  readonly #controlTagKey: Uint8Array;
  readonly #filter = new ControlFilter();
  readonly #queue: HoldQueue;
  readonly #waiting = new Map<number, Sending>();
  readonly #controlLimit = bucket(LIMITS.control);
  readonly #otherBootsLimit = bucket(LIMITS.otherBoots);
  readonly #strayLimit = bucket(LIMITS.strayData);
  readonly #refusedLimit = bucket(LIMITS.refusedData);
  readonly #noticeLimit = bucket(LIMITS.notices);
  #rebinding: RelayRebinding | null = null;
  /** Where the device was last proven under a former owner. */
  #hint: PathHint | null;
  /** Its anchor was another relay's when it came: where its device is may not be known here yet. */
  readonly #stoodBy: boolean;
  #path: SocketAddress | null = null;
  #endpoint: string | null = null;
  /** Why downlink is queued: until the state machine releases it, or until the old path has drained. */
  #queueing: 'hold' | 'flip' | null = null;
  #flipMs = Number.POSITIVE_INFINITY;
  #rekeyAsked = -1;
  #fast: FastSession | null = null;
  /** When the state machine's hold ends at the latest. */
  #holdMs = Number.POSITIVE_INFINITY;
  /** The way at the engine in front is to be told anew; it forwards on it; lane 0 may use numbers below this. */
  #wayChanged = false;
  #fastForwards = false;
  #reserved = 0;
  /** Number of the key in force when DATA came past the engine in front. */
  #bypassedKey: number | null = null;

  /** Derives the keys of its CONTROL; whatever depends on the anchor's epoch waits for the first input. */
  constructor(host: SessionHost, anchor: Anchor, { id, index, root, hint }: EngineSession) {
    this.#host = host;
    this.anchor = anchor;
    this.id = id;
    this.index = index;
    this.#root = root;
    const keys = deriveControlKeys(root, 'to-device', host.relayBoot);
    this.#channel = new ControlChannel({
      ...{ root, sends: 'to-device', index, keys },
      boot: host.relayBoot,
      after: host.used.counter,
    });
    this.#controlTagKey = keys.receiveTagOctets;
    this.#queue = new HoldQueue(host.budget, DATA.inner);
    this.#hint = hint;
    this.#stoodBy = anchor.epoch === 0n;
  }

  /** Its state machine, which begins under the epoch that the anchor has when it is used first. */
  get rebinding(): RelayRebinding {
    this.#rebinding ??= createRelayRebinding({
      epoch: this.anchor.epoch,
      relayBoot: this.#host.relayBoot,
      random: this.#host.random,
      lastKeyNumber: this.#host.used.keyNumber,
      hint: this.#hint === null ? null : readHint(this.#hint),
      awaitsHint: this.#stoodBy,
    });
    return this.#rebinding;
  }

  /** Where the device was last proven: of use until it has proven itself here. */
  putHint(hint: PathHint, nowMs: number): void {
    if (this.#rebinding === null) this.#hint = hint;
    else this.#step({ type: 'hint', hint: readHint(hint) }, nowMs);
  }

  /** The same session at the engine in front of this one; null without one. */
  get fast(): FastSession | null {
    return this.#fast;
  }

  /** Keeps the engine in front up to date from now on. */
  mirror(fast: FastPath): void {
    const { anchor, id, index } = this;
    if (anchor.fast === null) return;
    this.#fast = fast.session(anchor.fast, { id, index, controlTagKey: this.#controlTagKey }, this);
  }

  /**
   * Goes on where another relay stopped: path, windows and sequence numbers continue, under the old keys at first. A
   * session that sends here already is ahead of every export, its own too: going back would repeat sequence numbers.
   */
  resume(state: SessionState, nowMs: number): void {
    if (this.sending !== null) return;
    const { nextSequence, fastSequence, windows } = state.data;
    const { rebinding, key } = readState(state);
    this.#receive(key, nowMs, windows);
    this.sending = this.#sending(key, nextSequence, fastSequence);
    this.#reserved = 0;
    this.#fast?.reserve(nextSequence);
    this.#fastForwards = this.#fast?.forwards ?? false;
    this.#waiting.clear();
    this.#rebinding = createRelayRebinding({
      epoch: this.anchor.epoch,
      relayBoot: this.#host.relayBoot,
      random: this.#host.random,
      lastKeyNumber: this.#host.used.keyNumber,
      resumed: rebinding,
    });
    this.#take(rebinding.active);
    // What a challenge of the hint made wait until now.
    if (rebinding.active === null) this.#drop();
    else this.#release();
    this.#publish(nowMs);
    this.#host.due.schedule(this, nowMs);
  }

  /** The session's state for another relay; null when there is nothing to continue. What is queued leaves first. */
  export(): SessionState | null {
    if (this.#path === null) this.#drop();
    else this.#release();
    return exportSession(this);
  }

  /** Ends the session here; what it used is never used again. */
  retire(): void {
    this.#drop();
    const { used, due } = this.#host;
    if (this.#channel.lastCounter > used.counter) used.counter = this.#channel.lastCounter;
    used.keyNumber = Math.max(used.keyNumber, this.#rebinding?.keyNumber ?? 0);
    due.schedule(this, Number.POSITIVE_INFINITY);
    this.#host.settling.delete(this);
    this.#fast?.drop();
    this.#fast = null;
  }

  /** What was on its way to this engine has been sent: the engine in front may go on. */
  settled(nowMs: number): void {
    this.#fastForwards = true;
    this.#wayChanged = true;
    this.#publish(nowMs);
  }

  fastData(from: SocketAddress, keyNumber: number, octets: number, nowMs: number): void {
    if (nowMs >= this.anchor.untilMs || !this.receiver.noteUsed(keyNumber)) return;
    this.#strayData(from, keyNumber, octets, nowMs);
  }

  fastRefused(from: SocketAddress, octets: number, nowMs: number): void {
    if (nowMs < this.anchor.untilMs) this.#strange(from, octets, nowMs);
  }

  fastWindow(keyNumber: number, window: WindowState): void {
    this.receiver.merge(keyNumber, 0, window);
  }

  /**
   * A DATA datagram that came past the engine in front. What one engine admits the other would admit again: from here on
   * this one receives alone, until there is a key that neither has received under.
   */
  bypassed(buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    if (this.#fast === null || this.#bypassedKey === this.receiver.currentKeyNumber) return;
    if (!this.receiver.isAuthentic(buffer, at, length, nowMs)) return;
    this.#bypassedKey = this.receiver.currentKeyNumber;
    this.#fast.stopReceiving();
  }

  fastReady(nowMs: number): void {
    this.#fastForwards = false;
    this.#wayChanged = true;
    this.#publish(nowMs);
  }

  fastNotice(code: RsipErrorNumber, nowMs: number): void {
    if (nowMs < this.anchor.untilMs) this.notify(code, nowMs);
  }

  fastRekey(keyNumber: number, nowMs: number): void {
    if (nowMs < this.anchor.untilMs) this.#rekey(keyNumber, nowMs);
  }

  fastFlow(flow: FastFlow, nowMs: number): void {
    this.#host.learn(this, flow, nowMs);
  }

  /** Opens a DATA datagram: the offset of its inner packet, or −1. */
  openData(from: SocketAddress, buffer: Uint8Array, at: number, length: number, nowMs: number): number {
    const { receiver } = this;
    const innerAt = receiver.open(buffer, at, length, nowMs);
    if (innerAt < 0) {
      this.#host.counters.count('uplink', dataRefusalName(innerAt));
      this.#refused(innerAt, from, length, nowMs);
      return -1;
    }
    const { keyNumber } = receiver;
    const isStray = from.key !== this.#path?.key || keyNumber !== this.sending?.name.keyNumber;
    if (receiver.fresh && isStray && !this.#wasOvertaken()) this.#strayData(from, keyNumber, length, nowMs);
    if (receiver.sequence >= this.#host.rekeyAfterPackets) this.#rekey(keyNumber, nowMs);
    return innerAt;
  }

  /** True when the engine in front took something that the device sent after the packet opened last. */
  #wasOvertaken(): boolean {
    const { keyNumber, lane, sequence } = this.receiver;
    const window = lane === 0 ? this.#fast?.window(keyNumber) : null;
    return window != null && window.highest > sequence;
  }

  /** A CONTROL datagram that arrived from `from`. */
  control(from: SocketAddress, buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    const { counters } = this.#host;
    if (length === CONTROL.length && this.#filter.seen(buffer, at)) {
      counters.count('control', 'replayed');
      return;
    }
    const message = this.#open(buffer, at, length, nowMs);
    if (message === null) return;
    this.#filter.remember(message.boot, message.counter, this.rebinding.deviceBoot);
    this.#step({ type: 'control', from, message }, nowMs);
  }

  /** A CONTROL datagram that came over signalling, with the address that the device believes it has. */
  signalled(believed: SocketAddress, datagram: Uint8Array, nowMs: number): void {
    const message = this.#open(datagram, 0, datagram.length, nowMs);
    if (message !== null) this.#step({ type: 'signalled', believed, message }, nowMs);
  }

  /** Sends an inner packet, which has 16 octets of room before it, to the device; or queues it. */
  deliver(buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    const { counters } = this.#host;
    if (this.#queueing !== null) {
      counters.count('downlink', this.#queue.push(buffer, at, length) ? 'held' : 'hold-full');
      return;
    }
    this.#send(buffer, at, length);
    const { sending } = this;
    if (sending !== null && sending.sender.sequence >= this.#host.rekeyAfterPackets) {
      this.#rekey(sending.name.keyNumber, nowMs);
    }
  }

  /** True when the session's rate lets the packet through; it is charged for it then. */
  admits(direction: keyof SessionPolicing, octets: number, nowMs: number): boolean {
    const rate = this.#host.policing[direction];
    if (rate === null) return true;
    const shared = this.#fast?.charge(direction, rate, octets, nowMs) ?? null;
    if (shared !== null) return shared;
    const next = admit(rate, this.arrivalsNs[direction], octets, nanoseconds(nowMs));
    if (next === TOO_SOON) return false;
    this.arrivalsNs[direction] = next;
    return true;
  }

  /** Tells the device why a packet of its own was dropped: seldom, and only on the path that it proved. */
  notify(code: RsipErrorNumber, nowMs: number): void {
    if (this.#path === null || !this.#noticeLimit.take(nowMs)) return;
    const { epoch } = this.anchor;
    const { deviceBoot, generation, keyNumber } = this.rebinding;
    const draft: ControlDraft = { kind: 'notice', code, epoch, echoBoot: deviceBoot, generation, keyNumber };
    this.#control(this.#path, draft);
  }

  tick(nowMs: number): void {
    if (nowMs >= this.#flipMs) {
      this.#flipMs = Number.POSITIVE_INFINITY;
      if (this.#queueing === 'flip') this.#release();
    }
    this.#step({ type: 'tick' }, nowMs);
  }

  #open(buffer: Uint8Array, at: number, length: number, nowMs: number): ControlMessage | null {
    const { counters } = this.#host;
    // Before the limit: what anybody can send must not use up what the device may.
    const refusal = this.#channel.checkTag(buffer, at, length);
    if (refusal !== null) {
      counters.count('control', refusal);
      return null;
    }
    // Captured ones of older incarnations are authentic too: they must not use up the present one's share.
    const own = bootOf(buffer, at) === this.rebinding.deviceBoot;
    if (!(own ? this.#controlLimit : this.#otherBootsLimit).take(nowMs)) {
      counters.count('control', 'limited');
      return null;
    }
    const message = this.#channel.open(buffer, at, length);
    if (typeof message === 'string') {
      counters.count('control', message);
      return null;
    }
    counters.count('control', 'accepted');
    return message;
  }

  /** DATA of a former incarnation's key, or no DATA at all: only the state machine's hint can give it a meaning. */
  #refused(refusal: number, from: SocketAddress, octets: number, nowMs: number): void {
    const { badTag, unknownPhase, replayed } = DATA_REFUSED;
    if (refusal !== badTag && refusal !== unknownPhase && refusal !== replayed) return;
    this.#strange(from, octets, nowMs);
  }

  #strange(from: SocketAddress, octets: number, nowMs: number): void {
    if (!this.#refusedLimit.take(nowMs)) return;
    this.#step({ type: 'data', from, fresh: false, keyNumber: -1, octets }, nowMs);
  }

  #strayData(from: SocketAddress, keyNumber: number, octets: number, nowMs: number): void {
    if (!this.#strayLimit.take(nowMs)) return;
    this.#step({ type: 'data', from, fresh: true, keyNumber, octets }, nowMs);
  }

  #rekey(keyNumber: number, nowMs: number): void {
    if (this.#rekeyAsked === keyNumber || keyNumber !== this.rebinding.keyNumber) return;
    this.#rekeyAsked = keyNumber;
    this.#step({ type: 'rekey' }, nowMs);
  }

  #step(input: RelayInput, nowMs: number): void {
    for (const output of this.rebinding.step(input, nowMs)) this.#carryOut(output, nowMs);
    this.#publish(nowMs);
    this.#host.due.schedule(this, Math.min(this.rebinding.nextDueMs, this.#flipMs));
  }

  /** Tells the engine in front what has changed of where downlink goes. */
  #publish(nowMs: number): void {
    if (this.#fast === null || !this.#wayChanged) return;
    this.#wayChanged = false;
    const { deviceBoot, generation, rttMs } = this.rebinding;
    this.#fast.facts({ deviceBoot, generation, rttMs });
    const { sending } = this;
    if (this.#path === null || this.#endpoint === null || sending?.fastKey == null) {
      this.#fastForwards = false;
      this.#host.settling.delete(this);
      this.#fast.way(null);
      return;
    }
    const way = {
      path: this.#path,
      endpoint: this.#endpoint,
      key: sending.fastKey,
      nextSequence: sending.fastSequence,
    };
    if (this.#queueing !== null) {
      this.#fastForwards = false;
      this.#host.settling.delete(this);
      const untilMs = this.#queueing === 'hold' ? this.#holdMs : this.#flipMs;
      this.#fast.way({ ...way, heldUntilMs: untilMs + HOLD_LONGER_MS });
    } else if (this.#fastForwards) {
      this.#fast.way({ ...way, heldUntilMs: null });
    } else {
      // Packets that it left to this engine are still on their way here: newer ones must not overtake them.
      this.#fast.way({ ...way, heldUntilMs: nowMs + HOLD_LONGER_MS });
      this.#host.settling.add(this);
    }
  }

  #carryOut(output: RelayOutput, nowMs: number): void {
    switch (output.type) {
      case 'send':
        this.#control(output.to, output.draft);
        return;
      case 'hold':
        this.#queueing = 'hold';
        this.#holdMs = output.untilMs;
        this.#wayChanged = true;
        return;
      case 'release':
        if (output.to === null) this.#drop();
        else {
          this.#take(output.to);
          this.#release();
        }
        return;
      case 'flip':
        this.#flip(output.path, output.afterMs, nowMs);
        return;
      case 'keys':
        this.#prepare(output.deviceBoot, output.keyNumber, nowMs);
        return;
      case 'sender-keys':
        this.#switch(output.keyNumber);
        return;
      case 'moved': {
        const { path, generation, deviceBoot, oldPath, tookMs } = output;
        const { address, port } = path;
        const boot = deviceBoot.toString(16).padStart(16, '0');
        const hint = { session: this.id, address, port, generation, deviceBoot: boot };
        this.#host.event({ type: 'path', anchor: this.anchor.id, hint, oldPath, tookMs });
        return;
      }
      case 'count':
        this.#host.counters.count('control', output.reason);
        return;
      default:
        output satisfies never;
    }
  }

  #flip(path: SocketAddress, afterMs: number, nowMs: number): void {
    // What waited for the former path to drain must not be overtaken by what follows on the next one.
    if (this.#queueing === 'flip') this.#release();
    this.#take(path);
    this.#flipMs = Number.POSITIVE_INFINITY;
    if (afterMs <= 0 || this.#queueing === 'hold') return;
    this.#queueing = 'flip';
    this.#flipMs = nowMs + afterMs;
    this.#wayChanged = true;
  }

  #take(path: SocketAddress | null): void {
    this.#path = path;
    this.#endpoint = path === null ? null : endpointFor(this.anchor, path);
    this.#wayChanged = true;
  }

  /** Sends what is queued, in order, before anything that comes later. */
  #release(): void {
    this.#queueing = null;
    this.#wayChanged = true;
    this.#queue.release((buffer, at, length) => this.#send(buffer, at, length));
  }

  #drop(): void {
    this.#queueing = null;
    this.#wayChanged = true;
    const lost = this.#queue.clear();
    if (lost > 0) this.#host.counters.count('downlink', 'hold-dropped', lost);
  }

  #send(buffer: Uint8Array, at: number, length: number): void {
    const { counters } = this.#host;
    if (this.#path === null || this.#endpoint === null) {
      counters.count('downlink', 'no-path');
      return;
    }
    if (this.sending === null) {
      counters.count('downlink', 'no-key');
      return;
    }
    if (this.#fast !== null && this.sending.sender.nextSequence >= this.#reserved) {
      this.#reserved = this.sending.sender.nextSequence + RESERVED_NUMBERS;
      this.#fast.reserve(this.#reserved);
    }
    const { marking } = this.#host;
    const inner = trafficClass(buffer, at);
    const marked = ingressInner(marking, inner);
    if (marked !== inner) setTrafficClass(buffer, at, marked);
    const datagramAt = this.sending.sender.seal(buffer, at, length);
    if (datagramAt === KEY_EXHAUSTED) {
      counters.count('downlink', 'key-exhausted');
      return;
    }
    counters.count('downlink', 'forwarded');
    const outer = ingressOuter(marking, inner);
    this.#host.toDevice(this.#endpoint, this.#path, buffer, datagramAt, length + DATA.inner, outer);
  }

  #control(to: SocketAddress, draft: ControlDraft): void {
    const endpoint = endpointFor(this.anchor, to);
    if (endpoint === null) return;
    const datagram = this.#channel.seal(draft);
    this.#host.counters.count('control', `sent-${draft.kind}`);
    this.#host.toDevice(endpoint, to, datagram, 0, datagram.length, 0);
  }

  /** New DATA keys: received from now on, sent under once the device has them. */
  #prepare(deviceBoot: bigint, keyNumber: number, nowMs: number): void {
    const name = { epoch: this.anchor.epoch, relayBoot: this.#host.relayBoot, deviceBoot, keyNumber };
    this.#receive(name, nowMs);
    this.#waiting.set(keyNumber, this.#sending(name, 1));
    if (this.#waiting.size > WAITING_KEYS) this.#waiting.delete(this.#waiting.keys().next().value!);
  }

  #switch(keyNumber: number): void {
    const next = this.#waiting.get(keyNumber);
    if (next === undefined) return;
    this.sending = next;
    this.#reserved = 0;
    this.#wayChanged = true;
    // Older ones will not be used again, and a key is never started twice.
    for (const number of this.#waiting.keys()) if (number <= keyNumber) this.#waiting.delete(number);
  }

  /** Receives under a key from now on, beside the one before it for a while. */
  #receive(name: DataKeyName, nowMs: number, windows: LaneWindows = []): void {
    const { keyNumber } = name;
    const octets = deriveDataKey(this.#root, 'to-relay', name);
    const previousUntilMs = nowMs + OLD_KEYS_MS;
    this.receiver.install(sipKey(octets), keyNumber, { previousUntilMs, windows });
    this.#fast?.receive({ octets, name }, previousUntilMs, windows[0] ?? null);
  }

  #sending(name: DataKeyName, nextSequence: number, fastSequence = 1): Sending {
    const { index } = this;
    const { keyNumber } = name;
    const octets = deriveDataKey(this.#root, 'to-device', name);
    const sender = new DataSender({ key: sipKey(octets), index, keyNumber, nextSequence });
    return { name, sender, fastKey: this.#fast === null ? null : { octets, name }, fastSequence };
  }
}
