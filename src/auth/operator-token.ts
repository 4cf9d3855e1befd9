import { createHash } from 'node:crypto';
import { decodeJwt, type JWTPayload } from 'jose';
import { checked } from '../protocol/checked.ts';
import { MooringError } from '../protocol/errors.ts';
import { Device } from '../protocol/lease.ts';
import type { Log } from '../telemetry/log.ts';
import { claimedIssuer, scopesOf, verifiedClaims } from './access-token.ts';
import { verifyProof } from './dpop.ts';
import { createIssuerKeys, type IssuerKeys } from './issuer-keys.ts';
import { refuse, shown } from './refusal.ts';

/** An issuer whose operators are admitted. */
export interface OperatorIssuer {
  readonly issuer: string;
  readonly audience: string;
  readonly algorithms: readonly string[];
  readonly jwksUri?: string | undefined;
  /** PEM of the authority of its TLS certificate, if private. */
  readonly ca?: string | undefined;
  /** Tokens without the claim `tenant` are for all tenants; otherwise they are refused. */
  readonly wholeSite: boolean;
}

/** A request that comes with an access token. */
export interface TokenRequest {
  readonly scheme: 'bearer' | 'dpop';
  readonly token: string;
  /** The header `DPoP`. */
  readonly proof: string | undefined;
  readonly method: string;
  /** As the operator's configuration says it is reached, whatever a proxy has made of it. */
  readonly url: string;
  /** SHA-256 of the client's certificate, base64url (RFC 8705 §3.1); null: it showed none. */
  readonly certificate: string | null;
}

export interface OperatorFacts {
  readonly subject: string;
  readonly issuer: string;
  /** Null: all tenants. */
  readonly tenant: string | null;
  readonly scopes: readonly string[];
  readonly expiresAtMs: number;
}

export interface OperatorVerifier {
  /** Throws a refusal of `REFUSALS`, which names the claim and never the token. */
  verify(request: TokenRequest): Promise<OperatorFacts>;
  close(): void;
}

/** How far `iat` of a proof may lie from now, both ways, milliseconds: its `jti` is remembered as long. */
const PROOF_WINDOW_MS = 60_000;
/** Proofs remembered at most, all of authenticated operators; at more a second than this allows, new ones wait. */
const PROOFS = 65_536;

const checkTenant = checked(Device.properties.tenant, ({ remedy }) =>
  refuse('ERR_MOORING_TOKEN_CLAIM', `the tenant it names does not fit: ${remedy}`, {
    data: { claim: 'tenant' },
  }),
);

/**
 * Accepts access tokens (RFC 9068) of operators. One that is bound to a key (RFC 9449) or a certificate (RFC 8705) must
 * come with it; one that is bound in another way is refused.
 */
