import { gcm } from '@noble/ciphers/aes.js';
import { hkdf } from '@noble/hashes/hkdf.js';
import { sha256 } from '@noble/hashes/sha2.js';

/** The two constructions that the tunnel is made of beside SipHash: HKDF-SHA256 (RFC 5869) and AES-256-GCM. */
export interface Cryptography {
  /** At most 32 octets. An empty `salt` stands for 32 zero octets. */
  hkdfSha256(key: Uint8Array, salt: Uint8Array, info: Uint8Array, length: number): Uint8Array;
  /** The ciphertext with the tag of 16 octets behind it; `key` has 32 octets, `nonce` 12. */
  sealAesGcm(key: Uint8Array, nonce: Uint8Array, header: Uint8Array, plain: Uint8Array): Uint8Array;
  /** What was sealed; null when it is not authentic. `sealed` has at least 16 octets. */
  openAesGcm(key: Uint8Array, nonce: Uint8Array, header: Uint8Array, sealed: Uint8Array): Uint8Array | null;
}

/** In TypeScript alone: runs in a browser too. */
export const portableCryptography: Cryptography = {
  hkdfSha256: (key, salt, info, length) => hkdf(sha256, key, salt, info, length),
  sealAesGcm: (key, nonce, header, plain) => gcm(key, nonce, header).encrypt(plain),
  openAesGcm(key, nonce, header, sealed) {
    try {
      return gcm(key, nonce, header).decrypt(sealed);
    } catch {
      return null; // the only failure of well-sized input is a wrong authentication tag
    }
  },
};

let inUse = portableCryptography;

/** What this thread computes with. */
export function cryptography(): Cryptography {
  return inUse;
}

/**
 * Puts the machine's own implementation in place of the portable one, for this thread: ten times as fast, which counts
 * where thousands of sessions are taken over at one moment.
 */
export function useCryptography(native: Cryptography): void {
  inUse = native;
}
