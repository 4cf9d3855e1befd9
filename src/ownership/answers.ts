import { MooringError } from '../protocol/errors.ts';

/** The registry does not answer, or has lost something: it says nothing about whose the anchor is. */
export function isAway(error: unknown): boolean {
  return (
    isCode(error, 'ERR_MOORING_REGISTRY_UNAVAILABLE') ||
    isCode(error, 'ERR_MOORING_QUARANTINED') ||
    isCode(error, 'ERR_MOORING_UNKNOWN_ANCHOR')
  );
}

export function isCode(error: unknown, code: string): error is MooringError {
  return error instanceof MooringError && error.code === code;
}
