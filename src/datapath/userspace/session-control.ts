import type { SocketAddress } from '../../protocol/address.ts';
import { createTokenBucket } from '../../rebinding/token-bucket.ts';
import { ControlChannel, deriveControlKeys } from '../../tunnel/control.ts';
import type { ControlDraft, ControlMessage } from '../../tunnel/message.ts';
import { CONTROL } from '../../tunnel/wire.ts';
import type { EngineSession } from '../engine-api.ts';
import { type Anchor, endpointFor } from './anchor.ts';
import { bootOf, ControlFilter } from './control-filter.ts';
import type { Counters } from './counters.ts';
import type { ToDevice } from './to-device.ts';

/** CONTROL datagrams with a good tag that are opened: of the device's present incarnation, and of others. */
const LIMITS = {
  presentBoot: { perSecond: 200, burst: 100 },
  otherBoots: { perSecond: 100, burst: 50 },
} as const;

/** What the CONTROL of a session needs of the engine around it. */
export interface ControlHost {
  readonly relayBoot: bigint;
  readonly counters: Counters;
  /** No (key, nonce) repeats, even when a session comes back to the same process: new ones start above these. */
  readonly used: { counter: bigint };
  readonly toDevice: ToDevice;
}

/** The CONTROL datagrams of one session: opens what is worth it, and no more than its share; seals what is answered. */
export class SessionControl {
  /** SipHash key of what the device sends. */
  readonly tagKey: Uint8Array;
  readonly #host: ControlHost;
  readonly #anchor: Anchor;
  readonly #channel: ControlChannel;
  readonly #filter = new ControlFilter();
  readonly #presentLimit = createTokenBucket(LIMITS.presentBoot.burst, LIMITS.presentBoot.perSecond);
  readonly #otherLimit = createTokenBucket(LIMITS.otherBoots.burst, LIMITS.otherBoots.perSecond);

  constructor(host: ControlHost, anchor: Anchor, { index, root }: Pick<EngineSession, 'index' | 'root'>) {
    const keys = deriveControlKeys(root, 'to-device', host.relayBoot);
    this.#host = host;
    this.#anchor = anchor;
    this.tagKey = keys.receiveTagOctets;
    this.#channel = new ControlChannel({
      ...{ root, sends: 'to-device', index, keys },
      boot: host.relayBoot,
      after: host.used.counter,
    });
  }

  /** Opens a datagram from the network, unless it was opened before: null when there is nothing to be told. */
  receive(
    buffer: Uint8Array,
    at: number,
    length: number,
    presentBoot: bigint,
    nowMs: number,
  ): ControlMessage | null {
    if (length === CONTROL.length && this.#filter.seen(buffer, at)) {
      this.#host.counters.count('control', 'replayed');
      return null;
    }
    const message = this.open(buffer, at, length, presentBoot, nowMs);
    if (message !== null) this.#filter.remember(message.boot, message.counter, presentBoot);
    return message;
  }

  /** Opens a datagram; `presentBoot` is the incarnation of the device that the session is bound to. */
  open(
    buffer: Uint8Array,
    at: number,
    length: number,
    presentBoot: bigint,
    nowMs: number,
  ): ControlMessage | null {
    const { counters } = this.#host;
    // Before the limit: what anybody can send must not use up what the device may.
    const refusal = this.#channel.checkTag(buffer, at, length);
    if (refusal !== null) {
      counters.count('control', refusal);
      return null;
    }
    // Captured ones of older incarnations are authentic too: they must not use up the present one's share.
    const isPresent = bootOf(buffer, at) === presentBoot;
    if (!(isPresent ? this.#presentLimit : this.#otherLimit).take(nowMs)) {
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

  /** Seals a message and sends it; nothing leaves where the anchor has no endpoint of the address's family. */
  send(to: SocketAddress, draft: ControlDraft): void {
    const endpoint = endpointFor(this.#anchor, to);
    if (endpoint === null) return;
    const datagram = this.#channel.seal(draft);
    this.#host.counters.count('control', `sent-${draft.kind}`);
    this.#host.toDevice(endpoint, to, datagram, 0, datagram.length, 0);
  }

  /** Whoever comes after this session in the same process goes on above its counters. */
  retire(): void {
    const { used } = this.#host;
    if (this.#channel.lastCounter > used.counter) used.counter = this.#channel.lastCounter;
  }
}
