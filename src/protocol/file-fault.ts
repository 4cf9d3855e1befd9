import { MooringError } from './errors.ts';

const REMEDIES: Readonly<Record<string, string>> = {
  ENOENT: 'see that the folder above it is there and may be written to',
  ENOSPC: 'make room on its disk',
  EDQUOT: 'make room in the quota of the user that this runs as',
  EROFS: 'mount its file system writable, or name another place',
  EACCES: 'let the user that this runs as own it (chown), and every folder above be passed (chmod +x)',
  EPERM: 'let the user that this runs as own it (chown), and take away what forbids changes (lsattr)',
  ENOTDIR: 'a file has the name of a folder on the way: move it away',
  EISDIR: 'a folder has its name: move it away',
  EIO: 'its disk fails: replace it',
  EMFILE: 'raise the limit of open files (LimitNOFILE)',
};

/** A file that could not be read or written: `what` could not be done with it, why, and what whoever runs this can do. */
export function fileFault(
  code: `ERR_MOORING_${string}`,
  path: string,
  what: string,
  cause: unknown,
  detail: { readonly temporary?: boolean; readonly retryAfterMs?: number } = {},
): MooringError {
  const errno = (cause as NodeJS.ErrnoException).code ?? (cause as Error).message;
  return new MooringError(
    code,
    `${path} ${what} (${errno}); ${REMEDIES[errno] ?? 'look at its folder and its disk'}`,
    {
      ...detail,
      cause,
      data: { file: path, errno },
    },
  );
}
