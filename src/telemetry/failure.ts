import { MooringError } from '../protocol/errors.ts';

/**
 * Says on standard error why a command failed, and ends the process. Exit status 2: misused; 75 (sysexits' EX_TEMPFAIL): the same
 * may succeed later; 1: anything else.
 */
export function endFailed(error: unknown): never {
  const text =
    error instanceof MooringError
      ? `${error.message} [${error.code}]`
      : String((error as Error)?.stack ?? error);
  process.stderr.write(`mooring: ${text}\n`);
  process.exit(exitStatus(error));
}

function exitStatus(error: unknown): number {
  if (!(error instanceof MooringError)) return 1;
  if (error.code === 'ERR_MOORING_USAGE') return 2;
  return error.temporary ? 75 : 1;
}
