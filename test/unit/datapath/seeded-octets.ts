/** xorshift32: the same octets for the same seed, whoever asks in the same order. */
export function seededOctets(seed: number): (octets: number) => Uint8Array {
  let state = seed || 1;
  return (octets) =>
    Uint8Array.from({ length: octets }, () => {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      return state & 0xff;
    });
}
