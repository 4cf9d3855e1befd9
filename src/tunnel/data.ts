import { classify, FULL, isWholePacket } from './classify.ts';
import { type SipKey, tagMatches, writeTag } from './siphash.ts';
import { ReplayWindow, type WindowState } from './window.ts';
import { DATA, REKEY_AFTER_PACKETS, TYPE } from './wire.ts';

/** Why a datagram was refused: `open` returns these instead of an offset. */
export const DATA_REFUSED = {
  tooShort: -1,
  badHeader: -2,
  unknownPhase: -3,
  badInner: -4,
  classMismatch: -5,
  replayed: -6,
  badTag: -7,
} as const;

const REFUSAL_NAMES = [
  'accepted',
  'too-short',
  'bad-header',
  'unknown-phase',
  'bad-inner',
  'class-mismatch',
  'replayed',
  'bad-tag',
] as const;

/** The name of a refusal for counters and logs. */
export function dataRefusalName(refusal: number): string {
  return REFUSAL_NAMES[-refusal] ?? 'unknown';
}

/** What `DataSender.seal` returns when its key is used up: a new key is due. */
export const KEY_EXHAUSTED = -1;

/** The slow engine numbers its packets in lane 0, the fast one in lane 1. */
export type Lane = 0 | 1;

/** The fields of a DATA or DATA-FULL header. */
export interface DataHeader {
  readonly index: number;
  readonly keyNumber: number;
  readonly lane: Lane;
  readonly sequence: number;
}

/**
 * Writes the 16 octets of header at `at`, directly in front of an inner packet of `innerLength` octets in the
 * same buffer: the class follows from the packet, the tag from the key.
 */
export function sealData(
  key: SipKey,
  header: DataHeader,
  buffer: Uint8Array,
  at: number,
  innerLength: number,
): void {
  const { index, sequence } = header;
  const innerAt = at + DATA.inner;
  const covered = classify(buffer, innerAt, innerLength);
  const type = covered === FULL ? TYPE.dataFull : TYPE.data;
  buffer[at] = (type << 4) | ((header.keyNumber << DATA.phaseShift) & DATA.phaseMask) | (header.lane << 1);
  buffer[at + 1] = index >>> 16;
  buffer[at + 2] = index >>> 8;
  buffer[at + 3] = index;
  buffer[at + 4] = sequence >>> 24;
  buffer[at + 5] = sequence >>> 16;
  buffer[at + 6] = sequence >>> 8;
  buffer[at + 7] = sequence;
  const tagged = covered === FULL ? innerLength : covered;
  writeTag(key, buffer, at, buffer, innerAt, tagged, buffer, at + DATA.tag);
}

/**
 * Checks form, class and tag of a datagram of `length` octets at `at`, whatever its sequence. Returns the
 * offset of the inner packet or a `DATA_REFUSED`.
 */
export function openData(key: SipKey, buffer: Uint8Array, at: number, length: number): number {
  const innerLength = length - DATA.inner;
  if (innerLength < 0) return DATA_REFUSED.tooShort;
  const first = buffer[at]!;
  const type = first >> 4;
  if ((type !== TYPE.data && type !== TYPE.dataFull) || (first & DATA.reservedMask) !== 0) {
    return DATA_REFUSED.badHeader;
  }
  const innerAt = at + DATA.inner;
  if (!isWholePacket(buffer, innerAt, innerLength)) return DATA_REFUSED.badInner;
  const covered = classify(buffer, innerAt, innerLength);
  if ((covered === FULL) !== (type === TYPE.dataFull)) return DATA_REFUSED.classMismatch;
  const tagged = covered === FULL ? innerLength : covered;
  return tagMatches(key, buffer, at, buffer, innerAt, tagged, buffer, at + DATA.tag)
    ? innerAt
    : DATA_REFUSED.badTag;
}

/** The sequence in the header of a datagram that has at least 8 octets. */
export function sequenceOf(buffer: Uint8Array, at: number): number {
  return ((buffer[at + 4]! << 24) | (buffer[at + 5]! << 16) | (buffer[at + 6]! << 8) | buffer[at + 7]!) >>> 0;
}

