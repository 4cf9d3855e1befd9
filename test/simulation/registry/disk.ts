import type { Lease } from '../../../src/protocol/lease.ts';
import type { AnchorJournal, JournalBase } from '../../../src/relay/journal/anchor-journal.ts';
import type { Journal } from '../../../src/relay/journal/journal.ts';
import { encodeRecord, type JournalRecord } from '../../../src/relay/journal/record.ts';
import { type Instant, type Journalled, replay } from '../../../src/relay/journal/replay.ts';
import type { Chance } from './chance.ts';
import type { Host, Process, Scheduler } from './scheduler.ts';

const LEAST_SYNC_MS = 0.2;
const USUAL_SYNC_MS = 2;
const LATE_SYNC_MS = 300;
/** How often in a thousand a disk is late. */
const LATE = 20;

interface File {
  written: Buffer;
  /** What is left of it when the host is lost. */
  synced: Buffer;
  writtenMs: number;
}

/** The disk of a relay's host: what was written outlives the process, what was synced outlives the host. */
export class Disk {
  private readonly files = new Map<string, File>();
  private readonly aside = new Map<string, File>();
  private readonly scheduler: Scheduler;
  private readonly chance: Chance;
  private readonly host: Host;
  private readonly closedError: () => Error;

  /** @param closedError what the product's own journal throws once it is closed */
  constructor(scheduler: Scheduler, chance: Chance, host: Host, closedError: () => Error) {
    this.closedError = closedError;
    this.scheduler = scheduler;
    this.chance = chance;
    this.host = host;
  }

  /** The host is gone. */
  crash(): void {
    for (const files of [this.files, this.aside])
      for (const [anchor, file] of files) {
        if (file.synced.length === 0) files.delete(anchor);
        else file.written = file.synced;
      }
  }

  /** And its disk with it. */
  clear(): void {
    this.files.clear();
    this.aside.clear();
  }

  /** What the relay's journals say now. */
  read(): ReadonlyMap<string, Journalled> {
    return this.replayed(this.files);
  }

  readAside(): ReadonlyMap<string, Journalled> {
    return this.replayed(this.aside);
  }

  private replayed(files: ReadonlyMap<string, File>): ReadonlyMap<string, Journalled> {
    const found = new Map<string, Journalled>();
    for (const { written, writtenMs } of files.values()) {
      const journalled = replay(written, writtenMs, this.now());
      if (journalled !== null) found.set(journalled.anchor, journalled);
    }
    return found;
  }

  /** Whether a lease would be found here as one that was acknowledged, after the host was lost. */
  hasAcknowledged({ id, anchor }: Pick<Lease, 'id' | 'anchor'>): boolean {
    const synced = this.files.get(anchor)?.synced;
    const journalled = synced === undefined ? null : replay(synced, 0, this.now());
    return journalled?.leases.some(({ lease }) => lease.id === id && lease.state === 'active') === true;
  }

  /** Journals as one start of the relay writes them: in the order and with the promises of the product's own. */
  journalOf(process: Process): Journal {
    return {
      read: async () => this.read(),
      readAside: async () => this.readAside(),
      forget: async (anchor) => void this.aside.delete(anchor),
      begin: (anchor, base) =>
        this.write(process, anchor, () => {
          const { claim, ...rest } = base();
          const { epoch, ...of } = claim;
          return {
            ...rest,
            claim: { type: 'claim', version: 1, anchor, epoch: String(epoch), ...of, ...this.now() },
          };
        }),
      end: async (anchor) => {
        const file = this.files.get(anchor);
        const former: File | undefined = file && { ...file, synced: Buffer.alloc(0) };
        if (file !== undefined) file.written = Buffer.alloc(0);
        if (former !== undefined && former.written.length > 0) this.aside.set(anchor, former);
        await this.sync(process);
        if (former !== undefined) former.synced = former.written;
        if (this.files.get(anchor) === file) this.files.delete(anchor);
      },
    };
  }

  private write(process: Process, anchor: string, base: () => JournalBase): AnchorJournal {
    const { closedError } = this;
    let file: File | undefined;
    let noted: JournalRecord[] = [];
    let lastNoted = 0;
    let lastSynced = -1;
    let writing: Promise<void> | null = null;
    let closed = false;
    const write = async (): Promise<void> => {
      await null;
      const upTo = lastNoted;
      const isNew = file === undefined;
      if (closed && isNew) throw closedError();
      const text = encoded(isNew ? recordsOf(base()) : noted);
      noted = [];
      const writtenMs = this.scheduler.nowMs;
      if (!isNew) Object.assign(file!, { written: Buffer.concat([file!.written, text]), writtenMs });
      await this.sync(process);
      if (isNew) {
        file = { written: text, synced: text, writtenMs };
        this.files.set(anchor, file);
      } else file!.synced = file!.written;
      lastSynced = upTo;
    };
    const flushed = (): Promise<void> => {
      writing ??= write().finally(() => {
        writing = null;
      });
      return writing;
    };
    return {
      note(record) {
        if (closed) return;
        lastNoted += 1;
        noted.push(record);
      },
      async synced() {
        if (closed) throw closedError();
        const wanted = lastNoted;
        while (lastSynced < wanted) await flushed();
      },
      async close() {
        closed = true;
        await writing;
        if (file !== undefined && lastSynced < lastNoted) await flushed();
      },
    };
  }

  /** Resolves when the disk has taken what was written. */
  private sync(process: Process): Promise<void> {
    const late = this.chance.permille(LATE);
    const delayMs = LEAST_SYNC_MS + this.chance.next() * (late ? LATE_SYNC_MS : USUAL_SYNC_MS);
    return new Promise((resolve) => process.after(delayMs, resolve));
  }

  private now(): Instant {
    return { machine: this.host.id, monotonicMs: this.host.clockMs(), wallMs: this.scheduler.nowMs };
  }
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

function encoded(records: readonly JournalRecord[]): Buffer {
  return Buffer.concat(records.map(encodeRecord));
}
