import { execFile } from 'node:child_process';
import type { LaptopConfig } from './config.ts';
import { readWholeFile } from './replaced-file.ts';

/** A file that is written for somebody else, who is told by a command when it has changed. */
interface LeaseFile {
  readonly file: string;
  readonly reload: readonly string[];
}

/**
 * Notes how the files stand that tell other programs of the lease; call the answer when they have been written: it runs
 * the commands of those that changed, and resolves with what went wrong.
 */
export function watchLeaseFiles(
  config: Pick<LaptopConfig, 'charon' | 'templates'>,
): () => Promise<readonly string[]> {
  const files: readonly LeaseFile[] = [
    ...(config.charon === undefined ? [] : [config.charon]),
    ...config.templates,
  ];
  const before = files.map(({ file }) => readWholeFile(file));
  return async () => {
    const changed = files.filter(({ file }, i) => readWholeFile(file) !== before[i]);
    const faults = await Promise.all(
      changed.map(async ({ reload }) => {
        const fault = await runReload(reload);
        return fault === null ? [] : [`${reload.join(' ')}: ${fault}`];
      }),
    );
    return faults.flat();
  };
}

/** Runs the command that has the daemon read its settings; resolves with what went wrong, or null. */
function runReload([command, ...args]: readonly string[]): Promise<string | null> {
  if (command === undefined) return Promise.resolve(null);
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 10_000 }, (error, _, stderr) =>
      resolve(error === null ? null : stderr.trim() || error.message),
    );
  });
}
