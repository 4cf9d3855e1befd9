import type { SocketAddress } from '../../protocol/address.ts';
import { DataSender, KEY_EXHAUSTED } from '../../tunnel/data.ts';
import {
  ingressInner,
  ingressOuter,
  setTrafficClass,
  type TunnelMarking,
  trafficClass,
} from '../../tunnel/dscp-ecn.ts';
import { type DataKeyName, deriveDataKey } from '../../tunnel/keys.ts';
import { sipKey } from '../../tunnel/siphash.ts';
import { DATA } from '../../tunnel/wire.ts';
import type { EngineSession } from '../engine-api.ts';
import type { FastKey, FastSession, FastSessionFacts } from '../fast-path.ts';
import { type Anchor, endpointFor } from './anchor.ts';
import type { Counters } from './counters.ts';
import { type HoldBudget, HoldQueue } from './hold.ts';
import type { ToDevice } from './to-device.ts';
import { type Settling, WayMirror } from './way-mirror.ts';

/** Newest keys that the device has not been seen to use yet. */
const WAITING_KEYS = 4;

/** What the downlink of a session needs of the engine around it. */
export interface DownlinkHost {
  readonly counters: Counters;
  readonly budget: HoldBudget;
  readonly marking: TunnelMarking;
  /** Those whose packets on their way to this engine are to be sent before the engine in front goes on with theirs. */
  readonly settling: Set<Settling>;
  readonly toDevice: ToDevice;
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

/**
 * Where one session's downlink goes, path, endpoint and DATA key, here and at the engine in front; and what waits, in order,
 * while the state machine holds it or a former path drains.
 */
export class DownlinkWay {
  // What every packet asks for stands together, first: with thousands of sessions each cache line counts.
  sending: Sending | null = null;
  readonly #host: DownlinkHost;
  #path: SocketAddress | null = null;
  #endpoint: string | null = null;
  /** Why packets are queued: until the state machine releases them, or until the old path has drained. */
  #queueing: 'hold' | 'flip' | null = null;
  #mirror: WayMirror | null = null;
  readonly #queue: HoldQueue;
  readonly #anchor: Anchor;
  readonly #index: number;
  readonly #root: Uint8Array;
  /** Keys that the device is not known to have yet. */
  readonly #waiting = new Map<number, Sending>();
  /** When the state machine's hold ends at the latest. */
  #holdMs = Number.POSITIVE_INFINITY;
  #drainedMs = Number.POSITIVE_INFINITY;
  /** The engine in front has not been told of it as it is now. */
  #changed = false;

  constructor(host: DownlinkHost, anchor: Anchor, { index, root }: Pick<EngineSession, 'index' | 'root'>) {
    this.#host = host;
    this.#anchor = anchor;
    this.#index = index;
    this.#root = root;
    this.#queue = new HoldQueue(host.budget, DATA.inner);
  }

  /** Where packets go, at once or when they are released. */
  get path(): SocketAddress | null {
    return this.#path;
  }

  /** When `tick` has something to do. */
  get dueMs(): number {
    return this.#drainedMs;
  }

  /** Keeps the same session at the engine in front up to date from now on. */
  mirror(fast: FastSession): void {
    this.#mirror = new WayMirror(fast, this.#host.settling);
  }

  /** Tells the engine in front what has changed. */
  publish(facts: FastSessionFacts, nowMs: number): void {
    if (this.#mirror === null || !this.#changed) return;
    this.#changed = false;
    const path = this.#path;
    const endpoint = this.#endpoint;
    const { fastKey: key, fastSequence: nextSequence } = this.sending ?? { fastKey: null, fastSequence: 1 };
    const isWay = path !== null && endpoint !== null && key !== null;
    const queuesUntilMs = this.#queueing === 'hold' ? this.#holdMs : this.#drainedMs;
    this.#mirror.tell(
      isWay ? { path, endpoint, key, nextSequence } : null,
      this.#queueing === null ? null : queuesUntilMs,
      facts,
      nowMs,
    );
  }

  /** The engine in front can take a way that it could not take at once: `publish` tells it anew. */
  fastReady(): void {
    this.#mirror?.waited();
    this.#changed = true;
  }

  /** Queues from now on; the state machine ends it by `untilMs`. */
  hold(untilMs: number): void {
    this.#queueing = 'hold';
    this.#holdMs = untilMs;
    this.#changed = true;
  }

  /** Ends a hold: what is queued goes to `to`, or nowhere. */
  release(to: SocketAddress | null): void {
    if (to === null) this.drop();
    else {
      this.#take(to);
      this.flush();
    }
  }

