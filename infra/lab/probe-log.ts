/** Files in which a probe records what it sent and received: records of float64, machine byte order, appended. */
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { DirectionTrace, ReceivedPacket } from './analysis.ts';

/** sequence, sent at */
const SENT_FIELDS = 2;
/** sequence, sent at, received at */
const RECEIVED_FIELDS = 3;

const sentFile = (directory: string, flow: string) => path.join(directory, `${flow}.sent`);
const receivedFile = (directory: string, flow: string) => path.join(directory, `${flow}.received`);

/** What one end of a flow sent and received. Times are milliseconds of CLOCK_MONOTONIC, the same in all processes. */
export class ProbeLog {
  readonly #sentFile: string;
  readonly #receivedFile: string;
  #sent: number[] = [];
  #received: number[] = [];

  constructor(directory: string, flow: string) {
    this.#sentFile = sentFile(directory, flow);
    this.#receivedFile = receivedFile(directory, flow);
    writeFileSync(this.#sentFile, '');
    writeFileSync(this.#receivedFile, '');
  }

  sent(sequence: number, sentMs: number): void {
    this.#sent.push(sequence, sentMs);
  }

  received(sequence: number, sentMs: number, receivedMs: number): void {
    this.#received.push(sequence, sentMs, receivedMs);
  }

  /** Writes what is recorded since the last flush. */
  flush(): void {
    if (this.#sent.length > 0)
      appendFileSync(this.#sentFile, new Uint8Array(Float64Array.from(this.#sent).buffer));
    if (this.#received.length > 0) {
      appendFileSync(this.#receivedFile, new Uint8Array(Float64Array.from(this.#received).buffer));
    }
    this.#sent = [];
    this.#received = [];
  }
}

function readRecords(file: string, fields: number): Float64Array {
  if (!existsSync(file)) return new Float64Array();
  const octets = readFileSync(file);
  const whole = Math.floor(octets.length / (fields * 8)) * fields;
  const values = new Float64Array(whole);
  new Uint8Array(values.buffer).set(octets.subarray(0, whole * 8));
  return values;
}

/**
 * One direction of a flow: what the sender's directory says was sent, and the receiver's was received.
 * Readable while the probes run; a record still in a probe's memory is missing.
 */
export function readTrace(senderDirectory: string, receiverDirectory: string, flow: string): DirectionTrace {
  const sent = readRecords(sentFile(senderDirectory, flow), SENT_FIELDS);
  const received = readRecords(receivedFile(receiverDirectory, flow), RECEIVED_FIELDS);
  const sentMs: number[] = [];
  for (let at = 0; at < sent.length; at += SENT_FIELDS) sentMs[sent[at]!] = sent[at + 1]!;
  const packets: ReceivedPacket[] = [];
  for (let at = 0; at < received.length; at += RECEIVED_FIELDS) {
    packets.push({ sequence: received[at]!, sentMs: received[at + 1]!, receivedMs: received[at + 2]! });
  }
  return { sentMs, received: packets };
}
