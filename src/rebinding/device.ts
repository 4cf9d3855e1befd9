import type { SocketAddress } from '../protocol/address.ts';
import type { ControlDraft, ControlMessage } from '../tunnel/message.ts';
import type { OldPath } from '../tunnel/wire.ts';
import { Liveness } from './device/liveness.ts';
import { Probes } from './device/probes.ts';
import { RelayIncarnation } from './device/relay-incarnation.ts';
import { RoundTrips, smoothed } from './device/round-trips.ts';
import type {
  DeviceCount,
  DeviceInput,
  DeviceOutput,
  DeviceRebinding,
  DeviceRebindingOptions,
  LinkId,
} from './device-io.ts';

/**
 * Pauses between two BINDs: 1.5 round trips at first, doubling, so bounded that a pause and a contest of two
 * paths take less than a second. A device that was long away asks less often.
 */
const BIND_LEAST_MS = 50;
const BIND_UNMEASURED_MS = 100;
const BIND_MOST_MS = 500;
const BIND_MOST_LATER_MS = 5_000;
const LATER_MS = 30_000;
/** A BIND is offered over signalling when this many in band went unanswered, and again after as many more. */
const SIGNAL_EVERY = 4;

interface Binding {
  readonly link: LinkId;
  readonly generation: number;
  oldPath: OldPath;
  readonly startedMs: number;
  sentMs: number;
  attempts: number;
  pauseMs: number;
  /** Least round trip that an answer on this link has shown since the binding began; 0 before. */
  rttMs: number;
}

/**
 * The device's side of one session's rebinds. Promises: DATA always has a link to leave on while one is there;
 * a BIND is repeated until it is accepted, replaced by a newer one, or its link is gone; every fresh challenge
 * is answered at once on the link that it came in on; of the relay's incarnations only the newest is believed.
 */
export function createDeviceRebinding(options: DeviceRebindingOptions): DeviceRebinding {
  return new DeviceSession(options);
}

class DeviceSession implements DeviceRebinding {
  readonly #boot: bigint;
  readonly #liveness = new Liveness();
  readonly #relay = new RelayIncarnation();
  readonly #roundTrips = new RoundTrips();
  readonly #probes = new Probes();
  #generation = 0;
  #boundGeneration = 0;
  /**
   * Latest bind on each link. A proof says that of its own link, so that a BIND which someone re-sent under
   * another link's address is not confirmed there.
   */
  readonly #linkGenerations = new Map<LinkId, number>();
  #bound: LinkId | null = null;
  #uplink: LinkId | null = null;
  #binding: Binding | null = null;
  #rttMs = 0;
  /** Counter of our latest message: every draft takes the next one. */
  #counter = 0n;
  #nowMs = 0;
  #observed: SocketAddress | null = null;
  #out: DeviceOutput[] = [];

  constructor(options: DeviceRebindingOptions) {
    this.#boot = options.boot;
  }

  get uplink(): LinkId | null {
    return this.#uplink;
  }
  get bound(): LinkId | null {
    return this.#bound;
  }
  get binding(): boolean {
    return this.#binding !== null;
  }
  get generation(): number {
    return this.#generation;
  }
  get epoch(): bigint {
    return this.#relay.epoch;
  }
  get relayBoot(): bigint {
    return this.#relay.boot;
  }
  get keyNumber(): number {
    return this.#relay.keyNumber;
  }
  get rttMs(): number {
    return this.#rttMs;
  }

  get nextDueMs(): number {
    if (this.#binding) return this.#binding.sentMs + this.#binding.pauseMs;
    return this.#uplink === null ? Number.POSITIVE_INFINITY : this.#liveness.dueMs(this.#rttMs);
  }

  noteSent(nowMs: number): void {
    this.#liveness.noteSent(nowMs);
  }

  noteReceived(nowMs: number): void {
    this.#liveness.noteData(nowMs);
  }

  step(input: DeviceInput, nowMs: number): readonly DeviceOutput[] {
    this.#out = [];
    this.#nowMs = nowMs;
    switch (input.type) {
      case 'use':
        this.#bindOn(input.link, input.oldPath, nowMs);
        break;
      case 'link-gone':
        this.#linkGone(input.link, nowMs);
        break;
      case 'leaving':
        if (this.#uplink !== null) this.#send(this.#uplink, { kind: 'hold' });
        break;
      case 'probe':
        this.#probe(input.link, input.id, nowMs);
        break;
      case 'control':
        this.#control(input.link, input.message, nowMs);
        break;
      case 'tick':
        this.#tick(nowMs);
        break;
      default:
        input satisfies never;
    }
    return this.#out;
  }

  // --- moving -----------------------------------------------------------------------------------------

  #bindOn(link: LinkId, oldPath: OldPath, nowMs: number): void {
    this.#generation += 1;
    this.#roundTrips.clear();
    this.#linkGenerations.set(link, this.#generation);
    this.#binding = {
      link,
      generation: this.#generation,
      oldPath,
      startedMs: nowMs,
      sentMs: nowMs,
      attempts: 0,
      pauseMs: this.#rttMs > 0 ? Math.max(BIND_LEAST_MS, 1.5 * this.#rttMs) : BIND_UNMEASURED_MS,
      rttMs: 0,
    };
    // The tag admits uplink from anywhere: only a path that still works is worth staying on until the answer.
    if (oldPath !== 'alive' || this.#uplink === null) this.#sendUplinkOn(link, 0);
    this.#sendBind(this.#binding, nowMs);
  }

  #sendBind(binding: Binding, nowMs: number): void {
    const draft = { kind: 'bind' as const, oldPath: binding.oldPath };
    binding.sentMs = nowMs;
    binding.attempts += 1;
    this.#send(binding.link, draft);
    const unanswered = binding.attempts % SIGNAL_EVERY === 0;
    if (unanswered || (binding.attempts === 1 && binding.oldPath === 'dead')) {
      this.#out.push({ type: 'signal', link: binding.link, draft: this.#completed(draft) });
    }
  }

