import { createPrivateKey, type KeyObject, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { SignJWT } from 'jose';
import { MooringError } from '../../src/protocol/errors.ts';
import type { LaptopConfig } from './config.ts';
import type { TokenGrant } from './token.ts';

/**
 * A device that is an OAuth client of its own: client_credentials (RFC 6749 §4.4) with private_key_jwt (RFC 7523
 * §2.2). Throws ERR_MOORING_CONFIG when the key file cannot be used.
 */
export function clientAssertion(settings: LaptopConfig['issuer'], privateKeyFile: string): TokenGrant {
  const signingKey = readSigningKey(privateKeyFile);
  return {
    remedy: 'check issuer.clientId, issuer.privateKeyFile and issuer.audience against what the issuer knows',
    async form() {
      const assertion = await new SignJWT({})
        .setProtectedHeader({ alg: signingKey.asymmetricKeyType === 'ed25519' ? 'Ed25519' : 'ES256' })
        .setIssuer(settings.clientId)
        .setSubject(settings.clientId)
        .setAudience(settings.issuer ?? new URL(settings.tokenEndpoint).origin)
        .setJti(randomUUID())
        .setIssuedAt()
        .setExpirationTime('55s')
        .sign(signingKey);
      return {
        grant_type: 'client_credentials',
        scope: settings.scope,
        resource: settings.audience,
        client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
        client_assertion: assertion,
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
