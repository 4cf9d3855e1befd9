import type { ControlDraft, ControlMessage } from '../../../src/tunnel/message.ts';
import { CONTROL } from '../../../src/tunnel/wire.ts';

/** What one DATA datagram of the model carries: which key it was made with, and its sequence. */
export interface DataPacket {
  readonly kind: 'data';
  readonly key: string;
  readonly keyNumber: number;
  readonly sequence: number;
}

export type Payload = ControlMessage | DataPacket;

/** DATA of the model: big enough that one pays for a challenge, small enough that two are needed for small ones. */
const DATA_OCTETS = 100;

export function octetsOf(payload: Payload): number {
  return payload.kind === 'data' ? DATA_OCTETS : CONTROL.length;
}

/** What opening the datagram of a draft would give: nothing is encrypted in the model. */
export function sealed(draft: ControlDraft, boot: bigint, counter: bigint): ControlMessage {
  return {
    epoch: 0n,
    echoBoot: 0n,
    echoCounter: 0n,
    generation: 0,
    keyNumber: 0,
    oldPath: 'unknown',
    code: 0,
    cookie: new Uint8Array(16),
    observed: null,
    delayMs: 0,
    ...draft,
    boot,
    counter,
  };
}
