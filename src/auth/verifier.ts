import { MooringError } from '../protocol/errors.ts';
import type { Device } from '../protocol/lease.ts';
import type { Log } from '../telemetry/log.ts';
import { claimedIssuer, type TokenRules, verifyAccessToken } from './access-token.ts';
import { verifyProof } from './dpop.ts';
import { createIssuerKeys, type IssuerKeys } from './issuer-keys.ts';
import { refuse, shown } from './refusal.ts';

/** An issuer whose tokens are accepted. */
export interface IssuerOptions extends TokenRules {
  /** Where its keys are. Default: what its metadata document says (RFC 8414). */
  readonly jwksUri?: string | undefined;
  /** PEM of the authority of its TLS certificate, if private. */
  readonly ca?: string | undefined;
}

/** How far `iat` of a DPoP proof may lie from now, both ways. */
const PROOF_WINDOW_MS = 120_000;

export interface TokenVerifierOptions {
  readonly issuers: readonly IssuerOptions[];
  /** Allowance for other clocks in `exp`, `nbf` and `iat` of tokens, seconds. */
  readonly clockToleranceS: number;
  readonly log: Log;
  /** Wall clock, milliseconds since 1970. */
  readonly now?: () => number;
}

/** What a proof must speak of: this socket and no other. */
export interface SocketFacts {
  /** Single-use nonce of the socket's `welcome`. */
  readonly nonce: string;
  /** URL of the socket's `welcome`. */
  readonly url: string;
  /** `x` of the sealing key that came with the proof. */
  readonly seal: string;
}

/** Who holds a socket. */
export interface Principal {
  readonly device: Device;
  /** RFC 7638 SHA-256 thumbprint (base64url) of the device's DPoP key. */
  readonly thumbprint: string;
  /** When the access token expires, milliseconds since 1970. */
  readonly expiresAtMs: number;
  readonly scopes: readonly string[];
  /** All that the access token says, for an operator's rules (default: nothing). */
  readonly claims?: Readonly<Record<string, unknown>>;
}

export interface TokenVerifier {
  /**
   * Verifies an access token and the DPoP proof that comes with it: `htm` is `GET` and `htu` is exactly that URL (with its ws or wss scheme), whatever a proxy in
   * between has made of the Host header. Throws a refusal of `REFUSALS`, which names the claim and never the token.
   */
  verify(token: string, proof: string, socket: SocketFacts): Promise<Principal>;
  close(): void;
}

/**
 * Accepts access tokens (RFC 9068) of the configured issuers, bound to the device's key by DPoP (RFC 9449). A token
 * without a bound key is refused, whatever proof comes with it.
 */
export function createTokenVerifier(options: TokenVerifierOptions): TokenVerifier {
  const now = options.now ?? Date.now;
  const issuers = new Map<string, { rules: IssuerOptions; keys: IssuerKeys }>();
  for (const rules of options.issuers) checkRules(rules);
  for (const rules of options.issuers) {
    const { issuer, jwksUri, ca } = rules;
    warnOfPlaintext(jwksUri ?? issuer, options.log);
    const keys = createIssuerKeys({ issuer, jwksUri, ca, log: options.log });
    issuers.set(issuer, { rules, keys });
  }
  return {
    async verify(token, proof, { nonce, url, seal }) {
      const iss = claimedIssuer(token);
      const known = typeof iss === 'string' ? issuers.get(iss) : undefined;
      if (known === undefined) {
        throw refuse('ERR_MOORING_TOKEN_ISSUER', `it is ${shown(iss)}`, { data: { claim: 'iss' } });
      }
      const clock = { nowMs: now(), toleranceS: options.clockToleranceS };
      const facts = await verifyAccessToken(token, known.rules, known.keys.keyFor, clock);
      const thumbprint = await verifyProof(proof, {
        accessToken: token,
        nonce,
        method: 'GET',
        url,
        seal,
        jkt: facts.jkt,
        nowMs: now(),
        windowMs: PROOF_WINDOW_MS,
      });
      const { device, expiresAtMs, scopes, claims } = facts;
      return { device, thumbprint, expiresAtMs, scopes, claims };
    },
    close() {
      for (const { keys } of issuers.values()) keys.close();
    },
  };
}

/** Keys that are fetched in clear over a network can be exchanged on the way: then anyone makes tokens. */
function warnOfPlaintext(url: string, log: Log): void {
  const { protocol, hostname } = new URL(url);
  if (protocol !== 'http:' || /^(localhost|127\.\d+\.\d+\.\d+|\[::1\])$/.test(hostname)) return;
  log.warn(
    { url },
    'issuer keys are fetched without TLS: who can change them on the way can make tokens; use https',
  );
}

/** An issuer's settings that would let in tokens that anyone can make. */
function checkRules(rules: IssuerOptions): void {
  const symmetric = rules.algorithms.find((alg) => alg === 'none' || alg.startsWith('HS'));
  if (rules.algorithms.length === 0 || symmetric !== undefined) {
    throw new MooringError(
      'ERR_MOORING_BAD_INPUT',
      `algorithms of issuer ${rules.issuer}: ${symmetric ?? 'an empty list'} proves nothing; ` +
        'name the asymmetric ones that it signs with, such as ES256',
      { data: { field: 'algorithms' } },
    );
  }
}
