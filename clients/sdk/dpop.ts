import { base64url, calculateJwkThumbprint, exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose';

/** A device's proof-of-possession key (ES256). The private half never leaves the platform's key store. */
export interface DpopKey {
  readonly privateKey: CryptoKey;
  /** Public members only. */
  readonly publicJwk: JWK;
  /** RFC 7638 SHA-256 thumbprint, base64url: what access tokens and sessions are bound to. */
  readonly thumbprint: string;
}
type CryptoKey = Awaited<ReturnType<typeof generateKeyPair>>['privateKey'];

export interface ProofOf {
  /** Method of the request: `GET` for the signalling door, `POST` for a token endpoint. */
  readonly htm: 'GET' | 'POST';
  /** Its URL; query and fragment are left out of the proof. */
  readonly htu: string;
  readonly nonce?: string;
  /** The access token that goes with it: adds its hash as `ath`. */
  readonly accessToken?: string;
  /** `x` of the sealing key that goes with it: the owner relay seals K_root to no other. */
  readonly seal?: string;
}

/** A new key pair; `extractable` only where the caller has to store it by itself. */
export async function generateDpopKey(extractable = false): Promise<DpopKey> {
  const { privateKey, publicKey } = await generateKeyPair('ES256', { extractable });
  return dpopKey(privateKey, await exportJWK(publicKey));
}

/** Wraps an existing ES256 pair. `publicJwk` may hold private members; they are dropped. */
export async function dpopKey(privateKey: CryptoKey, publicJwk: JWK): Promise<DpopKey> {
  const { kty, crv, x, y } = publicJwk;
  const jwk = { kty, crv, x, y } as JWK;
  return { privateKey, publicJwk: jwk, thumbprint: await calculateJwkThumbprint(jwk) };
}

/** A DPoP proof (RFC 9449 §4.2) for one request, with a fresh `jti`. */
export async function dpopProof(key: DpopKey, of: ProofOf): Promise<string> {
  const target = new URL(of.htu);
  target.search = '';
  target.hash = '';
  const claims: Record<string, string> = { jti: crypto.randomUUID(), htm: of.htm, htu: target.href };
  if (of.nonce !== undefined) claims.nonce = of.nonce;
  if (of.seal !== undefined) claims.seal = of.seal;
  if (of.accessToken !== undefined) {
    const hash = await crypto.subtle.digest('SHA-256', new TextEncoder().encode(of.accessToken));
    claims.ath = base64url.encode(new Uint8Array(hash));
  }
  return new SignJWT(claims)
    .setProtectedHeader({ typ: 'dpop+jwt', alg: 'ES256', jwk: key.publicJwk })
    .setIssuedAt()
    .sign(key.privateKey);
}
