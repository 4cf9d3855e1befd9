import type { SessionState } from '../../src/protocol/relay-plane.ts';
import { ControlChannel, peekType } from '../../src/tunnel/control.ts';
import { DataReceiver, dataRefusalName, type Lane, sealData } from '../../src/tunnel/data.ts';
import { type DataKeyName, deriveDataKey } from '../../src/tunnel/keys.ts';
import type { ControlDraft, ControlMessage } from '../../src/tunnel/message.ts';
import { type SipKey, sipKey } from '../../src/tunnel/siphash.ts';
import { DATA, TYPE } from '../../src/tunnel/wire.ts';

/** What a story may do to a DATA header before it is sealed. */
export interface HeaderChange {
  readonly lane?: Lane;
  /** Added to the next sequence, which then goes on from there. */
  readonly skip?: number;
  readonly keyNumber?: number;
}

/** A device's end of the tunnel that does what a story tells it to; one for each subject that is compared. */
export class StoryDevice {
  readonly index: number;
  readonly boot: bigint;
  generation = 1;
  epoch = 0n;
  relayBoot = 0n;
  keyNumber = 0;
  readonly #root: Uint8Array;
  readonly #receiver = new DataReceiver();
  #channel: ControlChannel | null = null;
  #sending: SipKey | null = null;
  readonly #sequences: [number, number] = [0, 0];
  /** Challenges that were not answered yet, and the path that each was sent to. */
  challenges: { readonly message: ControlMessage; readonly path: string; readonly endpoint: string }[] = [];

  constructor(root: Uint8Array, index: number, boot: bigint) {
    this.#root = root;
    this.index = index;
    this.boot = boot;
  }

  get hasKey(): boolean {
    return this.#sending !== null;
  }

  /** Goes on with the DATA key that a session was handed over with. */
  resume({ data }: SessionState): void {
    this.#adopt(
      { epoch: BigInt(data.epoch), relayBoot: BigInt(`0x${data.relayBoot}`), keyNumber: data.keyNumber },
      0,
    );
  }

  control(draft: ControlDraft): Uint8Array {
    const { epoch, relayBoot: echoBoot, generation } = this;
    return this.#control().seal({ epoch, echoBoot, generation, ...draft });
  }

  proof({ cookie, counter }: ControlMessage): Uint8Array {
    return this.control({ kind: 'proof', cookie, echoCounter: counter });
  }

  /** A DATA datagram; null before there is a key. */
  data(inner: Uint8Array, change: HeaderChange = {}): Uint8Array | null {
    if (this.#sending === null) return null;
    const lane = change.lane ?? 0;
    this.#sequences[lane] += 1 + (change.skip ?? 0);
    const buffer = new Uint8Array(DATA.inner + inner.length);
    buffer.set(inner, DATA.inner);
    const { index } = this;
    const keyNumber = change.keyNumber ?? this.keyNumber;
    const sequence = this.#sequences[lane] >>> 0;
    sealData(this.#sending, { index, keyNumber, lane, sequence }, buffer, 0, inner.length);
    return buffer;
  }

  /** What a datagram of the relay says, in words that do not depend on lanes, sequences and counters. */
  read(octets: Uint8Array, path: string, endpoint: string, nowMs: number): string {
    if (peekType(octets, 0, octets.length) !== TYPE.control) {
      const phase = (octets[0]! & DATA.phaseMask) >> DATA.phaseShift;
      const at = this.#receiver.open(octets, 0, octets.length, nowMs);
      if (at < 0) return `data refused by the device: ${dataRefusalName(at)}`;
      return `data phase ${phase} ${hex(octets.subarray(at))}`;
    }
    const message = this.#control().open(octets, 0, octets.length);
    if (typeof message === 'string') return `control refused by the device: ${message}`;
    if (message.kind === 'challenge') this.challenges.push({ message, path, endpoint });
    if (message.echoBoot === this.boot) this.#adoptNewer(message, nowMs);
    const { kind, epoch, generation, keyNumber, code, observed, delayMs } = message;
    return `${kind} epoch ${epoch} generation ${generation} key ${keyNumber} code ${code} at ${observed?.key ?? '-'} wait ${delayMs}`;
  }

  #control(): ControlChannel {
    this.#channel ??= new ControlChannel({
      root: this.#root,
      index: this.index,
      boot: this.boot,
      sends: 'to-relay',
    });
    return this.#channel;
  }

  #adoptNewer(message: ControlMessage, nowMs: number): void {
    if (message.epoch < this.epoch) return;
    const isSame = message.epoch === this.epoch && message.boot === this.relayBoot;
    if (isSame && message.keyNumber <= this.keyNumber) return;
    this.#adopt({ epoch: message.epoch, relayBoot: message.boot, keyNumber: message.keyNumber }, nowMs);
  }

  #adopt({ epoch, relayBoot, keyNumber }: Omit<DataKeyName, 'deviceBoot'>, nowMs: number): void {
    this.epoch = epoch;
    this.relayBoot = relayBoot;
    this.keyNumber = keyNumber;
    const name = { epoch, relayBoot, deviceBoot: this.boot, keyNumber };
    this.#receiver.install(dataKey(this.#root, 'to-device', name), keyNumber, {
      previousUntilMs: nowMs + 10_000,
    });
    this.#sending = dataKey(this.#root, 'to-relay', name);
    this.#sequences.fill(0);
  }
}

const derived = new Map<string, SipKey>();

/** Devices of all stories have the same few keys. */
function dataKey(root: Uint8Array, direction: 'to-relay' | 'to-device', name: DataKeyName): SipKey {
  const { epoch, relayBoot, deviceBoot, keyNumber } = name;
  const id = `${root[0]} ${direction} ${epoch} ${relayBoot} ${deviceBoot} ${keyNumber}`;
  const known = derived.get(id);
  if (known !== undefined) return known;
  const key = sipKey(deriveDataKey(root, direction, name));
  derived.set(id, key);
  return key;
}

export function hex(octets: Uint8Array): string {
  return Buffer.from(octets.buffer, octets.byteOffset, octets.length).toString('hex');
}
