import type { SocketAddress } from '../protocol/address.ts';
import type { ControlDraft, ControlMessage } from '../tunnel/message.ts';
import type { OldPath } from '../tunnel/wire.ts';

/** Names one of the device's links (a socket bound to it); opaque here. */
export type LinkId = string;

export interface DeviceRebindingOptions {
  /** This process's incarnation: the same 64 bits that the CONTROL channel puts into its headers. */
  readonly boot: bigint;
}

export type DeviceInput =
  /**
   * Move to `link`, and say what is known of the path in use so far: `alive` (it still carries packets),
   * `dead` (it is gone), `unknown`. The first use of a session is `unknown`.
   */
  | { readonly type: 'use'; readonly link: LinkId; readonly oldPath: OldPath }
  /** A link is gone for good; nothing is sent on it until it is used again. */
  | { readonly type: 'link-gone'; readonly link: LinkId }
  /** The link in use is about to go and no other is up yet: ask the relay to hold downlink. */
  | { readonly type: 'leaving' }
  /** Ask over `link`, in use or not, for an answer that measures it and changes nothing. `id` comes back with it. */
  | { readonly type: 'probe'; readonly link: LinkId; readonly id: number }
  /** A CONTROL message that the session's AEAD authenticated, and the link it came in on. */
  | { readonly type: 'control'; readonly link: LinkId; readonly message: ControlMessage }
  /** Time has passed. To be called at `nextDueMs`. */
  | { readonly type: 'tick' };

/**
 * To be carried out in the order given. Every draft takes the channel's next counter, the first one counter 1: by
 * the counter that an answer echoes the device knows which message it measures.
 */
export type DeviceOutput =
  | { readonly type: 'send'; readonly link: LinkId; readonly draft: ControlDraft }
  /** Offer this BIND over signalling too, sealed as a CONTROL datagram, with the address of `link`. */
  | { readonly type: 'signal'; readonly link: LinkId; readonly draft: ControlDraft }
  /**
   * Send DATA on `link` from now on. `afterMs` > 0: queue it for that long first, because the new path is
   * that much faster.
   */
  | { readonly type: 'uplink'; readonly link: LinkId; readonly afterMs: number }
  /**
   * Derive the DATA keys of (`epoch`, `relayBoot`, own boot, `keyNumber`); send under them from now on, and
   * receive under them as well as, for 10 s, under the former ones.
   */
  | {
      readonly type: 'keys';
      readonly epoch: bigint;
      readonly relayBoot: bigint;
      readonly keyNumber: number;
    }
  /** The relay sends to this link now. */
  | {
      readonly type: 'bound';
      readonly link: LinkId;
      readonly generation: number;
      /** The device's transport address as the relay sees it. */
      readonly observed: SocketAddress | null;
      /** Round trip of the path; 0 when not measured. */
      readonly rttMs: number;
      /** From `use` (or the discovery that the path was lost) to here. */
      readonly tookMs: number;
    }
  /** The relay does not answer, or has no path to us: rebinding has begun on the same link, unasked. */
  | { readonly type: 'lost'; readonly reason: 'unanswered' | 'forgotten' }
  /** The answer to a probe, after `rttMs`. */
  | { readonly type: 'answered'; readonly link: LinkId; readonly id: number; readonly rttMs: number }
  /** The relay refused something: RSIP error number. */
  | { readonly type: 'notice'; readonly code: number }
  | { readonly type: 'count'; readonly reason: DeviceCount };

export type DeviceCount =
  /** Does not echo this device's boot: for another incarnation, or replayed. */
  | 'not-for-this-boot'
  | 'replayed'
  /** From an incarnation of the relay that another one replaced. */
  | 'former-relay'
  | 'not-for-device';

/** One session's rebinding at the device: pure, synchronous, without clock or randomness of its own. */
export interface DeviceRebinding {
  /** Takes an input at `nowMs` (monotonic, never falling) and says what is to be done. Never throws on input. */
  step(input: DeviceInput, nowMs: number): readonly DeviceOutput[];
  /** Note that DATA was sent: a plain store, cheap enough for every packet. Moves `nextDueMs`. */
  noteSent(nowMs: number): void;
  /** Note that DATA was received and its tag verified. Moves `nextDueMs`. */
  noteReceived(nowMs: number): void;
  /**
   * When to `tick` next; Infinity when there is nothing to wait for. Ask again after every step, and every
   * 200 ms while packets flow (an early tick does no harm).
   */
  readonly nextDueMs: number;
  /** The link that DATA leaves on; null before the first `use` and when it is gone. */
  readonly uplink: LinkId | null;
  /** The link that the relay was last heard to send to; null before the first acceptance. */
  readonly bound: LinkId | null;
  /** True while a BIND is on its way. */
  readonly binding: boolean;
  readonly generation: number;
  readonly epoch: bigint;
  readonly relayBoot: bigint;
  readonly keyNumber: number;
  readonly rttMs: number;
}
