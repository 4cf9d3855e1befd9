import { createLocalJWKSet, errors, type JSONWebKeySet, type JWTVerifyGetKey } from 'jose';
import { monotonicMs } from '../telemetry/clock.ts';
import type { Log } from '../telemetry/log.ts';
import { fetchDocument } from './fetch-document.ts';
import { refuse, shown } from './refusal.ts';

/** When keys are fetched, milliseconds. */
export interface KeyTiming {
  /** Between background refreshes while they succeed. Default 300,000. */
  readonly refreshMs: number;
  /** How long keys are used after the last success while the issuer is away. Default 86,400,000. */
  readonly maxStaleMs: number;
  /** First wait after a failure; doubles up to `maxBackoffMs`. Default 1,000 and 60,000. */
  readonly backoffMs: number;
  readonly maxBackoffMs: number;
  /** A token naming an unknown key causes a fetch at most this often. Default 30,000. */
  readonly unknownKeyMs: number;
  /** For one answer. Default 5,000. */
  readonly timeoutMs: number;
}

export const KEY_TIMING: KeyTiming = {
  refreshMs: 300_000,
  maxStaleMs: 86_400_000,
  backoffMs: 1_000,
  maxBackoffMs: 60_000,
  unknownKeyMs: 30_000,
  timeoutMs: 5_000,
};

const MAX_DOCUMENT_BYTES = 256 * 1024;

export interface IssuerKeysOptions {
  /** Issuer identifier; without `jwksUri` its metadata document says where the keys are (RFC 8414). */
  readonly issuer: string;
  readonly jwksUri?: string | undefined;
  readonly ca?: string | undefined;
  readonly timing?: Partial<KeyTiming> | undefined;
  readonly log: Log;
  /** Monotonic clock, milliseconds. */
  readonly now?: () => number;
}

/** The public keys of one issuer. */
export interface IssuerKeys {
  /** Resolves the key that a token header names. Refuses with …_KEY_UNKNOWN or …_ISSUER_UNREACHABLE. */
  readonly keyFor: JWTVerifyGetKey;
  /** Fetches now, unless a fetch is under way, which is then shared. Never rejects. */
  refresh(): Promise<void>;
  /** Stops the background refresh. */
  close(): void;
}

/**
 * Keeps the keys of an issuer (RFC 7517 §5) at hand: fetched at once, refreshed in the background, used stale while
 * the issuer is away, one fetch at a time, and fewer and fewer while it fails, so that neither an outage of the
 * issuer nor tokens with made-up key ids turn into a load on it.
 */
export function createIssuerKeys(options: IssuerKeysOptions): IssuerKeys {
  const timing = { ...KEY_TIMING, ...options.timing };
  const now = options.now ?? monotonicMs;
  let keys: JWTVerifyGetKey | null = null;
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let notBeforeMs = Number.NEGATIVE_INFINITY;
  let failures = 0;
  let underWay: Promise<void> | null = null;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  async function load(): Promise<void> {
    let waitMs = timing.refreshMs;
    try {
      keys = await fetchKeys(options, timing.timeoutMs);
      fetchedAtMs = now();
      failures = 0;
      notBeforeMs = Number.NEGATIVE_INFINITY;
    } catch (error) {
      waitMs = Math.min(timing.maxBackoffMs, timing.backoffMs * 2 ** Math.min(failures, 16));
      failures += 1;
      notBeforeMs = now() + waitMs;
      const reason = error instanceof Error ? error.message : String(error);
      options.log.warn({ issuer: options.issuer, failures, waitMs, reason }, 'issuer keys not fetched');
    }
    if (closed) return;
    clearTimeout(timer);
    timer = setTimeout(() => void refresh(), waitMs).unref();
  }

  function refresh(): Promise<void> {
    underWay ??= load().finally(() => {
      underWay = null;
    });
    return underWay;
  }

  async function usable(): Promise<JWTVerifyGetKey> {
    const fresh = () => keys !== null && now() - fetchedAtMs <= timing.maxStaleMs;
    if (!fresh() && now() >= notBeforeMs) await refresh();
    if (keys !== null && fresh()) return keys;
    throw refuse('ERR_MOORING_ISSUER_UNREACHABLE', `${options.issuer} does not answer; try again`, {
      temporary: true,
      retryAfterMs: Math.max(1, Math.ceil(notBeforeMs - now())),
    });
  }

  const keyFor: JWTVerifyGetKey = async (header, token) => {
    try {
      return await (await usable())(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSMultipleMatchingKeys) {
        throw refuse('ERR_MOORING_TOKEN_KEY_UNKNOWN', 'several keys match: have the issuer set header kid');
      }
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
    }
    const waitMs = Math.max(notBeforeMs, fetchedAtMs + timing.unknownKeyMs) - now();
    const unknown = (detail = {}) =>
      refuse(
        'ERR_MOORING_TOKEN_KEY_UNKNOWN',
        `header kid is ${shown(header.kid)}: fetch a new token`,
        detail,
      );
    if (waitMs > 0) throw unknown({ temporary: true, retryAfterMs: Math.ceil(waitMs) });
    await refresh();
    try {
      return await (await usable())(header, token);
    } catch (error) {
      if (error instanceof errors.JWKSNoMatchingKey) throw unknown();
      throw error;
    }
  };

  void refresh();
  return {
    keyFor,
    refresh,
    close() {
      closed = true;
      clearTimeout(timer);
    },
  };
}

async function fetchKeys(options: IssuerKeysOptions, timeoutMs: number): Promise<JWTVerifyGetKey> {
  const limits = { ca: options.ca, timeoutMs, maxBytes: MAX_DOCUMENT_BYTES };
  const uri = options.jwksUri ?? (await discover(options.issuer, limits));
  return createLocalJWKSet((await fetchDocument(uri, limits)) as JSONWebKeySet);
}

async function discover(
  issuer: string,
  limits: { ca: string | undefined; timeoutMs: number; maxBytes: number },
): Promise<string> {
  const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
  const metadata = (await fetchDocument(url, limits)) as Record<string, unknown> | null;
  // RFC 8414 §3.3: metadata that names another issuer must not be used.
  if (metadata?.issuer !== issuer) throw new Error(`${url} is the metadata of ${shown(metadata?.issuer)}`);
  const uri = metadata.jwks_uri;
  if (typeof uri !== 'string' || (issuer.startsWith('https:') && !uri.startsWith('https:'))) {
    throw new Error(`${url} has no usable jwks_uri`);
  }
  return uri;
}
