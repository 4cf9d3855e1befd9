import { readFileSync } from 'node:fs';
import { access, constants, mkdir, readdir, readFile, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileFault } from '../../protocol/file-fault.ts';
import { monotonicMs } from '../../telemetry/clock.ts';
import type { Log } from '../../telemetry/log.ts';
import { type AnchorJournal, type JournalBase, syncDirectory, writeJournal } from './anchor-journal.ts';
import { type Instant, type Journalled, replay } from './replay.ts';

const SUFFIX = '.journal';
const ASIDE = '.former';

/**
 * What this relay holds, on its own disk: the witness of every acknowledged lease beside the registry. One file an anchor, since
 * an anchor is what is owned, handed over and lost as a whole; at most 4,096 leases, so it stays small.
 */
export interface Journal {
  /**
   * What a former process of this relay wrote, by anchor; files that hold nothing whole are left out. Rejects (ERR_MOORING_JOURNAL)
   * when one cannot be read.
   */
  read(): Promise<ReadonlyMap<string, Journalled>>;
  /**
   * Journals an anchor from now on, beginning with all that `base` gives. Whatever journal of it is still open is closed, and
   * nothing is written before that is done and no end of it is under way: an anchor has one file.
   */
  begin(anchor: string, base: () => Omit<JournalBase, 'claim'> & { readonly claim: Claim }): AnchorJournal;
  /** The anchor is another's: resolves when its journal is closed, and aside on the disk, where nobody takes up the anchor by it. */
  end(anchor: string): Promise<void>;
  /** What is aside, by anchor. */
  readAside(): Promise<ReadonlyMap<string, Journalled>>;
  /** Nobody needs to know any more what is aside. */
  forget(anchor: string): Promise<void>;
}

export interface Claim {
  readonly relay: string;
  readonly epoch: bigint;
  readonly endpoints: readonly string[];
  readonly prefixes: readonly string[];
}

export interface JournalOptions {
  /** Default: the clocks of this machine. */
  readonly now?: () => Instant;
  /** Is told of files that hold nothing whole (default: nobody). */
  readonly log?: Pick<Log, 'error'>;
}

/** Rejects (ERR_MOORING_JOURNAL) when `directory` cannot be made in the folder that is there, or nothing can be written in it. */
export async function openJournal(
  directory: string,
  { now = instant, log }: JournalOptions = {},
): Promise<Journal> {
  try {
    // Not with the folders above it: then the cause is not told.
    await mkdir(directory, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw fileFault('ERR_MOORING_JOURNAL', directory, 'cannot hold the journal', cause);
  }
  const pathOf = (anchor: string, suffix = SUFFIX) => join(directory, `${anchor}${suffix}`);
  const open = new Map<string, AnchorJournal>();
  const ending = new Map<string, Promise<void>>();

  /** Resolves when nothing is written to the anchor's file any more, nor is it being put aside. */
  async function freed(anchor: string): Promise<void> {
    const [former, ended] = [open.get(anchor), ending.get(anchor)];
    open.delete(anchor);
    // What could not be written, or put aside, was its caller's to hear of.
    await Promise.allSettled([former?.close(), ended]);
  }

  async function putAside(anchor: string, free: Promise<void>): Promise<void> {
    await free;
    const path = pathOf(anchor);
    try {
      await rename(path, pathOf(anchor, ASIDE)).catch((error: NodeJS.ErrnoException) => {
        if (error.code !== 'ENOENT') throw error;
      });
      await rm(`${path}.new`, { force: true });
      await syncDirectory(directory);
    } catch (cause) {
      throw fileFault('ERR_MOORING_JOURNAL', path, 'cannot be put aside', cause);
    }
  }

  async function readAll(suffix: string): Promise<ReadonlyMap<string, Journalled>> {
    const found = new Map<string, Journalled>();
    for (const name of await readdir(directory)) {
      if (!name.endsWith(suffix)) continue;
      const path = join(directory, name);
      const [file, { mtimeMs }] = await Promise.all([readFile(path), stat(path)]).catch((cause: unknown) => {
        throw fileFault('ERR_MOORING_JOURNAL', path, 'cannot be read', cause);
      });
      const journalled = replay(file, mtimeMs, now());
      if (journalled !== null) found.set(journalled.anchor, journalled);
      // It had its name only when it was whole: no process that was killed leaves this.
      else
        log?.error(
          { file: path },
          'this journal holds nothing whole, and what it held is lost here: look at its disk, then remove it',
        );
    }
    return found;
  }

  return {
    read: () => readAll(SUFFIX),
    readAside: () => readAll(ASIDE),
    forget: (anchor) => rm(pathOf(anchor, ASIDE), { force: true }),
    begin(anchor, base) {
      const withClock = (): JournalBase => {
        const { claim, ...rest } = base();
        const { epoch, ...of } = claim;
        return {
          ...rest,
          claim: { type: 'claim', version: 1, anchor, epoch: String(epoch), ...of, ...now() },
        };
      };
      const begun = writeJournal(pathOf(anchor), withClock, freed(anchor));
      open.set(anchor, begun);
      return begun;
    },
    async end(anchor) {
      const ended = putAside(anchor, freed(anchor)).finally(() => {
        if (ending.get(anchor) === ended) ending.delete(anchor);
      });
      ending.set(anchor, ended);
      await ended;
    },
  };
}

function instant(): Instant {
  return { machine: machineStart(), monotonicMs: monotonicMs(), wallMs: Date.now() };
}

let start: string | undefined;

/** The kernel draws a name for each of its starts; where there is none, no clock outlives the process. */
function machineStart(): string {
  if (start === undefined) {
    try {
      start = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
    } catch {
      start = `process ${process.pid} ${Date.now()}`;
    }
  }
  return start;
}