  #linkGone(link: LinkId, nowMs: number): void {
    if (this.#uplink === link) this.#uplink = null;
    if (this.#bound === link) this.#bound = null;
    this.#linkGenerations.delete(link);
    const binding = this.#binding;
    if (binding?.link === link) {
      this.#binding = null;
      // The relay may have accepted it already: say that the other link is the one.
      if (this.#uplink !== null) this.#bindOn(this.#uplink, 'dead', nowMs);
    } else if (binding && this.#bound === null && binding.oldPath === 'alive') {
      binding.oldPath = 'dead';
      this.#sendUplinkOn(binding.link, 0);
      this.#sendBind(binding, nowMs);
    }
  }

  #sendUplinkOn(link: LinkId, afterMs: number): void {
    if (this.#uplink === link) return;
    this.#uplink = link;
    this.#out.push({ type: 'uplink', link, afterMs });
  }

  #tick(nowMs: number): void {
    if (nowMs < this.nextDueMs) return;
    const binding = this.#binding;
    if (binding) {
      const mostMs = nowMs - binding.startedMs < LATER_MS ? BIND_MOST_MS : BIND_MOST_LATER_MS;
      binding.pauseMs = Math.min(2 * binding.pauseMs, mostMs);
      this.#sendBind(binding, nowMs);
    } else if (this.#uplink !== null && this.#liveness.isLost(nowMs, this.#rttMs)) {
      this.#rebind('unanswered', nowMs);
    } else if (this.#uplink !== null) {
      this.#liveness.noteProbe(nowMs);
      this.#send(this.#uplink, { kind: 'keepalive' });
    }
  }

  /** Generation 0: the relay answers to wherever it came from, and takes it for no move. */
  #probe(link: LinkId, id: number, nowMs: number): void {
    this.#send(link, { kind: 'keepalive', generation: 0 });
    this.#probes.noteSent(this.#counter, link, id, nowMs);
  }

  #rebind(reason: 'unanswered' | 'forgotten', nowMs: number): void {
    if (this.#uplink === null) return;
    this.#out.push({ type: 'lost', reason });
    this.#liveness.restart();
    // Where the relay sends now is worth asking, unless it has just answered that it is not here.
    this.#bindOn(this.#uplink, reason === 'forgotten' ? 'alive' : 'unknown', nowMs);
  }

  // --- what the relay says ----------------------------------------------------------------------------

  #control(link: LinkId, message: ControlMessage, nowMs: number): void {
    if (message.kind !== 'challenge' && message.kind !== 'sync' && message.kind !== 'notice') {
      this.#count('not-for-device');
      return;
    }
    if (message.echoBoot !== this.#boot) {
      this.#count('not-for-this-boot');
      return;
    }
    const admission = this.#relay.admit(message);
    if (typeof admission === 'string') {
      this.#count(admission);
      return;
    }
    const { isNew, isNewest } = admission;
    const probe = this.#probes.answered(message.echoCounter, link, nowMs);
    if (probe !== null) this.#out.push({ type: 'answered', link, ...probe });
    // Such an answer says nothing of the path in use, nor of where the relay sends.
    const isAside = probe !== null && link !== this.#bound;
    if (!isAside) this.#liveness.noteHeard(nowMs);
    this.#measure(link, message.echoCounter, nowMs);
    const hasNewKey = isNewest && this.#adoptKey(message.keyNumber);
    if (isNew && this.#binding) this.#bindAgain(this.#binding, nowMs);
    if (message.kind === 'challenge') this.#challenge(link, message);
    else if (message.kind === 'sync') this.#sync(link, message, { isNewest, hasNewKey, isAside }, nowMs);
    else this.#out.push({ type: 'notice', code: message.code });
    if (isNewest && !isAside && message.kind !== 'notice') this.#checkWhere(link, message, nowMs);
  }

