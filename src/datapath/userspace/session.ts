import type { SocketAddress } from '../../protocol/address.ts';
import type { RsipErrorNumber } from '../../protocol/errors.ts';
import type { PathHint } from '../../protocol/lease.ts';
import type { SessionState } from '../../protocol/relay-plane.ts';
import { createRelayRebinding } from '../../rebinding/relay.ts';
import type { RelayInput, RelayOutput, RelayRebinding } from '../../rebinding/relay-io.ts';
import { createTokenBucket } from '../../rebinding/token-bucket.ts';
import { DATA_REFUSED, DataReceiver, dataRefusalName, type LaneWindows } from '../../tunnel/data.ts';
import { type DataKeyName, deriveDataKey } from '../../tunnel/keys.ts';
import { sipKey } from '../../tunnel/siphash.ts';
import type { WindowState } from '../../tunnel/window.ts';
import { admit, nanoseconds, type Policing, TOO_SOON } from '../decision/policing.ts';
import type { EngineEvent, EngineSession } from '../engine-api.ts';
import type { FastFlow, FastListener, FastPath, FastSession } from '../fast-path.ts';
import type { Anchor } from './anchor.ts';
import { type DownlinkHost, DownlinkWay, type Sending } from './downlink-way.ts';
import type { Due, DueQueue } from './due-queue.ts';
import { exportSession, readHint, readState } from './hand-over.ts';
import { type ControlHost, SessionControl } from './session-control.ts';

/** How long DATA under the keys before the newest is still received. */
const OLD_KEYS_MS = 10_000;
const LIMITS = {
  /** DATA from an address that is not the path in use, told to the state machine. */
  strayData: { perSecond: 100, burst: 20 },
  /** DATA that no key or window admits: says next to nothing. */
  refusedData: { perSecond: 20, burst: 5 },
  notices: { perSecond: 2, burst: 5 },
} as const;

/** What a session needs of the engine around it. */
export interface SessionHost extends ControlHost, DownlinkHost {
  readonly random: (octets: number) => Uint8Array;
  readonly due: DueQueue<RelaySession>;
  readonly used: ControlHost['used'] & { keyNumber: number };
  /** Packets under one DATA key, in either direction, after which the next is announced. */
  readonly rekeyAfterPackets: number;
  /** The engine in front of this one; null without one. */
  readonly fast: FastPath | null;
  readonly policing: SessionPolicing;
  event(event: EngineEvent): void;
  /** The engine in front let ESP or AH of a shared address pass. */
  learn(session: RelaySession, flow: FastFlow, nowMs: number): void;
}

/** Rates of a session by direction; null: unlimited. */
export interface SessionPolicing {
  readonly uplink: Policing | null;
  readonly downlink: Policing | null;
}

function bucket({ burst, perSecond }: { readonly burst: number; readonly perSecond: number }) {
  return createTokenBucket(burst, perSecond);
}

/**
 * One session at its owner relay: judges what arrives, by DATA keys, rates and the state machine of its rebinds, and has its
 * CONTROL ({@link SessionControl}) and its downlink ({@link DownlinkWay}) carry out what that decides.
 */
export class RelaySession implements Due, FastListener {
  dueMs = Number.POSITIVE_INFINITY;
  queuedMs = Number.POSITIVE_INFINITY;
  readonly id: string;
  readonly index: number;
  readonly anchor: Anchor;
  /** Ids of the leases that it carries; kept by the installation. */
  readonly leases = new Set<string>();
  readonly receiver = new DataReceiver();
  /** Theoretical arrival times, nanoseconds: the state of its policing. */
  readonly arrivalsNs = { uplink: 0, downlink: 0 };

  readonly #host: SessionHost;
  readonly #root: Uint8Array;
  readonly #control: SessionControl;
  readonly #way: DownlinkWay;
  readonly #strayLimit = bucket(LIMITS.strayData);
  readonly #refusedLimit = bucket(LIMITS.refusedData);
  readonly #noticeLimit = bucket(LIMITS.notices);
  #rebinding: RelayRebinding | null = null;
  /** Where the device was last proven under a former owner. */
  #hint: PathHint | null;
  /** Its anchor was another relay's when it came: where its device is may not be known here yet. */
  readonly #stoodBy: boolean;
  #rekeyAsked = -1;
  #fast: FastSession | null = null;
  /** Number of the key in force when DATA came past the engine in front. */
  #bypassedKey: number | null = null;

