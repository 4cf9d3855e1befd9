import { hkdfSync } from 'node:crypto';

/** HKDF-SHA256 of the machine in place of the portable one: see native-aes.ts. */
export function hkdf(
  _sha256: unknown,
  key: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array {
  return new Uint8Array(hkdfSync('sha256', key, salt, info, length));
}
