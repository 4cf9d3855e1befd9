import { sameOctets, u32 } from './packet.ts';

interface Entry<T> {
  readonly address: Uint8Array;
  value: T;
  next: Entry<T> | null;
}

/**
 * Values by IP address, looked up straight from a packet's octets: an IPv4 address is its own key; IPv6 addresses
 * are chained under 32 mixed bits. Only addresses that were put in lengthen a chain, never what arrives.
 */
export class AddressTable<T> {
  readonly #v4 = new Map<number, T>();
  readonly #v6 = new Map<number, Entry<T>>();

  /** The value of the address in `size` (4 or 16) octets of `buffer` at `at`. */
  get(buffer: Uint8Array, at: number, size: 4 | 16): T | undefined {
    if (size === 4) return this.#v4.get(u32(buffer, at));
    for (let entry = this.#v6.get(mix(buffer, at)) ?? null; entry !== null; entry = entry.next) {
      if (sameOctets(entry.address, 0, buffer, at, 16)) return entry.value;
    }
    return undefined;
  }

  set(address: Uint8Array, value: T): void {
    if (address.length === 4) {
      this.#v4.set(u32(address, 0), value);
      return;
    }
    const key = mix(address, 0);
    const head = this.#v6.get(key) ?? null;
    for (let entry = head; entry !== null; entry = entry.next) {
      if (sameOctets(entry.address, 0, address, 0, 16)) {
        entry.value = value;
        return;
      }
    }
    this.#v6.set(key, { address: Uint8Array.from(address), value, next: head });
  }

  delete(address: Uint8Array): void {
    if (address.length === 4) {
      this.#v4.delete(u32(address, 0));
      return;
    }
    const key = mix(address, 0);
    let before: Entry<T> | null = null;
    for (let entry = this.#v6.get(key) ?? null; entry !== null; before = entry, entry = entry.next) {
      if (!sameOctets(entry.address, 0, address, 0, 16)) continue;
      if (before !== null) before.next = entry.next;
      else if (entry.next !== null) this.#v6.set(key, entry.next);
      else this.#v6.delete(key);
      return;
    }
  }
}

function mix(buffer: Uint8Array, at: number): number {
  let hash = 0x811c9dc5;
  for (let word = 0; word < 16; word += 4) {
    hash = Math.imul(hash ^ u32(buffer, at + word), 0x01000193);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}
