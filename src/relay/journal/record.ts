import { crc32 } from 'node:zlib';
import type { Lease, Session } from '../../protocol/lease.ts';

/** An entry of an anchor's journal. All of it is public to whoever may read the registry: keys are derived, never written. */
export type JournalRecord =
  /** First in every file: whose claim it is. Clocks as of this record, milliseconds. */
  | {
      readonly type: 'claim';
      readonly version: 1;
      readonly anchor: string;
      readonly relay: string;
      /** Decimal. */
      readonly epoch: string;
      readonly endpoints: readonly string[];
      readonly prefixes: readonly string[];
      /** Of the machine's start: while it is the same, `monotonicMs` goes on. */
      readonly machine: string;
      readonly monotonicMs: number;
      readonly wallMs: number;
    }
  | { readonly type: 'session'; readonly session: Session }
  | { readonly type: 'session-ended'; readonly id: string }
  /** `untilMs`: on the clock of `monotonicMs`. */
  | { readonly type: 'lease'; readonly lease: Lease; readonly untilMs: number }
  | { readonly type: 'lease-ended'; readonly id: string }
  /** What the resources of the leases follow, as the registry has it. */
  | { readonly type: 'plan'; readonly plan: string }
  /** Who may claim the anchor when this relay is silent; null: nobody. */
  | { readonly type: 'standby'; readonly standby: JournalledStandby | null }
  /** All before it is as of this fence: what comes behind the last such mark does not count. */
  | { readonly type: 'at'; readonly fence: string };

export interface JournalledStandby {
  readonly id: string;
  readonly boot: string;
  readonly planeUrl: string;
}

/** Length and checksum of the payload, both 32 bits, big-endian. */
const HEADER_OCTETS = 8;
/** Longer is not a record but rubbish. */
const MOST_OCTETS = 16_777_216;

/** One record as it stands in the file. */
export function encodeRecord(record: JournalRecord): Buffer {
  const payload = Buffer.from(JSON.stringify(record), 'utf8');
  const framed = Buffer.allocUnsafe(HEADER_OCTETS + payload.length);
  framed.writeUInt32BE(payload.length, 0);
  framed.writeUInt32BE(crc32(payload), 4);
  payload.copy(framed, HEADER_OCTETS);
  return framed;
}

/** The records in a file, up to the first that is not whole: a process was killed while it wrote. Never throws. */
export function* decodeRecords(file: Buffer): Generator<JournalRecord> {
  let at = 0;
  while (at + HEADER_OCTETS <= file.length) {
    const length = file.readUInt32BE(at);
    const end = at + HEADER_OCTETS + length;
    if (length === 0 || length > MOST_OCTETS || end > file.length) return;
    const payload = file.subarray(at + HEADER_OCTETS, end);
    if (crc32(payload) !== file.readUInt32BE(at + 4)) return;
    let record: JournalRecord;
    try {
      record = JSON.parse(payload.toString('utf8')) as JournalRecord;
    } catch {
      return;
    }
    yield record;
    at = end;
  }
}
