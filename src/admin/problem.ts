import Type, { type Static } from 'typebox';
import { MooringError, RSIP_ERRORS } from '../protocol/errors.ts';

/** What went wrong (RFC 9457), with the stable code, and the RSIP number and name where there are any. */
export const Problem = Type.Object(
  {
    type: Type.String({ pattern: '^urn:mooring:error:[a-z0-9-]+$' }),
    title: Type.String(),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String({ description: 'names the thing, the value and the remedy' }),
    code: Type.String({ pattern: '^ERR_MOORING_[A-Z0-9_]+$' }),
    rsip: Type.Optional(Type.Integer({ description: 'RFC 3103 appendix A' })),
    name: Type.Optional(Type.String({ description: 'the RSIP name' })),
    field: Type.Optional(Type.String({ description: 'the field that is not valid' })),
    temporary: Type.Boolean({ description: 'the same request may succeed later' }),
    retryAfterMs: Type.Optional(Type.Integer({ minimum: 0 })),
  },
  { additionalProperties: false },
);
export type Problem = Static<typeof Problem>;

/** Every status that an operation may answer beside 200, and what it says. */
export const PROBLEM_TITLES: Readonly<Record<number, string>> = {
  400: 'Not valid',
  401: 'Not authenticated',
  403: 'Not allowed',
  404: 'Not there',
  409: 'In conflict with what is there',
  412: 'Changed meanwhile',
  413: 'Too large',
  415: 'Not JSON',
  428: 'Revision needed',
  429: 'Too many requests',
  500: 'Failed here',
  503: 'Not possible now',
};

const STATUS: Readonly<Record<string, number>> = {
  ERR_MOORING_BAD_INPUT: 400,
  ERR_MOORING_CONFIG: 400,
  ERR_MOORING_OVERLAP: 409,
  ERR_MOORING_UNAUTHENTICATED: 401,
  ERR_MOORING_SCOPE: 403,
  ERR_MOORING_TENANT: 403,
  ERR_MOORING_FORBIDDEN: 403,
  ERR_MOORING_NO_LEASE: 404,
  ERR_MOORING_NO_ANCHOR: 404,
  ERR_MOORING_NO_RELAY: 404,
  ERR_MOORING_NO_ROUTE: 404,
  ERR_MOORING_UNKNOWN_ANCHOR: 404,
  ERR_MOORING_UNKNOWN_POOL: 404,
  ERR_MOORING_BAD_BIND: 404,
  ERR_MOORING_OWNED_BY_ANOTHER: 409,
  ERR_MOORING_REVISION: 412,
  ERR_MOORING_BODY_TOO_LARGE: 413,
  ERR_MOORING_NOT_JSON: 415,
  ERR_MOORING_REVISION_NEEDED: 428,
  ERR_MOORING_TOO_MANY_REQUESTS: 429,
  ERR_MOORING_INTERNAL: 500,
};

export function statusOf({ code, temporary }: MooringError): number {
  const known = STATUS[code];
  if (known !== undefined) return known;
  if (temporary) return 503;
  return /^ERR_MOORING_(TOKEN|DPOP)_/.test(code) ? 401 : 409;
}

/** What an operator is told. Nothing but a MooringError says more than that something failed here. */
export function problemOf(error: unknown): Problem {
  const known =
    error instanceof MooringError
      ? error
      : new MooringError('ERR_MOORING_INTERNAL', 'the request failed here; the log of this node says why', {
          temporary: true,
        });
  const { code, message, rsip, temporary, retryAfterMs, data } = known;
  const status = statusOf(known);
  return {
    type: `urn:mooring:error:${code.slice('ERR_MOORING_'.length).toLowerCase().replaceAll('_', '-')}`,
    title: PROBLEM_TITLES[status] ?? 'Refused',
    status,
    detail: message,
    code,
    ...(rsip === undefined ? {} : { rsip, name: RSIP_ERRORS[rsip] }),
    ...(typeof data.field === 'string' ? { field: data.field } : {}),
    temporary,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs: Math.ceil(retryAfterMs) }),
  };
}

/** What fastify refuses before a handler runs, in our words. */
export function refusedByServer(error: unknown): unknown {
  const { statusCode, code, message } = error as { statusCode?: number; code?: string; message?: string };
  if (error instanceof MooringError || statusCode === undefined || statusCode < 400 || statusCode >= 500) {
    return error;
  }
  switch (statusCode) {
    case 413:
      return new MooringError(
        'ERR_MOORING_BODY_TOO_LARGE',
        'the body is longer than 64 KiB; send less at once',
      );
    case 415:
      return new MooringError(
        'ERR_MOORING_NOT_JSON',
        'Content-Type is not application/json; send JSON and say so',
      );
    default:
      return new MooringError(
        'ERR_MOORING_BAD_INPUT',
        `the request cannot be read (${code ?? message}); send what the OpenAPI document describes`,
      );
  }
}
