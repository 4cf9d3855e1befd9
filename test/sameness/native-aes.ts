import { createCipheriv, createDecipheriv } from 'node:crypto';

/** AES-GCM of the machine in place of the portable one, ten times as fast: stories are many. */
export function gcm(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array) {
  return {
    encrypt(plain: Uint8Array): Uint8Array {
      const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(aad);
      return new Uint8Array(Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]));
    },
    decrypt(sealed: Uint8Array): Uint8Array {
      const end = sealed.length - 16;
      const decipher = createDecipheriv('aes-256-gcm', key, nonce).setAAD(aad);
      decipher.setAuthTag(sealed.subarray(end));
      return new Uint8Array(Buffer.concat([decipher.update(sealed.subarray(0, end)), decipher.final()]));
    },
  };
}
