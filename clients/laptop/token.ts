import { createPrivateKey, type KeyObject, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { SignJWT } from 'jose';
import { MooringError } from '../../src/protocol/errors.ts';
import type { Credentials } from '../sdk/connection.ts';
import { type DpopKey, dpopProof } from '../sdk/dpop.ts';
import type { LaptopConfig } from './config.ts';

export interface TokenClient {
  /** A token with at least a minute left; `fresh` always fetches one. */
  credentials(fresh: boolean): Promise<Credentials>;
}

/** A token is renewed when less than this is left of it. */
const SPARE_MS = 60_000;
const REQUEST_TIMEOUT_MS = 8_000;

/**
 * Fetches access tokens by client_credentials (RFC 6749 §4.4) with private_key_jwt (RFC 7523 §2.2), bound to
 * the device's key by DPoP (RFC 9449 §5) with the issuer's nonces (§8). Errors: ERR_MOORING_TOKEN, temporary
 * unless the issuer refuses the client itself.
 */
export function createTokenClient(settings: LaptopConfig['issuer'], key: DpopKey): TokenClient {
  const signingKey = readSigningKey(settings.privateKeyFile);
  const ca = settings.caFile === undefined ? undefined : readFileSync(settings.caFile, 'utf8');
  let held: { readonly token: string; readonly untilMs: number } | null = null;
  let nonce: string | undefined;
  let fetching: Promise<string> | null = null;

  async function fetchToken(): Promise<string> {
    for (let attempt = 1; ; attempt += 1) {
      const answer = await post(settings.tokenEndpoint, ca, await form(), {
        DPoP: await dpopProof(key, {
          htm: 'POST',
          htu: settings.tokenEndpoint,
          ...(nonce === undefined ? {} : { nonce }),
        }),
      });
      nonce = answer.nonce ?? nonce;
      if (answer.status === 200) {
        const { access_token: token, expires_in: expiresInS, token_type: type } = answer.body;
        if (typeof token !== 'string' || String(type).toLowerCase() !== 'dpop') {
          throw refused(`answered without a DPoP-bound token (token_type ${String(type)})`, false);
        }
        const lifeMs = (typeof expiresInS === 'number' ? expiresInS : 60) * 1000;
        held = { token, untilMs: performance.now() + lifeMs };
        return token;
      }
      if (answer.body.error === 'use_dpop_nonce' && attempt === 1) continue;
      const reason = [answer.body.error, answer.body.error_description].filter(Boolean).join(': ');
      throw refused(`answered ${answer.status} ${reason}`, answer.status >= 500 || answer.status === 429);
    }
  }

  function refused(what: string, temporary: boolean): MooringError {
    const remedy = temporary
      ? 'it is tried again'
      : 'check issuer.clientId, issuer.privateKeyFile and issuer.audience against what the issuer knows';
    return new MooringError('ERR_MOORING_TOKEN', `${settings.tokenEndpoint} ${what}; ${remedy}`, {
      temporary,
    });
  }

  async function form(): Promise<string> {
    const assertion = await new SignJWT({})
      .setProtectedHeader({ alg: signingKey.asymmetricKeyType === 'ed25519' ? 'Ed25519' : 'ES256' })
      .setIssuer(settings.clientId)
      .setSubject(settings.clientId)
      .setAudience(settings.issuer ?? new URL(settings.tokenEndpoint).origin)
      .setJti(randomUUID())
      .setIssuedAt()
      .setExpirationTime('55s')
      .sign(signingKey);
    return new URLSearchParams({
      grant_type: 'client_credentials',
      scope: settings.scope,
      resource: settings.audience,
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: assertion,
    }).toString();
  }

  return {
    async credentials(fresh) {
      if (fresh) held = null;
      let token = held !== null && held.untilMs - performance.now() > SPARE_MS ? held.token : null;
      if (token === null) {
        fetching ??= fetchToken().finally(() => {
          fetching = null;
        });
        token = await fetching;
      }
      const accessToken = token;
      return {
        token: accessToken,
        proof: ({ nonce: serverNonce, url, seal }) =>
          dpopProof(key, { htm: 'GET', htu: url, nonce: serverNonce, accessToken, seal }),
      };
    },
  };
}

function readSigningKey(file: string): KeyObject {
  try {
    const text = readFileSync(file, 'utf8');
    const key = text.trimStart().startsWith('{')
      ? createPrivateKey({ key: JSON.parse(text), format: 'jwk' })
      : createPrivateKey(text);
    if (key.asymmetricKeyType === 'ed25519') return key;
    if (key.asymmetricKeyDetails?.namedCurve === 'prime256v1') return key;
    throw new Error(`is of type ${key.asymmetricKeyType}`);
  } catch (cause) {
    throw new MooringError(
      'ERR_MOORING_CONFIG',
      `issuer.privateKeyFile: ${file} cannot be used; name a readable P-256 or Ed25519 private key, PEM or JWK`,
      { cause, data: { field: 'issuer.privateKeyFile' } },
    );
  }
}

interface Answer {
  readonly status: number;
  readonly nonce: string | undefined;
  readonly body: Readonly<Record<string, unknown>>;
}

function post(
  url: string,
  ca: string | undefined,
  body: string,
  headers: Readonly<Record<string, string>>,
): Promise<Answer> {
  const send = url.startsWith('https:') ? httpsRequest : httpRequest;
  const unreachable = (cause: Error): MooringError =>
    new MooringError('ERR_MOORING_TOKEN', `${url} cannot be reached: ${cause.message}; it is tried again`, {
      temporary: true,
      cause,
    });
  return new Promise((resolve, reject) => {
    const request = send(
      url,
      {
        method: 'POST',
        ...(ca === undefined ? {} : { ca }),
        agent: false,
        signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
        headers: {
          ...headers,
          'content-type': 'application/x-www-form-urlencoded',
          'content-length': Buffer.byteLength(body),
        },
      },
      (response) => {
        const chunks: Buffer[] = [];
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > 65_536) request.destroy(new Error('the answer is longer than 64 KiB'));
          else chunks.push(chunk);
        });
        response.on('error', (cause) => reject(unreachable(cause)));
        response.on('end', () => {
          const nonce = response.headers['dpop-nonce'];
          resolve({
            status: response.statusCode ?? 0,
            nonce: typeof nonce === 'string' ? nonce : undefined,
            body: parseObject(Buffer.concat(chunks).toString('utf8')),
          });
        });
      },
    );
    request.on('error', (cause) => reject(unreachable(cause)));
    request.end(body);
  });
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
