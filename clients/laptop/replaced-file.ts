import {
  lstatSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';

/** What stood at a path: a file, a symbolic link, or nothing. */
export type FormerFile = { readonly text: string } | { readonly link: string } | null;

export function formerFile(path: string): FormerFile {
  try {
    if (lstatSync(path).isSymbolicLink()) return { link: readlinkSync(path) };
    return { text: readFileSync(path, 'utf8') };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Null when there is no such file. */
export function readWholeFile(path: string): string | null {
  const former = formerFile(path);
  return former !== null && 'text' in former ? former.text : null;
}

/** Puts a file of that text at the path, in one step. */
export function replaceFile(path: string, text: string): void {
  place(path, (temporary) => writeFileSync(temporary, text, { mode: 0o644 }), text);
}

/** Puts back what stood at the path, unless somebody has written something else there since. */
export function putBack(path: string, ours: string, before: FormerFile): void {
  // Whoever was killed in the middle left it.
  rmSync(temporaryOf(path), { force: true });
  if (readWholeFile(path) !== ours) return;
  if (before === null) rmSync(path, { force: true });
  else if ('text' in before) replaceFile(path, before.text);
  else place(path, (temporary) => symlinkSync(before.link, temporary), null);
}

function temporaryOf(path: string): string {
  return `${path}.mooring`;
}

function place(path: string, make: (temporary: string) => void, text: string | null): void {
  const temporary = temporaryOf(path);
  rmSync(temporary, { force: true });
  make(temporary);
  try {
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    // A file that is mounted there, as in containers and network namespaces, can only be written.
    if ((error as NodeJS.ErrnoException).code !== 'EBUSY' || text === null) throw error;
    writeFileSync(path, text);
  }
}