export function createOperatorVerifier(options: {
  readonly issuers: readonly OperatorIssuer[];
  readonly clockToleranceS: number;
  readonly log: Log;
  /** Wall clock, milliseconds since 1970. */
  readonly now?: () => number;
}): OperatorVerifier {
  const { log, now = Date.now } = options;
  const issuers = new Map<string, { rules: OperatorIssuer; keys: IssuerKeys }>();
  for (const rules of options.issuers) {
    const { issuer, jwksUri, ca } = rules;
    issuers.set(issuer, { rules, keys: createIssuerKeys({ issuer, jwksUri, ca, log }) });
  }
  const used = createOnce(PROOFS, 2 * PROOF_WINDOW_MS);

  async function demandProof(request: TokenRequest, jkt: string): Promise<void> {
    const { scheme, proof, method, url, token } = request;
    if (scheme !== 'dpop' || proof === undefined) {
      throw refuse('ERR_MOORING_TOKEN_SCHEME', 'it is bound to a key: send it as DPoP, with a proof');
    }
    const nowMs = now();
    const windowMs = PROOF_WINDOW_MS;
    await verifyProof(proof, {
      accessToken: token,
      nonce: null,
      seal: null,
      method,
      url,
      jkt,
      nowMs,
      windowMs,
    });
    // Only what is authentic is remembered: strangers cannot fill it.
    if (!used.first(`${jkt} ${decodeJwt(proof).jti}`, nowMs)) {
      throw refuse('ERR_MOORING_DPOP_REPEATED', 'make one for each request, with a jti of its own', {
        data: { claim: 'jti' },
      });
    }
  }

  return {
    async verify(request) {
      const iss = claimedIssuer(request.token);
      const known = typeof iss === 'string' ? issuers.get(iss) : undefined;
      if (known === undefined) {
        throw refuse('ERR_MOORING_TOKEN_ISSUER', `it is ${shown(iss)}`, { data: { claim: 'iss' } });
      }
      const { rules, keys } = known;
      const clock = { nowMs: now(), toleranceS: options.clockToleranceS };
      const claims = await verifiedClaims(request.token, rules, keys.keyFor, clock, 'sub');
      const { jkt, x5t, other } = bindingOf(claims);
      if (other !== undefined) {
        throw refuse(
          'ERR_MOORING_TOKEN_SCHEME',
          `it is bound by cnf.${other.slice(0, 20)}, which is not known here`,
        );
      }
      if (jkt !== undefined) await demandProof(request, jkt);
      else if (request.scheme === 'dpop') {
        throw refuse('ERR_MOORING_TOKEN_UNBOUND', 'send it as Bearer, or fetch it with a DPoP proof');
      }
      if (x5t !== undefined && x5t !== request.certificate) {
        throw refuse(
          'ERR_MOORING_TOKEN_CERTIFICATE',
          'connect with the certificate that it was fetched with',
        );
      }
      return {
        subject: String(claims.sub),
        issuer: rules.issuer,
        tenant: tenantOf(claims, rules),
        scopes: scopesOf(claims),
        expiresAtMs: (claims.exp ?? 0) * 1000,
      };
    },
    close() {
      for (const { keys } of issuers.values()) keys.close();
    },
  };
}

function bindingOf({ cnf }: JWTPayload): { jkt?: string; x5t?: string; other?: string } {
  if (cnf === undefined) return {};
  const { jkt, 'x5t#S256': x5t, ...others } = cnf as Record<string, unknown>;
  const [other] = Object.keys(others);
  return {
    ...(jkt === undefined ? {} : { jkt: String(jkt) }),
    ...(x5t === undefined ? {} : { x5t: String(x5t) }),
    ...(other === undefined ? {} : { other }),
  };
}

function tenantOf({ tenant }: JWTPayload, rules: OperatorIssuer): string | null {
  if (tenant !== undefined) return checkTenant(tenant);
  if (rules.wholeSite) return null;
  throw refuse(
    'ERR_MOORING_TOKEN_TENANT',
    `have the issuer add the claim tenant, or set wholeSite for ${rules.issuer}: then such tokens are for all tenants`,
    { data: { claim: 'tenant' } },
  );
}

/** SHA-256 of a certificate as RFC 8705 §3.1 writes it. */
export function certificateThumbprint(der: Uint8Array): string {
  return createHash('sha256').update(der).digest('base64url');
}

/** Tells what comes for the first time; bounded in count and time. */
function createOnce(most: number, keepMs: number) {
  const seen = new Map<string, number>();
  return {
    first(name: string, nowMs: number): boolean {
      for (const [old, untilMs] of seen) {
        if (untilMs > nowMs) break;
        seen.delete(old);
      }
      if (seen.has(name)) return false;
      if (seen.size >= most) {
        throw new MooringError(
          'ERR_MOORING_TOO_MANY_REQUESTS',
          `more than ${most} proofs within ${keepMs / 1000} s; send fewer requests`,
          { temporary: true, retryAfterMs: 1_000 },
        );
      }
      seen.set(name, nowMs + keepMs);
      return true;
    },
  };
}
