import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose';
import { MooringError } from '../protocol/errors.ts';
import type { Sealing, SealingKey } from '../protocol/relay-plane.ts';

/**
 * Checks that the device itself named the key that K_root is about to be sealed to: the DPoP proof of its hello
 * carries the key in the claim `seal`, signed by the key whose thumbprint the session is bound to. So a
 * signalling node cannot have K_root sealed to a key of its own. Throws ERR_MOORING_SEALING_REFUSED.
 */
export async function checkSealingProof(sealing: Sealing, thumbprint: string): Promise<SealingKey> {
  const refuse = (reason: string, cause?: unknown) =>
    new MooringError(
      'ERR_MOORING_SEALING_REFUSED',
      `sealing proof: ${reason}; send the proof of the device's hello`,
      {
        rsip: 304,
        cause,
      },
    );
  let verified: Awaited<ReturnType<typeof jwtVerify>>;
  try {
    verified = await jwtVerify(sealing.proof, EmbeddedJWK, {
      typ: 'dpop+jwt',
      algorithms: ['ES256', 'ES384', 'EdDSA', 'Ed25519'],
      clockTolerance: Number.MAX_SAFE_INTEGER,
    });
  } catch (cause) {
    throw refuse('its signature does not verify', cause);
  }
  const { jwk } = verified.protectedHeader;
  if (jwk === undefined || (await calculateJwkThumbprint(jwk)) !== thumbprint) {
    throw refuse('it is not signed by the key of the session');
  }
  if (verified.payload.seal !== sealing.key.x) throw refuse('it names another sealing key');
  return sealing.key;
}
