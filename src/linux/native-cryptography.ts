import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto';
import type { Cryptography } from '../tunnel/cryptography.ts';

const TAG_OCTETS = 16;
const ZERO_SALT = new Uint8Array(32);
const FIRST_BLOCK = Uint8Array.of(1);

/** HKDF-SHA256 and AES-256-GCM by OpenSSL. */
export const nativeCryptography: Cryptography = {
  hkdfSha256(key, salt, info, length) {
    if (length > 32) throw new RangeError(`HKDF is asked for ${length} octets; at most 32 are one block`);
    const pseudoRandom = createHmac('sha256', salt.length === 0 ? ZERO_SALT : salt)
      .update(key)
      .digest();
    const block = createHmac('sha256', pseudoRandom).update(info).update(FIRST_BLOCK).digest();
    return new Uint8Array(block.subarray(0, length));
  },

  sealAesGcm(key, nonce, header, plain) {
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(header);
    const sealed = new Uint8Array(plain.length + TAG_OCTETS);
    sealed.set(cipher.update(plain));
    cipher.final();
    sealed.set(cipher.getAuthTag(), plain.length);
    return sealed;
  },

  openAesGcm(key, nonce, header, sealed) {
    const end = sealed.length - TAG_OCTETS;
    const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(header);
    decipher.setAuthTag(sealed.subarray(end));
    const plain = new Uint8Array(decipher.update(sealed.subarray(0, end)));
    try {
      decipher.final();
    } catch {
      return null; // the only failure of well-sized input is a wrong authentication tag
    }
    return plain;
  },
};