/** One end's sending of DATA under one key: numbers and seals. */
export class DataSender implements DataHeader {
  readonly index: number;
  readonly keyNumber: number;
  readonly lane: Lane;
  /** The sequence of the last packet sealed. */
  sequence: number;
  readonly #key: SipKey;

  /** `nextSequence` goes on where another process stopped; it starts at 1. */
  constructor(options: {
    readonly key: SipKey;
    readonly index: number;
    readonly keyNumber: number;
    readonly lane?: Lane;
    readonly nextSequence?: number;
  }) {
    this.#key = options.key;
    this.index = options.index;
    this.keyNumber = options.keyNumber;
    this.lane = options.lane ?? 0;
    this.sequence = (options.nextSequence ?? 1) - 1;
  }

  /** The sequence that the next packet gets. */
  get nextSequence(): number {
    return this.sequence + 1;
  }

  set nextSequence(next: number) {
    this.sequence = next - 1;
  }

  /**
   * Writes the header in front of the inner packet at `innerAt`, which has 16 octets of room before it.
   * Returns the offset of the datagram, `innerAt − 16`, or `KEY_EXHAUSTED` (nothing is written then).
   */
  seal(buffer: Uint8Array, innerAt: number, innerLength: number): number {
    if (this.sequence >= REKEY_AFTER_PACKETS) return KEY_EXHAUSTED;
    this.sequence += 1;
    const at = innerAt - DATA.inner;
    sealData(this.#key, this, buffer, at, innerLength);
    return at;
  }
}

interface ReceivingKey {
  readonly key: SipKey;
  readonly keyNumber: number;
  /** Rises with every key installed. */
  readonly order: number;
  /** Infinity while it is in force. */
  untilMs: number;
  /** By lane; a lane that never received has no window yet. */
  readonly windows: [ReplayWindow | null, ReplayWindow | null];
}

/** Replay windows of one key at rest, by lane. */
export type LaneWindows = readonly WindowState[];

/** Mask of the bits of a key number that are its phase. */
const PHASES = DATA.phaseMask >> DATA.phaseShift;

const EMPTY_WINDOW: WindowState = { highest: 0, bitmap: '' };

/**
 * One end's receiving of DATA: the key in force and, each for a while, those before it, with a replay window
 * per key and lane. Nothing changes until a tag verified.
 */
export class DataReceiver {
  /** Of the datagram that `open` accepted last: the number of its key. */
  keyNumber = 0;
  /** Of the datagram that `open` accepted last: its sequence. */
  sequence = 0;
  /**
   * Of the datagram that `open` accepted last: sent after everything accepted in its lane before it. Only
   * such a packet says something about where the sender is now.
   */
  fresh = false;
  /** Of the datagram that `open` accepted last. */
  lane: Lane = 0;

  readonly #byPhase: (ReceivingKey | null)[] = [null, null, null, null];
  #current: ReceivingKey | null = null;
  /** Order of the newest key that the sender was seen to use. */
  #newestUsed = 0;

  /** The number of the key in force; null before the first. */
  get currentKeyNumber(): number | null {
    return this.#current?.keyNumber ?? null;
  }

  /**
   * Puts a key in force. The one before it is received until `previousUntilMs` on the clock that `open` is
   * given. An older key of the same phase ends at once, because the wire could not tell them apart. Installing
   * the key in force again changes nothing, so a repeated sync cannot empty a replay window.
   */
  install(
    key: SipKey,
    keyNumber: number,
    options: { readonly previousUntilMs?: number; readonly windows?: LaneWindows } = {},
  ): void {
    const current = this.#current;
    if (current !== null && current.keyNumber === keyNumber && sameKey(current.key, key)) return;
    if (current !== null) current.untilMs = options.previousUntilMs ?? 0;
    const [slow, fast] = options.windows ?? [];
    this.#current = {
      key,
      keyNumber,
      order: (current?.order ?? 0) + 1,
      untilMs: Number.POSITIVE_INFINITY,
      windows: [
        slow === undefined ? null : ReplayWindow.import(slow),
        fast === undefined ? null : ReplayWindow.import(fast),
      ],
    };
    this.#byPhase[keyNumber & PHASES] = this.#current;
  }