  /** Goes to another path; what comes during the next `afterMs` waits for the old one to drain. */
  flip(path: SocketAddress, afterMs: number, nowMs: number): void {
    // What waited for the former path to drain must not be overtaken by what follows on the next one.
    if (this.#queueing === 'flip') this.flush();
    this.#take(path);
    this.#drainedMs = Number.POSITIVE_INFINITY;
    if (afterMs <= 0 || this.#queueing === 'hold') return;
    this.#queueing = 'flip';
    this.#drainedMs = nowMs + afterMs;
    this.#changed = true;
  }

  tick(nowMs: number): void {
    if (nowMs < this.#drainedMs) return;
    this.#drainedMs = Number.POSITIVE_INFINITY;
    if (this.#queueing === 'flip') this.flush();
  }

  /** A key to send under once `use` says that the device has it. */
  prepare(name: DataKeyName): void {
    const { keyNumber } = name;
    this.#waiting.set(keyNumber, this.#sending(name, 1));
    if (this.#waiting.size > WAITING_KEYS) this.#waiting.delete(this.#waiting.keys().next().value!);
  }

  use(keyNumber: number): void {
    const next = this.#waiting.get(keyNumber);
    if (next === undefined) return;
    this.sending = next;
    this.#mirror?.keyChanges();
    this.#changed = true;
    // Older ones will not be used again, and a key is never started twice.
    for (const number of this.#waiting.keys()) if (number <= keyNumber) this.#waiting.delete(number);
  }

  /** Goes on where another relay stopped, on its path (null: none) and under its key. */
  resume(path: SocketAddress | null, key: DataKeyName, nextSequence: number, fastSequence?: number): void {
    this.sending = this.#sending(key, nextSequence, fastSequence);
    this.#mirror?.resume(nextSequence);
    this.#waiting.clear();
    this.#take(path);
    // What a challenge of the hint made wait until now.
    this.flush();
  }

  /**
   * Sends an inner packet, which has 16 octets of room before it, to the device, or queues it. The number that it got under its key;
   * 0: it has none yet.
   */
  deliver(buffer: Uint8Array, at: number, length: number): number {
    if (this.#queueing === null) return this.#send(buffer, at, length);
    this.#host.counters.count('downlink', this.#queue.push(buffer, at, length) ? 'held' : 'hold-full');
    return 0;
  }

  /** Sends what is queued, in order, before anything that comes later; forgets it where there is no path. */
  flush(): void {
    if (this.#path === null) {
      this.drop();
      return;
    }
    this.#queueing = null;
    this.#changed = true;
    this.#queue.release((buffer, at, length) => void this.#send(buffer, at, length));
  }

  /** Forgets what is queued. */
  drop(): void {
    this.#queueing = null;
    this.#changed = true;
    const lost = this.#queue.clear();
    if (lost > 0) this.#host.counters.count('downlink', 'hold-dropped', lost);
  }

  retire(): void {
    this.drop();
    this.#mirror?.retire();
    this.#mirror = null;
  }

  #take(path: SocketAddress | null): void {
    this.#path = path;
    this.#endpoint = path === null ? null : endpointFor(this.#anchor, path);
    this.#changed = true;
  }

  #send(buffer: Uint8Array, at: number, length: number): number {
    const { counters, marking } = this.#host;
    if (this.#path === null || this.#endpoint === null) {
      counters.count('downlink', 'no-path');
      return 0;
    }
    if (this.sending === null) {
      counters.count('downlink', 'no-key');
      return 0;
    }
    const { sender } = this.sending;
    this.#mirror?.reserve(sender.nextSequence);
    const inner = trafficClass(buffer, at);
    const marked = ingressInner(marking, inner);
    if (marked !== inner) setTrafficClass(buffer, at, marked);
    const datagramAt = sender.seal(buffer, at, length);
    if (datagramAt === KEY_EXHAUSTED) {
      counters.count('downlink', 'key-exhausted');
      return sender.sequence;
    }
    counters.count('downlink', 'forwarded');
    const outer = ingressOuter(marking, inner);
    this.#host.toDevice(this.#endpoint, this.#path, buffer, datagramAt, length + DATA.inner, outer);
    return sender.sequence;
  }

  #sending(name: DataKeyName, nextSequence: number, fastSequence = 1): Sending {
    const { keyNumber } = name;
    const octets = deriveDataKey(this.#root, 'to-device', name);
    const sender = new DataSender({ key: sipKey(octets), index: this.#index, keyNumber, nextSequence });
    return { name, sender, fastKey: this.#mirror === null ? null : { octets, name }, fastSequence };
  }
}
