import { createHash } from 'node:crypto';
import { type CryptoKey, calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

/** A device's key pair with the tokens and proofs that it can make. */
export interface DeviceIdentity {
  readonly clientId: string;
  readonly privateKey: CryptoKey;
  readonly publicJwk: JWK;
  readonly thumbprint: string;
}

export async function createIdentity(clientId: string): Promise<DeviceIdentity> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable: true });
  const publicJwk = await exportJWK(publicKey);
  return { clientId, privateKey, publicJwk, thumbprint: await calculateJwkThumbprint(publicJwk) };
}

/**
 * Fetches an access token: client_credentials, private_key_jwt, DPoP with the issuer's nonce; bound to the key of
 * `holder`.
 */
export async function fetchToken(
  identity: DeviceIdentity,
  issuer: { readonly url: string; readonly tokenEndpoint: string },
  audience: string,
  holder: DeviceIdentity = identity,
): Promise<string> {
  let nonce: string | undefined;
  for (let attempt = 0; attempt < 2; attempt += 1) {
    const assertion = await new SignJWT({ jti: crypto.randomUUID() })
      .setProtectedHeader({ alg: 'ES256' })
      .setIssuer(identity.clientId)
      .setSubject(identity.clientId)
      .setAudience(issuer.url)
      .setIssuedAt()
      .setExpirationTime('60s')
      .sign(identity.privateKey);
    const response = await fetch(issuer.tokenEndpoint, {
      method: 'POST',
      headers: {
        dpop: await signProof(holder, {
          htm: 'POST',
          htu: issuer.tokenEndpoint,
          ...(nonce === undefined ? {} : { nonce }),
        }),
      },
      body: new URLSearchParams({
        grant_type: 'client_credentials',
        scope: 'lease',
        resource: audience,
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: assertion,
      }),
    });
    const body = (await response.json()) as { access_token?: string; error?: string };
    if (body.access_token !== undefined) return body.access_token;
    nonce = response.headers.get('dpop-nonce') ?? undefined;
    if (body.error !== 'use_dpop_nonce') throw new Error(`token refused: ${JSON.stringify(body)}`);
  }
  throw new Error('the issuer asked for a second nonce');
}

export interface ProofClaims {
  readonly htm?: string | undefined;
  readonly htu?: string | undefined;
  readonly nonce?: string | undefined;
  readonly ath?: string | undefined;
  readonly seal?: string | undefined;
  readonly jti?: string | undefined;
  readonly iat?: number | undefined;
}

/** Signs a DPoP proof (RFC 9449 §4.2); a claim given as `undefined` is left out. */
export async function signProof(
  identity: DeviceIdentity,
  claims: ProofClaims,
  header: Record<string, unknown> = {},
): Promise<string> {
  const payload = { jti: crypto.randomUUID(), iat: Math.floor(Date.now() / 1000), ...claims };
  return await new SignJWT(JSON.parse(JSON.stringify(payload)))
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: identity.publicJwk, ...header })
    .sign(identity.privateKey);
}

/** `ath` of a token (RFC 9449 §4.2). */
export function accessTokenHash(token: string): string {
  return createHash('sha256').update(token).digest('base64url');
}
