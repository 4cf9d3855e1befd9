import type { ControlMessage } from '../../tunnel/message.ts';
import { ReplayWindow } from '../../tunnel/window.ts';
import type { DeviceCount } from '../device-io.ts';

export interface Admission {
  /** The first message of an incarnation that replaces the one before. */
  readonly isNew: boolean;
  /** Nothing newer was heard from this incarnation. */
  readonly isNewest: boolean;
}

/** The relay's incarnation that a device believes: of several the one with the highest epoch, and each message once. */
export class RelayIncarnation {
  #epoch = 0n;
  #boot = 0n;
  #keyNumber = 0;
  #window = new ReplayWindow();
  /** Newest message of ours that the relay was heard to answer: an answer to a newer one is fresh. */
  #highestEcho = 0n;

  get epoch(): bigint {
    return this.#epoch;
  }
  get boot(): bigint {
    return this.#boot;
  }
  /** Of the newest DATA key; 0 when none is known. */
  get keyNumber(): number {
    return this.#keyNumber;
  }

  /** Judges a message that answers this device's boot, and remembers its counter; or says why it does not count. */
  admit(message: ControlMessage): Admission | Extract<DeviceCount, 'former-relay' | 'replayed'> {
    const standing = this.#standingOf(message);
    if (standing === 'former') return 'former-relay';
    if (standing === 'new') this.#replaceBy(message);
    const counter = Number(message.counter);
    if (!this.#window.admits(counter)) return 'replayed';
    const isNewest = counter > this.#window.highest;
    this.#window.commit(counter);
    if (message.echoCounter > this.#highestEcho) this.#highestEcho = message.echoCounter;
    return { isNew: standing === 'new', isNewest };
  }

  /** True for a DATA key that is newer than all before; numbers rise within an incarnation. */
  adoptKey(keyNumber: number): boolean {
    if (keyNumber === 0 || keyNumber <= this.#keyNumber) return false;
    this.#keyNumber = keyNumber;
    return true;
  }

  #standingOf(message: ControlMessage): 'known' | 'new' | 'former' {
    if (message.epoch !== this.#epoch) return message.epoch > this.#epoch ? 'new' : 'former';
    if (message.boot === this.#boot) return 'known';
    // Two incarnations never share an epoch; should it happen, only an answer to what we just said counts.
    return message.echoCounter > this.#highestEcho ? 'new' : 'former';
  }

  #replaceBy({ epoch, boot }: ControlMessage): void {
    this.#epoch = epoch;
    this.#boot = boot;
    this.#keyNumber = 0;
    this.#window = new ReplayWindow();
  }
}