  /** Derives the keys of its CONTROL; whatever depends on the anchor's epoch waits for the first input. */
  constructor(host: SessionHost, anchor: Anchor, session: EngineSession) {
    this.#host = host;
    this.anchor = anchor;
    this.id = session.id;
    this.index = session.index;
    this.#root = session.root;
    this.#control = new SessionControl(host, anchor, session);
    this.#way = new DownlinkWay(host, anchor, session);
    this.#hint = session.hint;
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

  /** What its downlink is sealed with; null before a device has proven itself. */
  get sending(): Sending | null {
    return this.#way.sending;
  }

  /** The same session at the engine in front of this one; null without one. */
  get fast(): FastSession | null {
    return this.#fast;
  }

  /** Keeps the engine in front up to date from now on. */
  mirror(fast: FastPath): void {
    const { anchor, id, index } = this;
    if (anchor.fast === null) return;
    this.#fast = fast.session(anchor.fast, { id, index, controlTagKey: this.#control.tagKey }, this);
    this.#way.mirror(this.#fast);
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
    this.#rebinding = createRelayRebinding({
      epoch: this.anchor.epoch,
      relayBoot: this.#host.relayBoot,
      random: this.#host.random,
      lastKeyNumber: this.#host.used.keyNumber,
      resumed: rebinding,
    });
    this.#way.resume(rebinding.active, key, nextSequence, fastSequence);
    this.#publish(nowMs);
    this.#host.due.schedule(this, nowMs);
  }

  /** The session's state for another relay; null when there is nothing to continue. What is queued leaves first. */
  export(): SessionState | null {
    this.#way.flush();
    return exportSession(this);
  }

  /** Ends the session here; what it used is never used again. */
  retire(): void {
    this.#way.retire();
    this.#control.retire();
    const { used, due } = this.#host;
    used.keyNumber = Math.max(used.keyNumber, this.#rebinding?.keyNumber ?? 0);
    due.schedule(this, Number.POSITIVE_INFINITY);
    this.#fast?.drop();
    this.#fast = null;
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
    this.#way.fastReady();
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
    const isStray = from.key !== this.#way.path?.key || keyNumber !== this.#way.sending?.name.keyNumber;
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
    const message = this.#control.receive(buffer, at, length, this.rebinding.deviceBoot, nowMs);
    if (message !== null) this.#step({ type: 'control', from, message }, nowMs);
  }

  /** A CONTROL datagram that came over signalling, with the address that the device believes it has. */
  signalled(believed: SocketAddress, datagram: Uint8Array, nowMs: number): void {
    const message = this.#control.open(datagram, 0, datagram.length, this.rebinding.deviceBoot, nowMs);
    if (message !== null) this.#step({ type: 'signalled', believed, message }, nowMs);
  }

  /** Sends an inner packet, which has 16 octets of room before it, to the device; or queues it. */
  deliver(buffer: Uint8Array, at: number, length: number, nowMs: number): void {
    const number = this.#way.deliver(buffer, at, length);
    if (number >= this.#host.rekeyAfterPackets) this.#rekey(this.#way.sending!.name.keyNumber, nowMs);
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
    const { path } = this.#way;
    if (path === null || !this.#noticeLimit.take(nowMs)) return;
    const { epoch } = this.anchor;
    const { deviceBoot, generation, keyNumber } = this.rebinding;
    this.#control.send(path, {
      ...{ kind: 'notice', code, epoch },
      ...{ echoBoot: deviceBoot, generation, keyNumber },
    });
  }

  tick(nowMs: number): void {
    this.#way.tick(nowMs);
    this.#step({ type: 'tick' }, nowMs);
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
    this.#host.due.schedule(this, Math.min(this.rebinding.nextDueMs, this.#way.dueMs));
  }

  #publish(nowMs: number): void {
    const { deviceBoot, generation, rttMs } = this.rebinding;
    this.#way.publish({ deviceBoot, generation, rttMs }, nowMs);
  }

  #carryOut(output: RelayOutput, nowMs: number): void {
    switch (output.type) {
      case 'send':
        this.#control.send(output.to, output.draft);
        return;
      case 'hold':
        this.#way.hold(output.untilMs);
        return;
      case 'release':
        this.#way.release(output.to);
        return;
      case 'flip':
        this.#way.flip(output.path, output.afterMs, nowMs);
        return;
      case 'keys':
        this.#prepare(output.deviceBoot, output.keyNumber, nowMs);
        return;
      case 'sender-keys':
        this.#way.use(output.keyNumber);
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

  /** New DATA keys: received from now on, sent under once the device has them. */
  #prepare(deviceBoot: bigint, keyNumber: number, nowMs: number): void {
    const name = { epoch: this.anchor.epoch, relayBoot: this.#host.relayBoot, deviceBoot, keyNumber };
    this.#receive(name, nowMs);
    this.#way.prepare(name);
  }

  /** Receives under a key from now on, beside the one before it for a while. */
  #receive(name: DataKeyName, nowMs: number, windows: LaneWindows = []): void {
    const { keyNumber } = name;
    const octets = deriveDataKey(this.#root, 'to-relay', name);
    const previousUntilMs = nowMs + OLD_KEYS_MS;
    this.receiver.install(sipKey(octets), keyNumber, { previousUntilMs, windows });
    this.#fast?.receive({ octets, name }, previousUntilMs, windows[0] ?? null);
  }
}
