/**
 * RSIP error codes (RFC 3103 appendix A, RFC 3104 appendix B): number → name.
 * Mooring reports them on every door: signalling, in-band notices, the command line.
 */
export const RSIP_ERRORS = {
  101: 'UNKNOWN_ERROR',
  102: 'USE_TCP',
  103: 'FLOW_POLICY_VIOLATION',
  104: 'INTERNAL_SERVER_ERROR',
  105: 'MESSAGE_COUNTER_REQUIRED',
  106: 'UNSUPPORTED_RSIP_VERSION',
  201: 'MISSING_PARAM',
  202: 'DUPLICATE_PARAM',
  203: 'EXTRA_PARAM',
  204: 'ILLEGAL_PARAM',
  205: 'BAD_PARAM',
  206: 'ILLEGAL_MESSAGE',
  207: 'BAD_MESSAGE',
  208: 'UNSUPPORTED_MESSAGE',
  301: 'REGISTER_FIRST',
  302: 'ALREADY_REGISTERED',
  303: 'ALREADY_UNREGISTERED',
  304: 'REGISTRATION_DENIED',
  305: 'BAD_CLIENT_ID',
  306: 'BAD_BIND_ID',
  307: 'BAD_TUNNEL_TYPE',
  308: 'LOCAL_ADDR_UNAVAILABLE',
  309: 'LOCAL_ADDRPORT_UNAVAILABLE',
  310: 'LOCAL_ADDR_INUSE',
  311: 'LOCAL_ADDRPORT_INUSE',
  312: 'LOCAL_ADDR_UNALLOWED',
  313: 'LOCAL_ADDRPORT_UNALLOWED',
  314: 'REMOTE_ADDR_UNALLOWED',
  315: 'REMOTE_ADDRPORT_UNALLOWED',
  401: 'IPSEC_UNALLOWED',
  402: 'IPSEC_SPI_UNAVAILABLE',
  403: 'IPSEC_SPI_INUSE',
} as const;

export type RsipErrorNumber = keyof typeof RSIP_ERRORS;

export interface ErrorDetail {
  /** The RSIP number, where the failure has one. */
  readonly rsip?: RsipErrorNumber;
  /** True when the same request may succeed later without a change. */
  readonly temporary?: boolean;
  /** How long to wait before trying again, milliseconds. */
  readonly retryAfterMs?: number;
  /** What a handler needs to act: the field, the value, the limit. Never a secret. */
  readonly data?: Readonly<Record<string, unknown>>;
  readonly cause?: unknown;
}

/**
 * The one error class of the project. `code` is stable (`ERR_MOORING_…`); `message` names the thing, the
 * value and the remedy.
 */
export class MooringError extends Error {
  readonly code: `ERR_MOORING_${string}`;
  readonly rsip: RsipErrorNumber | undefined;
  readonly temporary: boolean;
  readonly retryAfterMs: number | undefined;
  readonly data: Readonly<Record<string, unknown>>;

  constructor(code: `ERR_MOORING_${string}`, message: string, detail: ErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = 'MooringError';
    this.code = code;
    this.rsip = detail.rsip;
    this.temporary = detail.temporary ?? false;
    this.retryAfterMs = detail.retryAfterMs;
    this.data = detail.data ?? {};
  }
}

/** Input from the network or an operator that does not have the promised form. */
export function badInput(field: string, value: unknown, remedy: string): MooringError {
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 80)) : String(value).slice(0, 80);
  return new MooringError('ERR_MOORING_BAD_INPUT', `${field}: ${shown} is not valid; ${remedy}`, {
    rsip: 205,
    data: { field, remedy },
  });
}
