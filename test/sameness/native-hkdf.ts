import { hkdfSync } from 'node:crypto';

const derived = new Map<string, Uint8Array>();

/** HKDF-SHA256 of the machine in place of the portable one, once for the few keys that all stories have. */
export function hkdf(
  _sha256: unknown,
  key: Uint8Array,
  salt: Uint8Array,
  info: Uint8Array,
  length: number,
): Uint8Array {
  const name = [key, salt, info, Uint8Array.of(length)]
    .map((part) => Buffer.from(part).toString('latin1'))
    .join('|');
  let octets = derived.get(name);
  if (octets === undefined) {
    octets = new Uint8Array(hkdfSync('sha256', key, salt, info, length));
    derived.set(name, octets);
  }
  return octets.slice();
}
