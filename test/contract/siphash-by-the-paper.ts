/**
 * SipHash-2-4 as its paper writes it, on 64-bit integers: slow, and shares nothing with the implementation
 * under test.
 */
export function sipHash24(key: Uint8Array, message: Uint8Array): Uint8Array {
  const wide = (octets: Uint8Array, at: number): bigint =>
    octets.subarray(at, at + 8).reduceRight((sum, octet) => (sum << 8n) | BigInt(octet), 0n);
  const add = (a: bigint, b: bigint) => BigInt.asUintN(64, a + b);
  const rotate = (value: bigint, by: bigint) => BigInt.asUintN(64, value << by) | (value >> (64n - by));
  const [k0, k1] = [wide(key, 0), wide(key, 8)];
  let v0 = k0 ^ 0x736f6d6570736575n;
  let v1 = k1 ^ 0x646f72616e646f6dn;
  let v2 = k0 ^ 0x6c7967656e657261n;
  let v3 = k1 ^ 0x7465646279746573n;
  const rounds = (count: number) => {
    for (let round = 0; round < count; round += 1) {
      v0 = add(v0, v1);
      v2 = add(v2, v3);
      v1 = rotate(v1, 13n) ^ v0;
      v3 = rotate(v3, 16n) ^ v2;
      v0 = rotate(v0, 32n);
      v2 = add(v2, v1);
      v0 = add(v0, v3);
      v1 = rotate(v1, 17n) ^ v2;
      v3 = rotate(v3, 21n) ^ v0;
      v2 = rotate(v2, 32n);
    }
  };
  const padded = new Uint8Array(message.length - (message.length % 8) + 8);
  padded.set(message);
  padded[padded.length - 1] = message.length;
  for (let at = 0; at < padded.length; at += 8) {
    const word = wide(padded, at);
    v3 ^= word;
    rounds(2);
    v0 ^= word;
  }
  v2 ^= 0xffn;
  rounds(4);
  const tag = new Uint8Array(8);
  new DataView(tag.buffer).setBigUint64(0, v0 ^ v1 ^ v2 ^ v3, true);
  return tag;
}
