import type { SocketAddress } from '../../../src/protocol/address.ts';
import { ControlChannel, peekType } from '../../../src/tunnel/control.ts';
import { DataReceiver, DataSender } from '../../../src/tunnel/data.ts';
import { deriveDataKey } from '../../../src/tunnel/keys.ts';
import type { ControlDraft, ControlMessage } from '../../../src/tunnel/message.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { DATA, TYPE } from '../../../src/tunnel/wire.ts';

/**
 * A device's end of the tunnel by hand: it does what a test tells it to, and nothing by itself. Paths, retries
 * and judgement are the real device's business and tested elsewhere.
 */
export class HandDevice {
  readonly boot: bigint;
  readonly channel: ControlChannel;
  generation = 0;
  epoch = 0n;
  relayBoot = 0n;
  keyNumber = 0;
  readonly messages: ControlMessage[] = [];
  readonly received: Uint8Array[] = [];
  readonly refused: (string | number)[] = [];
  readonly #root: Uint8Array;
  readonly #index: number;
  readonly #receiver = new DataReceiver();
  #sender: DataSender | null = null;

  constructor(root: Uint8Array, index: number, boot: bigint) {
    this.#root = root;
    this.#index = index;
    this.boot = boot;
    this.channel = new ControlChannel({ root, index, boot, sends: 'to-relay' });
  }

  /** A CONTROL datagram that echoes what was heard last. */
  control(draft: ControlDraft): Uint8Array {
    const { epoch, relayBoot: echoBoot, generation } = this;
    return this.channel.seal({ epoch, echoBoot, generation, ...draft });
  }

  bind(oldPath: 'alive' | 'dead' | 'unknown' = 'unknown'): Uint8Array {
    this.generation += 1;
    return this.again(oldPath);
  }

  again(oldPath: 'alive' | 'dead' | 'unknown' = 'unknown'): Uint8Array {
    return this.control({ kind: 'bind', oldPath });
  }

  proof(challenge: ControlMessage): Uint8Array {
    return this.control({ kind: 'proof', cookie: challenge.cookie, echoCounter: challenge.counter });
  }

  /** Takes a datagram from the relay; a message of a newer incarnation changes epoch, boot and keys. */
  take(datagram: Uint8Array, nowMs: number): ControlMessage | null {
    if (peekType(datagram, 0, datagram.length) !== TYPE.control) {
      const at = this.#receiver.open(datagram, 0, datagram.length, nowMs);
      if (at < 0) this.refused.push(at);
      else this.received.push(datagram.slice(at));
      return null;
    }
    const message = this.channel.open(datagram, 0, datagram.length);
    if (typeof message === 'string') {
      this.refused.push(message);
      return null;
    }
    this.messages.push(message);
    if (message.echoBoot === this.boot) this.#adopt(message, nowMs);
    return message;
  }

  /** A DATA datagram. */
  data(inner: Uint8Array): Uint8Array {
    if (this.#sender === null) throw new Error('the device has no keys yet');
    const buffer = new Uint8Array(DATA.inner + inner.length);
    buffer.set(inner, DATA.inner);
    this.#sender.seal(buffer, DATA.inner, inner.length);
    return buffer;
  }

  #adopt({ epoch, boot, keyNumber }: ControlMessage, nowMs: number): void {
    if (epoch < this.epoch) return;
    if (epoch === this.epoch && boot === this.relayBoot && keyNumber <= this.keyNumber && this.#sender)
      return;
    this.epoch = epoch;
    this.relayBoot = boot;
    this.keyNumber = keyNumber;
    const name = { epoch, relayBoot: boot, deviceBoot: this.boot, keyNumber };
    const key = (direction: 'to-relay' | 'to-device') => sipKey(deriveDataKey(this.#root, direction, name));
    this.#receiver.install(key('to-device'), keyNumber, { previousUntilMs: nowMs + 10_000 });
    this.#sender = new DataSender({ key: key('to-relay'), index: this.#index, keyNumber });
  }
}

export function at(address: string, port: number): SocketAddress {
  return { address, port, key: `${address}|${port}` };
}
