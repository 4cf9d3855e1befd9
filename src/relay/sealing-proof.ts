import { calculateJwkThumbprint, EmbeddedJWK, jwtVerify } from 'jose';
import { type KnownProof, recallProof, rememberProof } from '../auth/known-proofs.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Sealing, SealingKey } from '../protocol/relay-plane.ts';

/**
 * Checks that the device itself named the key that K_root is about to be sealed to: the DPoP proof of its hello
 * carries the key in the claim `seal`, signed by the key whose thumbprint the session is bound to. So a
 * signalling node cannot have K_root sealed to a key of its own. Throws ERR_MOORING_SEALING_REFUSED.
 */
export async function checkSealingProof(sealing: Sealing, thumbprint: string): Promise<SealingKey> {
  const { thumbprint: signer, seal } = recallProof(sealing.proof) ?? (await verified(sealing.proof));
  if (signer !== thumbprint) throw refuse('it is not signed by the key of the session');
  if (seal !== sealing.key.x) throw refuse('it names another sealing key');
  return sealing.key;
}

async function verified(proof: string): Promise<KnownProof> {
  let token: Awaited<ReturnType<typeof jwtVerify>>;
  try {
    token = await jwtVerify(proof, EmbeddedJWK, {
      typ: 'dpop+jwt',
      algorithms: ['ES256', 'ES384', 'EdDSA', 'Ed25519'],
      clockTolerance: Number.MAX_SAFE_INTEGER,
    });
  } catch (cause) {
    throw refuse('its signature does not verify', cause);
  }
  const { jwk } = token.protectedHeader;
  if (jwk === undefined) throw refuse('it names no key');
  const facts = { thumbprint: await calculateJwkThumbprint(jwk), seal: token.payload.seal };
  rememberProof(proof, facts);
  return facts;
}

function refuse(reason: string, cause?: unknown): MooringError {
  return new MooringError(
    'ERR_MOORING_SEALING_REFUSED',
    `sealing proof: ${reason}; send the proof of the device's hello`,
    { rsip: 304, cause },
  );
}
