import { badInput } from '../protocol/errors.ts';
import { decodeBody, directionOf, encodeBody } from './control-body.ts';
import { cryptography } from './cryptography.ts';
import { deriveControlAeadKey, deriveControlTagKey } from './keys.ts';
import type { ControlDraft, ControlMessage } from './message.ts';
import { type SipKey, sipKey, tagMatches, writeTag } from './siphash.ts';
import { CONTROL, type Direction, TYPE } from './wire.ts';

/** Why a datagram is not a CONTROL message for this session. */
export type ControlRefusal =
  | 'bad-length'
  | 'bad-type'
  | 'wrong-index'
  | 'bad-tag'
  | 'bad-counter'
  | 'bad-seal'
  | 'bad-body';

/** The high nibble of a datagram's first octet (see `TYPE`); 0 for an empty one. */
export function peekType(buffer: Uint8Array, at: number, length: number): number {
  return length < 1 ? 0 : buffer[at]! >> 4;
}

/** The session index of any tunnel datagram; 0, which names no session, when it is too short. */
export function peekIndex(buffer: Uint8Array, at: number, length: number): number {
  return length < 4 ? 0 : (buffer[at + 1]! << 16) | (buffer[at + 2]! << 8) | buffer[at + 3]!;
}

/** What one end of a session's CONTROL needs of K_root for as long as its incarnation lives. */
export interface ControlKeys {
  /** K_root, 32 octets. */
  readonly root: Uint8Array;
  readonly sends: Direction;
  readonly boot: bigint;
  readonly sendTag: SipKey;
  readonly receiveTag: SipKey;
  /** `receiveTag` as 16 octets. */
  readonly receiveTagOctets: Uint8Array;
  readonly sendAead: Uint8Array;
}

/** Derives them: the costly part of a channel, and possible long before it is known whether there will be one. */
export function deriveControlKeys(root: Uint8Array, sends: Direction, boot: bigint): ControlKeys {
  const receiveTagOctets = deriveControlTagKey(root, sends === 'to-relay' ? 'to-device' : 'to-relay');
  return {
    root,
    sends,
    boot,
    sendTag: sipKey(deriveControlTagKey(root, sends)),
    receiveTag: sipKey(receiveTagOctets),
    receiveTagOctets,
    sendAead: deriveControlAeadKey(root, sends, boot),
  };
}

/** AEAD keys of other incarnations that are kept derived: the current one and those still in flight. */
const PEER_KEYS = 4;
const MAX_COUNTER = BigInt(Number.MAX_SAFE_INTEGER);

/**
 * One incarnation's end of a session's CONTROL: seals what it sends in one direction, opens what comes from
 * the other. It judges form and authenticity only; replay and meaning are the state machines' part.
 */
export class ControlChannel {
  readonly boot: bigint;
  readonly index: number;
  readonly sends: Direction;
  readonly #receives: Direction;
  readonly #root: Uint8Array;
  readonly #sendTagKey: SipKey;
  readonly #receiveTagKey: SipKey;
  readonly #sendAeadKey: Uint8Array;
  readonly #peerAeadKeys = new Map<bigint, Uint8Array>();
  #counter = 0n;

  constructor(options: {
    /** K_root, 32 octets. */
    readonly root: Uint8Array;
    readonly sends: Direction;
    readonly index: number;
    /** This incarnation, never 0; never used before with the same root and direction. */
    readonly boot: bigint;
    /**
     * Start above this counter (default 0). A process that may open a channel for the same session again names the
     * highest counter that it has used, so that no (key, nonce) repeats.
     */
    readonly after?: bigint;
    /** Of that root, direction and boot, derived before (default: derived now). */
    readonly keys?: ControlKeys;
  }) {
    if (options.boot === 0n) throw badInput('boot', 0, 'draw 64 random bits other than 0');
    this.boot = options.boot;
    this.index = options.index;
    this.#counter = options.after ?? 0n;
    this.sends = options.sends;
    this.#receives = options.sends === 'to-relay' ? 'to-device' : 'to-relay';
    this.#root = options.root;
    const keys = options.keys ?? deriveControlKeys(options.root, options.sends, options.boot);
    this.#sendTagKey = keys.sendTag;
    this.#receiveTagKey = keys.receiveTag;
    this.#sendAeadKey = keys.sendAead;
  }

  /** Counter of the message sealed last; 0 before the first. */
  get lastCounter(): bigint {
    return this.#counter;
  }