  #adoptKey(keyNumber: number): boolean {
    const { epoch, boot } = this.#relay;
    const isNew = this.#relay.adoptKey(keyNumber);
    if (isNew) this.#out.push({ type: 'keys', epoch, relayBoot: boot, keyNumber });
    return isNew;
  }

  /** The BIND on its way speaks to an incarnation that is gone: say it again to this one. */
  #bindAgain(binding: Binding, nowMs: number): void {
    binding.attempts = 0;
    this.#sendBind(binding, nowMs);
  }

  #challenge(link: LinkId, message: ControlMessage): void {
    if (this.#binding === null) this.#noteObserved(message);
    const generation = this.#linkGenerations.get(link) ?? 0;
    this.#send(link, { kind: 'proof', cookie: message.cookie, echoCounter: message.counter, generation });
  }

  #sync(
    link: LinkId,
    message: ControlMessage,
    {
      isNewest,
      hasNewKey,
      isAside,
    }: { readonly isNewest: boolean; readonly hasNewKey: boolean; readonly isAside: boolean },
    nowMs: number,
  ): void {
    const binding = this.#binding;
    if (binding && message.generation === binding.generation) {
      // Only a rebind that left the choice to the relay may be accepted on another link than asked for.
      if (link === binding.link || binding.oldPath === 'unknown')
        this.#accepted(link, binding, message, nowMs);
      return;
    }
    if (message.generation > this.#generation) {
      this.#generation = message.generation;
      if (binding) this.#bindOn(binding.link, binding.oldPath, nowMs);
      return;
    }
    if (binding || !isNewest) return;
    if (message.generation < this.#boundGeneration) {
      this.#rebind('forgotten', nowMs);
      return;
    }
    if (!isAside) this.#noteObserved(message);
    // A challenge confirms itself by its proof; a sync that brought a key does not.
    if (hasNewKey && this.#uplink !== null) this.#send(this.#uplink, { kind: 'keepalive' });
  }

  #accepted(link: LinkId, binding: Binding, message: ControlMessage, nowMs: number): void {
    this.#rttMs = binding.rttMs;
    this.#binding = null;
    this.#bound = link;
    this.#boundGeneration = binding.generation;
    // What was asked for elsewhere is not wanted any more.
    if (link !== binding.link) this.#linkGenerations.delete(binding.link);
    this.#linkGenerations.set(link, binding.generation);
    this.#observed = message.observed;
    this.#liveness.restart();
    this.#liveness.noteSent(nowMs);
    this.#liveness.noteHeard(nowMs);
    this.#out.push({
      type: 'bound',
      link,
      generation: binding.generation,
      observed: message.observed,
      rttMs: this.#rttMs,
      tookMs: nowMs - binding.startedMs,
    });
    this.#sendUplinkOn(link, message.delayMs);
  }

  #measure(link: LinkId, echoCounter: bigint, nowMs: number): void {
    const sampleMs = this.#roundTrips.measure(echoCounter, link, nowMs);
    if (sampleMs === null) return;
    const binding = this.#binding;
    if (binding !== null) {
      if (link === binding.link) binding.rttMs = Math.min(sampleMs, binding.rttMs || sampleMs);
    } else if (link === this.#bound) {
      this.#rttMs = smoothed(this.#rttMs, sampleMs);
    }
  }

  /** The relay takes another link for ours than the one it told us: say again which one it is. */
  #checkWhere(link: LinkId, { generation }: ControlMessage, nowMs: number): void {
    if (this.#binding || this.#bound === null || this.#bound === link || this.#uplink === null) return;
    if (generation === this.#boundGeneration) this.#bindOn(this.#uplink, 'alive', nowMs);
  }

  #noteObserved(message: ControlMessage): void {
    if (message.observed === null) return;
    this.#liveness.noteMapping(message.observed.key !== this.#observed?.key);
    this.#observed = message.observed;
  }

  #send(link: LinkId, draft: ControlDraft): void {
    this.#out.push({ type: 'send', link, draft: this.#completed(draft) });
    this.#roundTrips.noteAsked(this.#counter, link, this.#nowMs);
  }

  #completed(draft: ControlDraft): ControlDraft {
    this.#counter += 1n;
    const { epoch, boot: echoBoot } = this.#relay;
    return { epoch, echoBoot, generation: this.#generation, ...draft };
  }

  #count(reason: DeviceCount): void {
    this.#out.push({ type: 'count', reason });
  }
}
