import { decodeJwt, errors, type JWTPayload, type JWTVerifyGetKey, jwtVerify } from 'jose';
import { checked } from '../protocol/checked.ts';
import { MooringError } from '../protocol/errors.ts';
import { Device } from '../protocol/lease.ts';
import { refuse, shown } from './refusal.ts';

/** Longest access token accepted, characters. */
export const MAX_TOKEN_LENGTH = 8_192;

/** What is demanded of the tokens of one issuer. */
export interface TokenRules {
  readonly issuer: string;
  readonly audience: string;
  readonly algorithms: readonly string[];
  /** Header `typ`. Default `at+jwt` (RFC 9068 §2.1). */
  readonly typ?: string | undefined;
  /**
   * Claim that names the device. Default `sub`, which RFC 9068 §2.2 requires, and which is the client id when a
   * device fetches its token with `client_credentials`. Not `client_id`: where users sign in, all of them share
   * the client id of one application.
   */
  readonly deviceClaim?: string | undefined;
  /** Claim that names the tenant. Default `tenant`. */
  readonly tenantClaim?: string | undefined;
  /** Tenant of tokens that have no such claim. Without it they are refused. */
  readonly tenant?: string | undefined;
}

export interface TokenFacts {
  readonly device: Device;
  /** RFC 7638 thumbprint of the key that the token is bound to (RFC 9449 §6.1). */
  readonly jkt: string;
  readonly expiresAtMs: number;
  readonly scopes: readonly string[];
  /** All that the token says, for an operator's rules. */
  readonly claims: Readonly<Record<string, unknown>>;
}

/** `iss` of a token that nothing has been verified of: only good for choosing the rules. */
export function claimedIssuer(token: string): unknown {
  if (token.length > MAX_TOKEN_LENGTH) {
    throw refuse('ERR_MOORING_TOKEN_TOO_LARGE', `at most ${MAX_TOKEN_LENGTH} characters are read`, {
      data: { length: token.length },
    });
  }
  try {
    return decodeJwt(token).iss;
  } catch {
    throw refuse('ERR_MOORING_TOKEN_MALFORMED', 'send the access_token of the token response as it is');
  }
}

/**
 * Verifies a JWT access token (RFC 9068 §4): signature, algorithm, type, issuer, audience, times and the claims that
 * Mooring reads, all pinned by `rules`. Throws a refusal of `REFUSALS`.
 */
export async function verifyAccessToken(
  token: string,
  rules: TokenRules,
  keyFor: JWTVerifyGetKey,
  clock: TokenClock,
): Promise<TokenFacts> {
  const deviceClaim = rules.deviceClaim ?? 'sub';
  const payload = await verifiedClaims(token, rules, keyFor, clock, deviceClaim);
  return {
    device: deviceOf(payload, rules, deviceClaim),
    jkt: boundKey(payload),
    expiresAtMs: (payload.exp ?? 0) * 1000,
    scopes: scopesOf(payload),
    claims: payload,
  };
}

export interface TokenClock {
  readonly nowMs: number;
  readonly toleranceS: number;
}

/** The claims of an access token whose signature, algorithm, type, issuer, audience and times hold. */
export async function verifiedClaims(
  token: string,
  rules: Pick<TokenRules, 'issuer' | 'audience' | 'algorithms' | 'typ'>,
  keyFor: JWTVerifyGetKey,
  clock: TokenClock,
  subjectClaim: string,
): Promise<JWTPayload> {
  const { payload } = await jwtVerify(token, keyFor, {
    algorithms: [...rules.algorithms],
    issuer: rules.issuer,
    audience: rules.audience,
    typ: rules.typ ?? 'at+jwt',
    clockTolerance: clock.toleranceS,
    currentDate: new Date(clock.nowMs),
    requiredClaims: ['exp', 'iat', subjectClaim],
  }).catch((error: unknown) => {
    throw explain(error, rules);
  });
  const { iat = 0 } = payload;
  if (iat * 1000 > clock.nowMs + clock.toleranceS * 1000) {
    throw refuse('ERR_MOORING_TOKEN_NOT_YET_VALID', 'claim iat lies in the future: check the clocks', {
      data: { claim: 'iat' },
    });
  }
  return payload;
}

