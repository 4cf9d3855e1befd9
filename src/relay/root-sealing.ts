import {
  createCipheriv,
  createHash,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  type KeyObject,
  randomBytes,
} from 'node:crypto';
import { MooringError } from '../protocol/errors.ts';
import type { SealingKey } from '../protocol/relay-plane.ts';
import { ROOT_OCTETS, SEALING } from '../tunnel/root-sealing.ts';

/**
 * The relay's half of root-sealing.ts in tunnel/, by OpenSSL and in one go: a grant waits for it, and what WebCrypto makes of
 * it are six jobs, each of which is handed to another thread and back.
 */

const KEY_OCTETS = 32;
const NONCE_OCTETS = 12;

const publicKey = (x: string): KeyObject =>
  createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x }, format: 'jwk' });

/** u = 9 (RFC 7748 §4.1): what a private key makes of it is its public key. */
const BASE_POINT = Buffer.concat([Uint8Array.of(9), new Uint8Array(KEY_OCTETS - 1)]).toString('base64url');
const basePoint = publicKey(BASE_POINT);

/** Concat KDF (RFC 7518 §4.6.2) for a direct agreement between nobody in particular: all of its input but the secret. */
const ROUND = Uint8Array.of(0, 0, 0, 1);
const OTHER_INFO = Buffer.concat([
  u32(SEALING.enc.length),
  Buffer.from(SEALING.enc),
  ...[u32(0), u32(0), u32(8 * KEY_OCTETS)],
]);

/**
 * Seals K_root (32 octets) to `sealTo` for the session `sessionId` (32 hexadecimal digits). Throws ERR_MOORING_BAD_SEALING_KEY
 * when that is no key to seal to.
 */
export function sealRoot(root: Uint8Array, { x }: SealingKey, sessionId: string): string {
  if (root.length !== ROOT_OCTETS) throw new RangeError(`K_root has ${root.length} octets; it must have 32`);
  const ephemeral = newPrivateKey();
  const secret = agreed(ephemeral, x);
  const epk = { kty: 'OKP', crv: 'X25519', x: public25519(ephemeral) };
  const header = Buffer.from(JSON.stringify({ ...SEALING, sid: sessionId, epk })).toString('base64url');
  const key = createHash('sha256').update(ROUND).update(secret).update(OTHER_INFO).digest();
  const nonce = randomBytes(NONCE_OCTETS);
  const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(Buffer.from(header, 'latin1'));
  const sealed = Buffer.concat([cipher.update(root), cipher.final()]);
  const parts = [nonce, sealed, cipher.getAuthTag()].map((octets) => octets.toString('base64url'));
  // Between header and nonce: the encrypted key, which a direct agreement has none of.
  return [header, '', ...parts].join('.');
}

/** Any 32 octets are one. Node takes it by a JWK ten times as fast as in DER, and does not look at `x`. */
function newPrivateKey(): KeyObject {
  const d = randomBytes(KEY_OCTETS).toString('base64url');
  return createPrivateKey({ key: { kty: 'OKP', crv: 'X25519', x: BASE_POINT, d }, format: 'jwk' });
}

function public25519(privateKey: KeyObject): string {
  return diffieHellman({ privateKey, publicKey: basePoint }).toString('base64url');
}

function agreed(privateKey: KeyObject, x: string): Buffer {
  try {
    return diffieHellman({ privateKey, publicKey: publicKey(x) });
  } catch (cause) {
    throw new MooringError(
      'ERR_MOORING_BAD_SEALING_KEY',
      `sealingKey.x: ${JSON.stringify(x)} cannot be sealed to; send an X25519 public key (RFC 8037)`,
      { rsip: 205, data: { field: 'sealingKey' }, cause },
    );
  }
}

function u32(value: number): Buffer {
  const octets = Buffer.alloc(4);
  octets.writeUInt32BE(value);
  return octets;
}
