import { createHash } from 'node:crypto';
import {
  calculateJwkThumbprint,
  decodeProtectedHeader,
  errors,
  importJWK,
  type JWK,
  type JWTPayload,
  jwtVerify,
  type ProtectedHeaderParameters,
} from 'jose';
import { rememberProof } from './known-proofs.ts';
import { refuse, shown } from './refusal.ts';

/** Longest proof accepted, characters. */
export const MAX_PROOF_LENGTH = 4_096;

/** Longest `jti` accepted, characters (RFC 9449 §11.1). */
const MAX_ID_LENGTH = 256;

/**
 * Elliptic curves only: every platform's key store has them, and a stranger's RSA key can be made as expensive to
 * verify as he likes.
 */
const ALGORITHMS = ['ES256', 'ES384', 'EdDSA', 'Ed25519'];

const PRIVATE_MEMBERS = ['d', 'k', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'priv'];

export interface ProofContext {
  readonly accessToken: string;
  /** Nonce that the server gave for this one proof; null: it gave none, and refuses a proof twice by its `jti`. */
  readonly nonce: string | null;
  /** Method that `htm` must name. */
  readonly method: string;
  /** URL that `htu` must name; query and fragment do not count (RFC 9449 §4.3). */
  readonly url: string;
  /** What the claim `seal` must name: `x` of the X25519 key that session keys are to be sealed to; null: nothing. */
  readonly seal: string | null;
  /** Thumbprint that the access token is bound to. */
  readonly jkt: string;
  readonly nowMs: number;
  /** How far `iat` may lie from now, both ways, milliseconds. */
  readonly windowMs: number;
}

/**
 * Verifies a DPoP proof: all checks of RFC 9449 §4.3. Its repetition is refused by the nonce, which is good for one
 * proof on one socket, so no `jti` has to be stored (§11.1). Returns the thumbprint of the key (RFC 7638).
 * Throws a refusal of `REFUSALS`.
 */
export async function verifyProof(proof: string, context: ProofContext): Promise<string> {
  if (proof.length > MAX_PROOF_LENGTH) {
    throw refuse('ERR_MOORING_DPOP_TOO_LARGE', `at most ${MAX_PROOF_LENGTH} characters are read`);
  }
  const header = readHeader(proof);
  const jwk = publicKey(header.jwk);
  const payload = await readPayload(proof, header.alg ?? '', jwk, context.nowMs);
  checkClaims(payload, context);
  const thumbprint = await calculateJwkThumbprint(jwk);
  rememberProof(proof, { thumbprint, seal: payload.seal });
  if (thumbprint !== context.jkt) {
    throw refuse('ERR_MOORING_DPOP_KEY_MISMATCH', 'sign with the key that the token was fetched with', {
      data: { claim: 'cnf.jkt' },
    });
  }
  return thumbprint;
}

function readHeader(proof: string): ProtectedHeaderParameters {
  let header: ProtectedHeaderParameters;
  try {
    header = decodeProtectedHeader(proof);
  } catch {
    throw refuse('ERR_MOORING_DPOP_MALFORMED', 'send a compact JWS');
  }
  if (header.typ !== 'dpop+jwt') {
    throw refuse('ERR_MOORING_DPOP_TYPE', `it is ${shown(header.typ)}`, { data: { claim: 'typ' } });
  }
  if (typeof header.alg !== 'string' || !ALGORITHMS.includes(header.alg)) {
    throw refuse(
      'ERR_MOORING_DPOP_ALGORITHM',
      `it is ${shown(header.alg)}: use one of ${ALGORITHMS.join(', ')}`,
      { data: { claim: 'alg' } },
    );
  }
  return header;
}

