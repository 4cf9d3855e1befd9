import { MooringError, RSIP_ERRORS } from '../protocol/errors.ts';
import type { ErrorBody } from '../protocol/signalling.ts';

/** Whose messages name files of a relay: they are for its operator, who finds them in the log. */
const OPERATORS: ReadonlySet<string> = new Set(['ERR_MOORING_JOURNAL']);

/** The device can do nothing about it and is not told what it was: the log is. */
export function isOurs(error: unknown): boolean {
  return !(error instanceof MooringError) || OPERATORS.has(error.code);
}

/** What a device is told of a failure. Nothing but a MooringError says more than that something failed here. */
export function errorBody(error: unknown): ErrorBody {
  if (isOurs(error)) {
    return {
      code: 'ERR_MOORING_INTERNAL',
      rsip: 104,
      name: RSIP_ERRORS[104],
      message: 'the request failed here for a reason of our own; try again',
      temporary: true,
      retryAfterMs: 1_000,
    };
  }
  const { code, message, rsip, temporary, retryAfterMs } = error as MooringError;
  return {
    code,
    ...(rsip === undefined ? {} : { rsip, name: RSIP_ERRORS[rsip] }),
    message,
    temporary,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) }),
  };
}
