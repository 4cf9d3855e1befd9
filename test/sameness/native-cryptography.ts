import { fileURLToPath } from 'node:url';

/** The same algorithms by the machine, where many thousand sessions are opened: module → file that stands for it. */
export const NATIVE_CRYPTOGRAPHY = {
  '@noble/ciphers/aes.js': fileURLToPath(new URL('native-aes.ts', import.meta.url)),
  '@noble/hashes/hkdf.js': fileURLToPath(new URL('native-hkdf.ts', import.meta.url)),
};