/** The scopes of a token (RFC 8693 §4.2). */
export function scopesOf({ scope }: JWTPayload): readonly string[] {
  return typeof scope === 'string' ? scope.split(' ').filter(Boolean) : [];
}

const checkDevice = checked(Device, ({ field, remedy }) => {
  const claim = field === 'tenant' ? 'tenant' : 'device';
  return refuse('ERR_MOORING_TOKEN_CLAIM', `the ${claim} it names does not fit: ${remedy}`, {
    data: { claim },
  });
});

function deviceOf(payload: JWTPayload, rules: TokenRules, deviceClaim: string): Device {
  const tenantClaim = rules.tenantClaim ?? 'tenant';
  const tenant = payload[tenantClaim] ?? rules.tenant;
  if (tenant === undefined) {
    throw refuse(
      'ERR_MOORING_TOKEN_CLAIM',
      `claim ${tenantClaim} is missing: have the issuer add it, or configure a tenant for ${rules.issuer}`,
      { data: { claim: tenantClaim } },
    );
  }
  return checkDevice({ tenant, id: payload[deviceClaim] });
}

function boundKey(payload: JWTPayload): string {
  const jkt = (payload.cnf as { jkt?: unknown } | undefined)?.jkt;
  if (typeof jkt === 'string' && /^[A-Za-z0-9_-]{43}$/.test(jkt)) return jkt;
  throw refuse('ERR_MOORING_TOKEN_UNBOUND', 'fetch it with a DPoP proof (RFC 9449 §5)', {
    data: { claim: 'cnf.jkt' },
  });
}

const EXPLAINED_CLAIMS = {
  iss: 'ERR_MOORING_TOKEN_ISSUER',
  aud: 'ERR_MOORING_TOKEN_AUDIENCE',
  typ: 'ERR_MOORING_TOKEN_TYPE',
  nbf: 'ERR_MOORING_TOKEN_NOT_YET_VALID',
} as const;

function explain(
  error: unknown,
  rules: Pick<TokenRules, 'audience' | 'typ' | 'algorithms' | 'issuer'>,
): MooringError {
  if (error instanceof MooringError) return error;
  if (error instanceof errors.JWTExpired) {
    return refuse('ERR_MOORING_TOKEN_EXPIRED', 'fetch a new one', { data: { claim: 'exp' } });
  }
  if (error instanceof errors.JWTClaimValidationFailed) {
    const { claim } = error;
    const code =
      EXPLAINED_CLAIMS[claim as keyof typeof EXPLAINED_CLAIMS] ?? ('ERR_MOORING_TOKEN_CLAIM' as const);
    const remedies: Record<string, string> = {
      aud: `ask for resource ${rules.audience}`,
      typ: `the issuer must set ${rules.typ ?? 'at+jwt'}`,
      nbf: 'claim nbf lies in the future: check the clocks',
    };
    return refuse(code, remedies[claim] ?? `look at claim ${claim}`, { data: { claim } });
  }
  if (error instanceof errors.JOSEAlgNotAllowed || error instanceof errors.JOSENotSupported) {
    return refuse('ERR_MOORING_TOKEN_ALGORITHM', `use one of ${rules.algorithms.join(', ')}`, {
      data: { claim: 'alg' },
    });
  }
  if (error instanceof errors.JWSSignatureVerificationFailed) {
    return refuse('ERR_MOORING_TOKEN_SIGNATURE', `fetch a new one from ${rules.issuer}`);
  }
  return refuse('ERR_MOORING_TOKEN_MALFORMED', `it cannot be read (${shown((error as Error).name)})`);
}