  /**
   * Judges a datagram of `length` octets at `at`. Returns the offset of its inner packet, which fills the rest
   * of the datagram, or a `DATA_REFUSED`.
   */
  open(buffer: Uint8Array, at: number, length: number, nowMs: number): number {
    if (length < DATA.inner) return DATA_REFUSED.tooShort;
    const first = buffer[at]!;
    const receiving = this.#living((first & DATA.phaseMask) >> DATA.phaseShift, nowMs);
    if (receiving === null) return DATA_REFUSED.unknownPhase;
    const lane = (first & DATA.laneBit) === 0 ? 0 : 1;
    const sequence = sequenceOf(buffer, at);
    const window = receiving.windows[lane];
    if (window === null ? sequence === 0 : !window.admits(sequence)) return DATA_REFUSED.replayed;
    const innerAt = openData(receiving.key, buffer, at, length);
    if (innerAt < 0) return innerAt;

    this.fresh = receiving.order >= this.#newestUsed && (window === null || sequence > window.highest);
    this.keyNumber = receiving.keyNumber;
    this.sequence = sequence;
    this.lane = lane;
    if (receiving.order > this.#newestUsed) this.#newestUsed = receiving.order;
    if (window === null) {
      const opened = new ReplayWindow();
      opened.commit(sequence);
      receiving.windows[lane] = opened;
    } else {
      window.commit(sequence);
    }
    return innerAt;
  }

  /**
   * The replay windows of a key, for another process to go on with; null when a newer key has taken its phase. They
   * outlive the key's time here: whoever goes on receives under it again, and must know what was received before.
   */
  windows(keyNumber: number): LaneWindows | null {
    const receiving = this.#byPhase[keyNumber & PHASES];
    if (receiving?.keyNumber !== keyNumber) return null;
    return receiving.windows.map((window) => window?.export() ?? EMPTY_WINDOW);
  }

  /**
   * Another receiver of the same sender accepted a packet under a key: false when the sender was seen to use a newer one,
   * so that the packet says nothing about where it is now.
   */
  noteUsed(keyNumber: number): boolean {
    const receiving = this.#byPhase[keyNumber & PHASES];
    if (receiving?.keyNumber !== keyNumber || receiving.order < this.#newestUsed) return false;
    this.#newestUsed = receiving.order;
    return true;
  }

  /** True for a datagram that a key verifies, whether or not it was received before. Changes nothing. */
  isAuthentic(buffer: Uint8Array, at: number, length: number, nowMs: number): boolean {
    if (length < DATA.inner) return false;
    const receiving = this.#living((buffer[at]! & DATA.phaseMask) >> DATA.phaseShift, nowMs);
    return receiving !== null && openData(receiving.key, buffer, at, length) >= 0;
  }

  /** Remembers also what another receiver took under a key that is still received here. */
  merge(keyNumber: number, lane: Lane, state: WindowState): void {
    const receiving = this.#byPhase[keyNumber & PHASES];
    if (receiving?.keyNumber !== keyNumber || state.highest === 0) return;
    const window = receiving.windows[lane] ?? new ReplayWindow();
    window.merge(state);
    receiving.windows[lane] = window;
  }

  #living(phase: number, nowMs: number): ReceivingKey | null {
    const receiving = this.#byPhase[phase] ?? null;
    return receiving !== null && nowMs < receiving.untilMs ? receiving : null;
  }
}

function sameKey(one: SipKey, other: SipKey): boolean {
  return (
    one.k0lo === other.k0lo && one.k0hi === other.k0hi && one.k1lo === other.k1lo && one.k1hi === other.k1hi
  );
}
