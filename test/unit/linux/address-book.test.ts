import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createAddressBook, encodeSockaddr } from '../../../src/linux/address-book.ts';
import { formatAddress, socketAddress } from '../../../src/protocol/address.ts';

const viewOf = (octets: Uint8Array) => new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
const anyAddress = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
);
const anyPort = fc.integer({ min: 0, max: 65_535 });

describe('the address book', () => {
  it('reads back every transport address that it wrote, as canonical text', () => {
    const book = createAddressBook();
    fc.assert(
      fc.property(anyAddress, anyPort, (octets, port) => {
        const address = socketAddress(formatAddress(octets), port);
        expect(book.read(viewOf(book.sockaddr(address)), 0)).toEqual(address);
      }),
    );
  });

  it('gives the same object for the same address', () => {
    const book = createAddressBook();
    for (const text of ['192.0.2.1', '2001:db8::1']) {
      const name = encodeSockaddr(text, 4556);
      expect(book.read(viewOf(name), 0)).toBe(book.read(viewOf(name), 0));
      expect(book.read(viewOf(name), 0)).not.toBe(book.read(viewOf(encodeSockaddr(text, 4557)), 0));
    }
  });

  it('knows a v4-mapped IPv6 address as the IPv4 address that it is', () => {
    const book = createAddressBook();
    const mapped = new Uint8Array(28);
    mapped.set([10, 0, 0x11, 0xcc], 0);
    mapped.set([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1], 8);
    expect(book.read(viewOf(mapped), 0)).toEqual(socketAddress('192.0.2.1', 0x11cc));
    expect(book.read(viewOf(mapped), 0)).toBe(book.read(viewOf(encodeSockaddr('192.0.2.1', 0x11cc)), 0));
  });

  it('does not confuse addresses that share a key, nor grow in a flood, nor forget who is in use', () => {
    const book = createAddressBook(100);
    const regular = encodeSockaddr('198.51.100.7', 4556);
    const first = book.read(viewOf(regular), 0);
    for (let i = 0; i < 5000; i += 1) {
      const spoofed = new Uint8Array(16);
      spoofed.set([0, i >> 8, i & 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
      expect(book.readAddress(viewOf(spoofed), 0, 6, 7).address).toBe(formatAddress(spoofed));
      if (i % 50 === 0) expect(book.read(viewOf(regular), 0)).toBe(first);
    }
    for (let i = 0; i < 300; i += 1) book.readAddress(viewOf(Uint8Array.of(10, 0, i >> 8, i & 255)), 0, 4, 1);
    // Out of use for two generations: a new object, equal in every field.
    expect(book.read(viewOf(regular), 0)).not.toBe(first);
    expect(book.read(viewOf(regular), 0)).toEqual(first);
  });
});
