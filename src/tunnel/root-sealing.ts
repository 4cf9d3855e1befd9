import { CompactEncrypt, type CryptoKey, compactDecrypt, exportJWK, generateKeyPair, importJWK } from 'jose';
import { badInput, MooringError } from '../protocol/errors.ts';
import type { SealingKey } from '../protocol/relay-plane.ts';

/**
 * K_root on its way from a relay to a device: compact JWE (RFC 7516) by ECDH-ES to the X25519 key (RFC 8037)
 * of the device's hello, with AES-256-GCM. Signalling nodes carry it and cannot read it.
 */

const ALGORITHM = 'ECDH-ES';
const ENCRYPTION = 'A256GCM';
const TYPE = 'mooring-root+jwe';
const ROOT_LENGTH = 32;

/** A device's key for one hello: the public half goes into the frame, the private half cannot be exported. */
export interface SealingKeyPair {
  readonly publicKey: SealingKey;
  readonly privateKey: CryptoKey;
}

export async function newSealingKeyPair(): Promise<SealingKeyPair> {
  const { publicKey, privateKey } = await generateKeyPair(ALGORITHM, { crv: 'X25519' });
  const { x } = await exportJWK(publicKey);
  return { publicKey: { kty: 'OKP', crv: 'X25519', x: x! }, privateKey };
}

/** Seals K_root (32 octets) to `sealTo` for the session `sessionId` (32 hexadecimal digits). */
export async function sealRoot(root: Uint8Array, sealTo: SealingKey, sessionId: string): Promise<string> {
  if (root.length !== ROOT_LENGTH) throw new RangeError(`K_root has ${root.length} octets; it must have 32`);
  let recipient: Awaited<ReturnType<typeof importJWK>>;
  try {
    recipient = await importJWK({ ...sealTo }, ALGORITHM);
    return await new CompactEncrypt(root)
      .setProtectedHeader({ alg: ALGORITHM, enc: ENCRYPTION, typ: TYPE, sid: sessionId })
      .encrypt(recipient);
  } catch (cause) {
    throw new MooringError(
      'ERR_MOORING_BAD_SEALING_KEY',
      `sealingKey.x: ${JSON.stringify(sealTo.x)} cannot be sealed to; send an X25519 public key (RFC 8037)`,
      { rsip: 205, data: { field: 'sealingKey' }, cause },
    );
  }
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
      keyManagementAlgorithms: [ALGORITHM],
      contentEncryptionAlgorithms: [ENCRYPTION],
    });
  } catch {
    throw badInput('sealedRoot', sealed.slice(0, 24), 'attach again with the sealing key of this hello');
  }
  const { typ, sid } = opened.protectedHeader;
  if (typ !== TYPE) throw badInput('sealedRoot.typ', typ, `expect ${TYPE}`);
  if (sid !== sessionId) throw badInput('sealedRoot.sid', sid, `expect the session ${sessionId}`);
  if (opened.plaintext.length !== ROOT_LENGTH) {
    throw badInput('sealedRoot', opened.plaintext.length, 'expect 32 octets of key');
  }
  return opened.plaintext;
}
