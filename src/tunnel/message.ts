import type { SocketAddress } from '../protocol/address.ts';
import type { ControlKind, OldPath } from './wire.ts';

/**
 * A CONTROL message in the clear. `boot` and `counter` travel in the header and identify the message: no
 * sender uses a (boot, counter) twice.
 *
 * | kind | sender | uses beside epoch, echoBoot, echoCounter |
 * |---|---|---|
 * | bind | device | generation, oldPath |
 * | hold | device | generation |
 * | keepalive | device | generation |
 * | proof | device | generation, cookie |
 * | challenge | relay | generation, keyNumber, cookie, observed |
 * | sync | relay | generation, keyNumber, observed, delayMs |
 * | notice | relay | code |
 */
export interface ControlMessage {
  readonly kind: ControlKind;
  /** Sender's incarnation: 64 random bits per process start. */
  readonly boot: bigint;
  /** Rises by at least 1 a message within `boot`, from 1. */
  readonly counter: bigint;
  /** Epoch of the anchor as the sender knows it; 0 when the device does not know yet. */
  readonly epoch: bigint;
  /** The receiver's boot as the sender last saw it; 0 when unknown. */
  readonly echoBoot: bigint;
  /** Counter of the message that this one answers; 0 when unasked. */
  readonly echoCounter: bigint;
  /**
   * Rebind generation. From the device: of its latest bind; in a proof, of the latest bind on the link that
   * the proof leaves on. From the relay: of the accepted path, 0 when it has no path to the receiver; in a
   * challenge, of the candidate.
   */
  readonly generation: number;
  /** DATA key number in force at the relay; its low two bits are the phase. */
  readonly keyNumber: number;
  readonly oldPath: OldPath;
  /** RSIP error number of a notice, else 0. */
  readonly code: number;
  /** 16 octets; zero outside challenge and proof. */
  readonly cookie: Uint8Array;
  /** The device's transport address as the relay sees it; null when not said. */
  readonly observed: SocketAddress | null;
  /** How long the device should hold back uplink at a flip to a faster path, milliseconds. */
  readonly delayMs: number;
}

/** What a state machine asks to send: the channel adds boot and counter when it seals. */
export type ControlDraft = Pick<ControlMessage, 'kind'> &
  Partial<Omit<ControlMessage, 'kind' | 'boot' | 'counter'>>;
