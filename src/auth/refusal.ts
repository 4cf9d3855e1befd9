import { type ErrorDetail, MooringError } from '../protocol/errors.ts';

/** Why a token or proof is refused: stable codes, one for each check. */
export const REFUSALS = {
  ERR_MOORING_TOKEN_TOO_LARGE: 'the access token is too long',
  ERR_MOORING_TOKEN_MALFORMED: 'the access token is not a signed JWT',
  ERR_MOORING_TOKEN_ALGORITHM: 'header alg of the access token is not accepted',
  ERR_MOORING_TOKEN_TYPE: 'header typ of the access token is not accepted',
  ERR_MOORING_TOKEN_ISSUER: 'claim iss of the access token names no configured issuer',
  ERR_MOORING_TOKEN_AUDIENCE: 'claim aud of the access token is for someone else',
  ERR_MOORING_TOKEN_EXPIRED: 'claim exp of the access token has passed',
  ERR_MOORING_TOKEN_NOT_YET_VALID: 'the access token is not valid yet',
  ERR_MOORING_TOKEN_CLAIM: 'a claim of the access token is missing or not valid',
  ERR_MOORING_TOKEN_KEY_UNKNOWN: 'the issuer publishes no such key',
  ERR_MOORING_TOKEN_SIGNATURE: 'the signature of the access token does not verify',
  ERR_MOORING_TOKEN_UNBOUND: 'claim cnf.jkt is missing: the access token is not bound to a key',
  ERR_MOORING_TOKEN_SCHEME: 'the access token does not come as its binding asks',
  ERR_MOORING_TOKEN_CERTIFICATE:
    'the access token is bound to another certificate than the one of this connection',
  ERR_MOORING_TOKEN_TENANT: 'the access token names no tenant',
  ERR_MOORING_ISSUER_UNREACHABLE: 'the keys of the token issuer cannot be fetched',
  ERR_MOORING_DPOP_TOO_LARGE: 'the DPoP proof is too long',
  ERR_MOORING_DPOP_MALFORMED: 'the DPoP proof is not a signed JWT',
  ERR_MOORING_DPOP_TYPE: 'header typ of the DPoP proof is not dpop+jwt',
  ERR_MOORING_DPOP_ALGORITHM: 'header alg of the DPoP proof is not accepted',
  ERR_MOORING_DPOP_KEY: 'header jwk of the DPoP proof is not a public key',
  ERR_MOORING_DPOP_SIGNATURE: 'the signature of the DPoP proof does not verify',
  ERR_MOORING_DPOP_METHOD: 'claim htm of the DPoP proof is not the method used',
  ERR_MOORING_DPOP_URL: 'claim htu of the DPoP proof is not this door',
  ERR_MOORING_DPOP_ISSUED_AT: 'claim iat of the DPoP proof is too far from now',
  ERR_MOORING_DPOP_ID: 'claim jti of the DPoP proof is missing or too long',
  ERR_MOORING_DPOP_NONCE: 'claim nonce of the DPoP proof is not the one of this socket',
  ERR_MOORING_DPOP_SEAL: 'claim seal of the DPoP proof is not the sealing key',
  ERR_MOORING_DPOP_TOKEN_HASH: 'claim ath of the DPoP proof is not the hash of the access token',
  ERR_MOORING_DPOP_REPEATED: 'the DPoP proof has been used before',
  ERR_MOORING_DPOP_KEY_MISMATCH: 'the access token is bound to another key than the one of the DPoP proof',
} as const;

export type RefusalCode = keyof typeof REFUSALS;

/**
 * A refusal that names what was looked at and the remedy, never the token or proof itself. RSIP number 304
 * (REGISTRATION_DENIED), unless it is temporary.
 */
export function refuse(code: RefusalCode, remedy: string, detail: ErrorDetail = {}): MooringError {
  return new MooringError(code, `${REFUSALS[code]}; ${remedy}`, {
    ...(detail.temporary === true ? {} : { rsip: 304 }),
    ...detail,
  });
}

/** A value from a token that is safe to show: its type if not text, and at most 60 characters. */
export function shown(value: unknown): string {
  if (value === undefined) return 'missing';
  if (typeof value !== 'string') return `a ${value === null ? 'null' : typeof value}`;
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 60)}…` : value);
}
