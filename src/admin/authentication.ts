import { createHash } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import type { FastifyRequest } from 'fastify';
import { certificateThumbprint, type OperatorVerifier } from '../auth/operator-token.ts';
import { MooringError } from '../protocol/errors.ts';
import { createTokenBucket, type TokenBucket } from '../rebinding/token-bucket.ts';
import { monotonicMs } from '../telemetry/clock.ts';
import { fullOperator, type Operator } from './operator.ts';

/** Says who sends a request, or throws: nothing is kept of those who cannot say it. */
export type Authenticate = (request: FastifyRequest) => Promise<Operator>;

/** Requests of one operator: so many at once, and a second in the long run. */
const OPERATOR_RATE = { burst: 200, perSecond: 50 } as const;
/** Credentials that turn out wrong, of all strangers together: verifying a signature costs a fraction of a millisecond. */
const FAILURE_RATE = { burst: 50, perSecond: 20 } as const;
/** Operators and tokens remembered, all authenticated. */
const REMEMBERED = 1_024;

/** Who may open the socket is the operator. */
export const localOperator: Authenticate = async () => fullOperator('local');

/**
 * By access token, or by a certificate of the operators' authority. When strangers send more wrong credentials than can
 * be judged, only tokens that were right before are looked at.
 */
export function createAuthentication(options: {
  readonly verifier: OperatorVerifier | null;
  /** How the API is reached: proofs name its URLs. */
  readonly url: string;
  /** Of one operator. */
  readonly rate?: { readonly burst: number; readonly perSecond: number };
  /** Monotonic clock, milliseconds. */
  readonly nowMs?: () => number;
}): Authenticate {
  const { verifier, url, rate: allowed = OPERATOR_RATE, nowMs = monotonicMs } = options;
  const failures = createTokenBucket(FAILURE_RATE.burst, FAILURE_RATE.perSecond);
  let strained = false;
  const good = new Recent<true>(REMEMBERED);
  const rates = new Recent<TokenBucket>(REMEMBERED);

  async function byToken(request: FastifyRequest, header: string): Promise<Operator> {
    const [, scheme = '', token = ''] = /^(bearer|dpop) +([\x21-\x7e]+)$/i.exec(header) ?? [];
    if (token === '' || verifier === null) throw unauthenticated();
    const digest = createHash('sha256').update(token).digest('base64');
    if (strained && !good.has(digest) && !failures.take(nowMs())) throw tooMany('wrong credentials');
    const proof = request.headers.dpop;
    try {
      const facts = await verifier.verify({
        scheme: scheme.toLowerCase() as 'bearer' | 'dpop',
        token,
        proof: typeof proof === 'string' ? proof : undefined,
        method: request.method,
        url: new URL(request.url.split('?')[0] ?? '', url).href,
        certificate: certificateOf(request)?.thumbprint ?? null,
      });
      good.set(digest, true);
      strained = false;
      return {
        name: `token:${facts.issuer}:${facts.subject}`,
        tenant: facts.tenant,
        scopes: new Set(facts.scopes),
      };
    } catch (error) {
      if (!strained) strained = !failures.take(nowMs());
      throw error;
    }
  }

  return async (request) => {
    const { authorization } = request.headers;
    const certificate = certificateOf(request);
    let operator: Operator;
    if (authorization !== undefined) operator = await byToken(request, authorization);
    else if (certificate?.operator !== undefined)
      operator = fullOperator(`certificate:${certificate.operator}`);
    else throw unauthenticated();
    const rate = rates.get(operator.name) ?? createTokenBucket(allowed.burst, allowed.perSecond);
    rates.set(operator.name, rate);
    if (!rate.take(nowMs())) throw tooMany(`${allowed.perSecond} requests a second`);
    return operator;
  };
}

/** A client's certificate; `operator` is set only when it is of the operators' authority and names one. */
function certificateOf(request: FastifyRequest): { thumbprint: string; operator?: string } | null {
  const socket = request.raw.socket as TLSSocket;
  if (typeof socket.getPeerCertificate !== 'function') return null;
  const { raw, subject } = socket.getPeerCertificate();
  if (raw === undefined) return null;
  const [role, name] = String(subject?.CN ?? '').split(/:(.*)/s, 2);
  return {
    thumbprint: certificateThumbprint(raw),
    ...(socket.authorized && role === 'operator' && name ? { operator: name } : {}),
  };
}

function unauthenticated(): MooringError {
  return new MooringError(
    'ERR_MOORING_UNAUTHENTICATED',
    'no credentials came along; send an access token in Authorization, or connect with an operator’s certificate',
  );
}

function tooMany(what: string): MooringError {
  return new MooringError('ERR_MOORING_TOO_MANY_REQUESTS', `more than ${what}; wait a second`, {
    temporary: true,
    retryAfterMs: 1_000,
  });
}

/** The last so many of what was set. */
class Recent<V> {
  readonly #entries = new Map<string, V>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  get(key: string): V | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: V): void {
    this.#entries.delete(key);
    this.#entries.set(key, value);
    const [oldest] = this.#entries.keys();
    if (this.#entries.size > this.#most && oldest !== undefined) this.#entries.delete(oldest);
  }
}
