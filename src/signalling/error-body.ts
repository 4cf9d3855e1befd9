import { MooringError, RSIP_ERRORS } from '../protocol/errors.ts';
import type { ErrorBody } from '../protocol/signalling.ts';

/** What a device is told of a failure. Nothing but a MooringError says more than that something failed here. */
export function errorBody(error: unknown): ErrorBody {
  if (!(error instanceof MooringError)) {
    return {
      code: 'ERR_MOORING_INTERNAL',
      rsip: 104,
      name: RSIP_ERRORS[104],
      message: 'the request failed here for a reason of our own; try again',
      temporary: true,
      retryAfterMs: 1_000,
    };
  }
  const { code, message, rsip, temporary, retryAfterMs } = error;
  return {
    code,
    ...(rsip === undefined ? {} : { rsip, name: RSIP_ERRORS[rsip] }),
    message,
    temporary,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) }),
  };
}
