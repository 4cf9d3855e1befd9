import type { SocketAddress } from '../protocol/address.ts';
import type { ControlDraft, ControlMessage } from '../tunnel/message.ts';
import type { OldPath } from '../tunnel/wire.ts';

/** Fills `octets` fresh random octets: from a cryptographic source in production, from a seed in tests. */
export type RandomOctets = (octets: number) => Uint8Array;

/** What the owner relay knows when a session begins on it. */
export interface RelayRebindingOptions {
  /** Of the anchor; above zero. */
  readonly epoch: bigint;
  /** This process's incarnation. */
  readonly relayBoot: bigint;
  readonly random: RandomOctets;
  /**
   * Number DATA keys above this (default 0). A process that begins the same session again under one epoch and boot names
   * the highest number that it has used, so that no key is ever started twice.
   */
  readonly lastKeyNumber?: number;
  /** Default: nothing is known, and nothing held. */
  readonly hint?: PathHinted | null;
  /** A hint, or a newer one, is on its way: downlink is held as with one (default false). */
  readonly awaitsHint?: boolean;
  /** A session taken over by planned hand-over: its path stays active and its old DATA keys stay in use. */
  readonly resumed?: RelayRebindingState | null;
}

/** Where the device was last proven under a former incarnation: challenged, never trusted. */
export interface PathHinted {
  readonly path: SocketAddress;
  readonly generation: number;
  readonly deviceBoot: bigint;
}

/** What a planned hand-over carries of a session's rebinding; the DATA windows are the engine's. */
export interface RelayRebindingState {
  readonly active: SocketAddress | null;
  readonly generation: number;
  readonly deviceBoot: bigint;
  /** Number of the newest DATA key under the former owner; the new owner's first is the next one. */
  readonly keyNumber: number;
  /** Of the active path; 0 when never measured. */
  readonly rttMs: number;
  /** CONTROL counters of the device's boot that were accepted: highest, and the bitmap below it (hexadecimal). */
  readonly control: { readonly highest: string; readonly bitmap: string };
}

export type RelayInput =
  /** A CONTROL message that the session's AEAD authenticated, and the address that its datagram came from. */
  | { readonly type: 'control'; readonly from: SocketAddress; readonly message: ControlMessage }
  /**
   * A CONTROL message of the same kind that came over signalling. `believed` is the address that the device
   * sees on its own interface: one challenge goes there, and a BIND with `oldPath: dead` starts a hold.
   */
  | { readonly type: 'signalled'; readonly believed: SocketAddress; readonly message: ControlMessage }
  /**
   * A DATA datagram. To be told for datagrams that are not from `active`, and for the first ones under a
   * new key number; at most some 100 times a second a session. `fresh`: its tag and its replay window
   * admitted it. With `fresh: false` (a key that this incarnation does not have, or a replay) only a
   * datagram from the hinted path means something: the device is there still and has not heard of us.
   */
  | {
      readonly type: 'data';
      readonly from: SocketAddress;
      readonly fresh: boolean;
      readonly keyNumber: number;
      /** UDP payload length. An unproven address is never sent more octets than came from it. */
      readonly octets: number;
    }
  /** What the registry knows by now; without a meaning once a device has proven itself. */
  | { readonly type: 'hint'; readonly hint: PathHinted }
  /** The newest DATA key wears out: number the next one and tell the device. */
  | { readonly type: 'rekey' }
  /** Time has passed. To be called at `nextDueMs`, and once right after creation. */
  | { readonly type: 'tick' };

/** To be carried out in the order given. */
export type RelayOutput =
  | { readonly type: 'send'; readonly to: SocketAddress; readonly draft: ControlDraft }
  /** Queue the session's downlink, bounded in octets; a `release` follows at `untilMs` at the latest. */
  | { readonly type: 'hold'; readonly untilMs: number }
  /** End the hold: send the queue in order to `to`; null: there is no proven path, drop it. */
  | { readonly type: 'release'; readonly to: SocketAddress | null }
  /**
   * Send downlink to `path` from now on. `afterMs` > 0: queue it for that long first, because the new path
   * is that much faster and would overtake packets still on the old one.
   */
  | { readonly type: 'flip'; readonly path: SocketAddress; readonly afterMs: number }
  /**
   * Derive the DATA keys of (epoch, relay boot, `deviceBoot`, `keyNumber`) and receive under them. Numbers
   * never repeat within one relay boot. Older keys go on being received for 10 s and sent under until
   * `sender-keys`.
   */
  | { readonly type: 'keys'; readonly deviceBoot: bigint; readonly keyNumber: number }
  /** The device has this key: send downlink under it. */
  | { readonly type: 'sender-keys'; readonly keyNumber: number }
  /** The device proved itself at `path`. */
  | {
      readonly type: 'moved';
      readonly path: SocketAddress;
      readonly generation: number;
      readonly deviceBoot: bigint;
      readonly oldPath: OldPath;
      /** From the first message of this rebind to the flip. */
      readonly tookMs: number;
    }
  | { readonly type: 'count'; readonly reason: RelayCount };

/** Why a message changed nothing, or what is worth an operator's attention. */
export type RelayCount =
  /** Does not echo this incarnation: answered by a sync. */
  | 'stale-incarnation'
  | 'replayed'
  /** From a device boot that another one replaced: a second process or a clone of the device. */
  | 'boot-retired'
  | 'lower-generation'
  /** A proof for no open challenge, from another address than challenged, or with another cookie. */
  | 'proof-refused'
  /** A proof of a generation that the device itself has left behind. */
  | 'proof-superseded'
  /** The path in use proved itself: the contender is not believed. */
  | 'contender-refused'
  | 'candidates-full'
  | 'answer-limited'
  | 'not-for-relay'
  | 'hold-expired';

/** One session's rebinding at the owner relay: pure, synchronous, without clock or randomness of its own. */
export interface RelayRebinding {
  /** Takes an input at `nowMs` (monotonic, never falling) and says what is to be done. Never throws on input. */
  step(input: RelayInput, nowMs: number): readonly RelayOutput[];
  /** When to `tick` next; Infinity when there is nothing to wait for. */
  readonly nextDueMs: number;
  /** Where downlink goes: always an address that the device proved; null before the first proof. */
  readonly active: SocketAddress | null;
  /** Of the accepted rebind; 0 before the first proof. */
  readonly generation: number;
  /** The device's incarnation that proved itself; 0n before the first proof. */
  readonly deviceBoot: bigint;
  /** Number of the newest DATA key. */
  readonly keyNumber: number;
  /** Round trip of the active path; 0 when not measured. */
  readonly rttMs: number;
  /** True between `hold` and `release`. */
  readonly holding: boolean;
  /** For a planned hand-over; null when no device has proven itself. */
  exportState(): RelayRebindingState | null;
}
