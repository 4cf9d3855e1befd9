/** Keys, access tokens and DPoP proofs of a crowd of devices, made faster than the server checks them. */
import {
  createHash,
  createPrivateKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  randomUUID,
  sign,
} from 'node:crypto';

/** A device before it speaks: its key, and a token bound to that. */
export interface Identity {
  readonly id: string;
  readonly token: string;
  /** The answer to the server's nonce (RFC 9449). */
  proof(nonce: string, url: string): string;
}

export interface TokenIssuer {
  /** The document at its `jwksUri`. */
  readonly jwks: string;
  identity(id: string): Identity;
}

export const AUDIENCE = 'https://mooring.bench';
const TENANT = 'bench';
const TOKEN_LIFE_S = 7_200;

/** One for all devices of a run; each has a signature key of its own. */
const sealing = generateKeyPairSync('x25519').publicKey.export({ format: 'jwk' });
export const SEALING_KEY = { kty: 'OKP', crv: 'X25519', x: sealing.x! } as const;

export function createIssuer(issuer: string): TokenIssuer {
  const own = newKey();
  const kid = 'bench';
  const keys = [{ ...own.jwk, kid, alg: 'ES256', use: 'sig' }];
  return {
    jwks: JSON.stringify({ keys }),
    identity(id) {
      const { jwk, privateKey } = newKey();
      const jkt = sha256(JSON.stringify(jwk));
      const iat = nowS();
      const token = signed({ alg: 'ES256', typ: 'at+jwt', kid }, own.privateKey, {
        ...{ iss: issuer, aud: AUDIENCE, sub: id, client_id: id, tenant: TENANT, jti: randomUUID() },
        ...{ iat, exp: iat + TOKEN_LIFE_S, cnf: { jkt } },
      });
      const ath = sha256(token);
      return {
        id,
        token,
        proof: (nonce, url) =>
          signed({ alg: 'ES256', typ: 'dpop+jwt', jwk }, privateKey, {
            ...{ jti: randomUUID(), iat: nowS(), htm: 'GET', htu: url },
            ...{ nonce, ath, seal: SEALING_KEY.x },
          }),
      };
    },
  };
}

/** `jwk` is the public half, its members as RFC 7638 §3 wants them: the required ones in the order of their names. */
function newKey(): { readonly jwk: object; readonly privateKey: KeyObject } {
  // Encoded as it is made: to export a key object of a pair that was just made can deadlock in Node 20.
  const asJwk = { format: 'jwk' } as never;
  const encodings = { publicKeyEncoding: asJwk, privateKeyEncoding: asJwk };
  const made: unknown = generateKeyPairSync('ec', { namedCurve: 'P-256', ...encodings });
  const { privateKey: key } = made as { readonly privateKey: JsonWebKey };
  const { crv, kty, x, y } = key;
  return { jwk: { crv, kty, x, y }, privateKey: createPrivateKey({ key, format: 'jwk' }) };
}

function signed(header: object, key: KeyObject, claims: object): string {
  const text = [header, claims]
    .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    .join('.');
  const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' });
  return `${text}.${signature.toString('base64url')}`;
}

const sha256 = (text: string) => createHash('sha256').update(text).digest('base64url');
const nowS = () => Math.floor(Date.now() / 1000);
