import { type CryptoKey, compactDecrypt, exportJWK, generateKeyPair } from 'jose';
import { badInput } from '../protocol/errors.ts';
import type { SealingKey } from '../protocol/relay-plane.ts';

/**
 * K_root on its way from a relay to a device: compact JWE (RFC 7516) by ECDH-ES to the X25519 key (RFC 8037)
 * of the device's hello, with AES-256-GCM. Signalling nodes carry it and cannot read it. This is the device's half; relays seal
 * (relay/root-sealing.ts).
 */

/** What every such JWE says in its header, beside the session as `sid`. */
export const SEALING = { alg: 'ECDH-ES', enc: 'A256GCM', typ: 'mooring-root+jwe' } as const;
export const ROOT_OCTETS = 32;

/** A device's key for one hello: the public half goes into the frame, the private half cannot be exported. */
export interface SealingKeyPair {
  readonly publicKey: SealingKey;
  readonly privateKey: CryptoKey;
}

export async function newSealingKeyPair(): Promise<SealingKeyPair> {
  const { publicKey, privateKey } = await generateKeyPair(SEALING.alg, { crv: 'X25519' });
  const { x } = await exportJWK(publicKey);
  return { publicKey: { kty: 'OKP', crv: 'X25519', x: x! }, privateKey };
}

/**
 * K_root from `sealed`, which must have been sealed for this session. Throws ERR_MOORING_BAD_INPUT when it is
 * not a JWE of the promised kind, for another key or another session.
 */
export async function openRoot(
  sealed: string,
  privateKey: CryptoKey,
  sessionId: string,
): Promise<Uint8Array> {
  let opened: Awaited<ReturnType<typeof compactDecrypt>>;
  try {
    opened = await compactDecrypt(sealed, privateKey, {
      keyManagementAlgorithms: [SEALING.alg],
      contentEncryptionAlgorithms: [SEALING.enc],
    });
  } catch {
    throw badInput('sealedRoot', sealed.slice(0, 24), 'attach again with the sealing key of this hello');
  }
  const { typ, sid } = opened.protectedHeader;
  if (typ !== SEALING.typ) throw badInput('sealedRoot.typ', typ, `expect ${SEALING.typ}`);
  if (sid !== sessionId) throw badInput('sealedRoot.sid', sid, `expect the session ${sessionId}`);
  if (opened.plaintext.length !== ROOT_OCTETS) {
    throw badInput('sealedRoot', opened.plaintext.length, 'expect 32 octets of key');
  }
  return opened.plaintext;
}