  /** A datagram of 116 octets under the next counter. Throws ERR_MOORING_BAD_INPUT for a draft that has no encoding. */
  seal(draft: ControlDraft): Uint8Array {
    if (directionOf(draft.kind) !== this.sends) {
      throw badInput('kind', draft.kind, `send it ${directionOf(draft.kind)}; this end sends ${this.sends}`);
    }
    const body = encodeBody(draft);
    this.#counter += 1n;
    const datagram = new Uint8Array(CONTROL.length);
    const view = new DataView(datagram.buffer);
    datagram[CONTROL.first] = TYPE.control << 4;
    view.setUint16(CONTROL.index, this.index >>> 8);
    datagram[CONTROL.index + 2] = this.index;
    view.setBigUint64(CONTROL.boot, this.boot);
    view.setBigUint64(CONTROL.counter, this.#counter);
    const header = datagram.subarray(0, CONTROL.tag);
    datagram.set(
      cryptography().sealAesGcm(this.#sendAeadKey, nonceOf(datagram), header, body),
      CONTROL.sealed,
    );
    const covered = taggedPart(datagram);
    writeTag(this.#sendTagKey, covered, 0, covered, 8, covered.length - 8, datagram, CONTROL.tag);
    return datagram;
  }

  /**
   * Why `length` octets at `at` are not tagged for this session; null when they are. The cheap part of `open`, for
   * whoever limits the rest. Never throws, whatever the octets.
   */
  checkTag(buffer: Uint8Array, at: number, length: number): ControlRefusal | null {
    if (length !== CONTROL.length || at + length > buffer.length) return 'bad-length';
    if (buffer[at] !== TYPE.control << 4) return 'bad-type';
    if (peekIndex(buffer, at, length) !== this.index) return 'wrong-index';
    const datagram = buffer.subarray(at, at + length);
    const covered = taggedPart(datagram);
    return tagMatches(this.#receiveTagKey, covered, 0, covered, 8, covered.length - 8, datagram, CONTROL.tag)
      ? null
      : 'bad-tag';
  }

  /** The message in `length` octets at `at`, or why there is none. Never throws, whatever the octets. */
  open(buffer: Uint8Array, at: number, length: number): ControlMessage | ControlRefusal {
    const refusal = this.checkTag(buffer, at, length);
    if (refusal !== null) return refusal;
    const datagram = buffer.subarray(at, at + length);
    const view = new DataView(datagram.buffer, datagram.byteOffset, length);
    const boot = view.getBigUint64(CONTROL.boot);
    const counter = view.getBigUint64(CONTROL.counter);
    if (boot === 0n || counter === 0n || counter > MAX_COUNTER) return 'bad-counter';
    const sealed = datagram.subarray(CONTROL.sealed);
    const plain = this.#unseal(boot, nonceOf(datagram), datagram.subarray(0, CONTROL.tag), sealed);
    if (plain === null) return 'bad-seal';
    const body = decodeBody(plain);
    if (body === null || directionOf(body.kind) !== this.#receives) return 'bad-body';
    return { ...body, boot, counter };
  }

  #unseal(boot: bigint, nonce: Uint8Array, header: Uint8Array, sealed: Uint8Array): Uint8Array | null {
    const known = this.#peerAeadKeys.get(boot);
    const key = known ?? deriveControlAeadKey(this.#root, this.#receives, boot);
    const plain = cryptography().openAesGcm(key, nonce, header, sealed);
    if (plain === null) return null;
    if (known === undefined) {
      const oldest = this.#peerAeadKeys.size < PEER_KEYS ? undefined : this.#peerAeadKeys.keys().next().value;
      if (oldest !== undefined) this.#peerAeadKeys.delete(oldest);
      this.#peerAeadKeys.set(boot, key);
    }
    return plain;
  }
}

/** The nonce of a datagram: four zero octets and the counter. */
function nonceOf(datagram: Uint8Array): Uint8Array {
  const nonce = new Uint8Array(12);
  nonce.set(datagram.subarray(CONTROL.counter, CONTROL.counter + 8), 4);
  return nonce;
}

const scratch = new Uint8Array(CONTROL.length - 8);

/** What the tag covers, in one piece: the header before the tag and the sealed body behind it. Valid until the next call. */
function taggedPart(datagram: Uint8Array): Uint8Array {
  scratch.set(datagram.subarray(0, CONTROL.tag));
  scratch.set(datagram.subarray(CONTROL.sealed), CONTROL.tag);
  return scratch;
}
