import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { MooringError } from '../../protocol/errors.ts';
import { fileFault } from '../../protocol/file-fault.ts';
import type { Lease, Session } from '../../protocol/lease.ts';
import { encodeRecord, type JournalledStandby, type JournalRecord } from './record.ts';

/** A file is written anew when it is larger than this, and than a multiple of what it began with: octets. */
const LARGE_OCTETS = 1_048_576;
const GROWTH = 3;
/** Written in one go. */
const RECORDS_AT_A_TIME = 128;

/** What is written is on the disk when the write is over: a write and an fdatasync are two errands of another thread. */
const WRITTEN_THROUGH = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC | constants.O_DSYNC;

/** What a file begins with: all that is held of the anchor now. */
export interface JournalBase {
  readonly claim: Extract<JournalRecord, { type: 'claim' }>;
  readonly sessions: readonly Session[];
  readonly leases: readonly { readonly lease: Lease; readonly untilMs: number }[];
  readonly standby: JournalledStandby | null;
  readonly plan: string;
  readonly fence: string;
}

/** One anchor's journal while this relay owns it. What is noted is written in order, together with what comes meanwhile. */
export interface AnchorJournal {
  note(record: JournalRecord): void;
  /**
   * Resolves when everything noted so far is on the disk itself. Rejects (ERR_MOORING_JOURNAL, temporary) when it cannot be
   * written; what is noted later is tried again, with everything that is held.
   */
  synced(): Promise<void>;
  /** Writes what was noted and closes the file. Whoever has something to note from now on is refused: the file may be another's. */
  close(): Promise<void>;
}

/**
 * Writes the journal in `path`, as soon as `free` has settled: until then somebody else writes or removes that file. A file is replaced as a whole, by a new one that is complete before it gets the name: killed
 * at any moment, there is the old one or the new one.
 *
 * One write serves everything noted while the one before it ran: a grant waits for at most two of them (some 0.3 ms each on a local
 * disk), and a thousand at once wait no longer than one.
 */
export function writeJournal(
  path: string,
  base: () => JournalBase,
  free: Promise<unknown> = Promise.resolve(),
): AnchorJournal {
  let file: FileHandle | null = null;
  let octets = 0;
  let baseOctets = 0;
  let noted: Buffer[] = [];
  /** Of what was noted, of what is on the disk. */
  let lastNoted = 0;
  let lastSynced = -1;
  let writing: Promise<void> | null = null;
  let closed = false;

  async function rewrite(): Promise<void> {
    await file?.close();
    file = null;
    await free;
    // What was noted until now is in what is held now.
    noted = [];
    const records = recordsOf(base());
    const next = await open(`${path}.new`, WRITTEN_THROUGH, 0o600);
    let written = 0;
    try {
      // A whole anchor takes a tenth of a second, and what was just taken over has more urgent things to do.
      for (let at = 0; at < records.length; at += RECORDS_AT_A_TIME) {
        const text = Buffer.concat(records.slice(at, at + RECORDS_AT_A_TIME).map(encodeRecord));
        await next.writeFile(text);
        written += text.length;
      }
      await rename(`${path}.new`, path);
      await syncDirectory(dirname(path));
    } catch (error) {
      await next.close();
      // On a full disk it would be in its own way.
      await rm(`${path}.new`, { force: true }).catch(() => undefined);
      throw error;
    }
    file = next;
    octets = written;
    baseOctets = written;
  }

  async function append(): Promise<void> {
    const text = Buffer.concat(noted);
    noted = [];
    if (text.length === 0) return;
    await file?.writeFile(text);
    octets += text.length;
  }

  async function write(): Promise<void> {
    // In the next turn: what is noted in this one goes along.
    await null;
    const upTo = lastNoted;
    const isLarge = octets > Math.max(LARGE_OCTETS, GROWTH * baseOctets);
    try {
      if (file === null || isLarge) await rewrite();
      else await append();
    } catch (error) {
      await file?.close().catch(() => undefined);
      file = null;
      throw unwritable(path, error);
    }
    lastSynced = upTo;
  }

  function flushed(): Promise<void> {
    writing ??= write().finally(() => {
      writing = null;
    });
    return writing;
  }

  return {
    note(record) {
      if (closed) return;
      lastNoted += 1;
      noted.push(encodeRecord(record));
    },
    async synced() {
      if (closed) throw overtaken();
      const wanted = lastNoted;
      while (lastSynced < wanted) await flushed();
    },
    async close() {
      closed = true;
      await writing?.catch(() => undefined);
      if (file !== null && lastSynced < lastNoted) await flushed();
      await file?.close();
      file = null;
    },
  };
}

function unwritable(path: string, cause: unknown): MooringError {
  return fileFault(
    'ERR_MOORING_JOURNAL',
    path,
    'cannot be written, and what is not in it is not acknowledged',
    cause,
    { temporary: true, retryAfterMs: 1_000 },
  );
}

function overtaken(): MooringError {
  return new MooringError(
    'ERR_MOORING_NOT_OWNER',
    'the anchor is served under another epoch, or by another relay, since this was asked; ask its owner again',
    { temporary: true, retryAfterMs: 200 },
  );
}

function recordsOf({ claim, sessions, leases, plan, standby, fence }: JournalBase): JournalRecord[] {
  return [
    claim,
    ...sessions.map((session) => ({ type: 'session', session }) as const),
    ...leases.map(({ lease, untilMs }) => ({ type: 'lease', lease, untilMs }) as const),
    { type: 'plan', plan },
    { type: 'standby', standby },
    { type: 'at', fence },
  ];
}

/** Resolves when it is on the disk itself which files a folder has. */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}