function publicKey(value: unknown): JWK {
  const remedy = 'put the public key of the device there, kty EC or OKP';
  if (typeof value !== 'object' || value === null) {
    throw refuse('ERR_MOORING_DPOP_KEY', `it is ${shown(value)}; ${remedy}`, { data: { claim: 'jwk' } });
  }
  const jwk = value as JWK;
  const secret = PRIVATE_MEMBERS.find((member) => Object.hasOwn(jwk, member));
  if (secret !== undefined) {
    throw refuse(
      'ERR_MOORING_DPOP_KEY',
      `it has the private member ${secret}: make a new key, and ${remedy}`,
      {
        data: { claim: `jwk.${secret}` },
      },
    );
  }
  if (jwk.kty !== 'EC' && jwk.kty !== 'OKP') {
    throw refuse('ERR_MOORING_DPOP_KEY', `kty is ${shown(jwk.kty)}; ${remedy}`, {
      data: { claim: 'jwk.kty' },
    });
  }
  return jwk;
}

async function readPayload(proof: string, alg: string, jwk: JWK, nowMs: number): Promise<JWTPayload> {
  const key = await importJWK(jwk, alg).catch(() => {
    throw refuse('ERR_MOORING_DPOP_KEY', `it is no key for ${alg}`, { data: { claim: 'jwk' } });
  });
  try {
    const currentDate = new Date(nowMs);
    return (await jwtVerify(proof, key, { algorithms: [alg], typ: 'dpop+jwt', currentDate })).payload;
  } catch (error) {
    if (error instanceof errors.JWSSignatureVerificationFailed) {
      throw refuse('ERR_MOORING_DPOP_SIGNATURE', 'sign header and claims with the key in header jwk');
    }
    throw refuse('ERR_MOORING_DPOP_MALFORMED', 'send a compact JWS with the claims of RFC 9449 §4.2');
  }
}

function checkClaims(payload: JWTPayload, context: ProofContext): void {
  const { jti, iat, htm, htu, ath, nonce } = payload;
  if (typeof jti !== 'string' || jti.length === 0 || jti.length > MAX_ID_LENGTH) {
    throw refuse('ERR_MOORING_DPOP_ID', `use 16 to ${MAX_ID_LENGTH} random characters`, {
      data: { claim: 'jti' },
    });
  }
  if (htm !== context.method) {
    throw refuse('ERR_MOORING_DPOP_METHOD', `it is ${shown(htm)}: use "${context.method}"`, {
      data: { claim: 'htm' },
    });
  }
  if (normalised(htu) !== normalised(context.url)) {
    throw refuse('ERR_MOORING_DPOP_URL', `it is ${shown(htu)}: use ${shown(context.url)}`, {
      data: { claim: 'htu' },
    });
  }
  if (typeof iat !== 'number' || Math.abs(iat * 1000 - context.nowMs) > context.windowMs) {
    throw refuse(
      'ERR_MOORING_DPOP_ISSUED_AT',
      `it is ${typeof iat === 'number' ? `${Math.round(iat - context.nowMs / 1000)} s from now` : 'missing'}; ` +
        `it may lie ${context.windowMs / 1000} s to either side: make the proof now, check the clock`,
      { data: { claim: 'iat' } },
    );
  }
  if (context.nonce !== null && nonce !== context.nonce) {
    throw refuse('ERR_MOORING_DPOP_NONCE', 'use the nonce of the welcome frame, once', {
      data: { claim: 'nonce' },
    });
  }
  if (context.seal !== null && payload.seal !== context.seal) {
    throw refuse('ERR_MOORING_DPOP_SEAL', `it is ${shown(payload.seal)}: use x of the sealing key`, {
      data: { claim: 'seal' },
    });
  }
  if (ath !== createHash('sha256').update(context.accessToken).digest('base64url')) {
    throw refuse('ERR_MOORING_DPOP_TOKEN_HASH', 'use the base64url SHA-256 of the access token', {
      data: { claim: 'ath' },
    });
  }
}

/** RFC 3986 §6.2.2–6.2.3 normal form without query and fragment; undefined if it is no URL. */
function normalised(value: unknown): string | undefined {
  if (typeof value !== 'string' || !URL.canParse(value)) return undefined;
  const url = new URL(value);
  url.search = '';
  url.hash = '';
  return url.href;
}
