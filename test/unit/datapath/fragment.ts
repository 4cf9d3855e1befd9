import { ip } from './packets.ts';

/** Cuts a packet's payload at the given offsets (multiples of 8) into fragments, by hand (RFC 791, RFC 8200 §4.5). */
export function fragment(
  source: string,
  destination: string,
  protocol: number,
  payload: Uint8Array,
  cuts: readonly number[],
  id = 0x4242,
): Uint8Array[] {
  return [0, ...cuts].map((start, i) => {
    const end = cuts[i] ?? payload.length;
    return piece(source, destination, protocol, payload.subarray(start, end), {
      start,
      more: end < payload.length,
      id,
    });
  });
}

/** One fragment: `data` from octet `start` of the payload on. */
export function piece(
  source: string,
  destination: string,
  protocol: number,
  data: Uint8Array,
  { start, more, id = 0x4242 }: { readonly start: number; readonly more: boolean; readonly id?: number },
): Uint8Array {
  if (!source.includes(':')) {
    return ip(source, destination, protocol, data, { id, moreFragments: more, offset: start / 8 });
  }
  const out = new Uint8Array(8 + data.length);
  const view = new DataView(out.buffer);
  out[0] = protocol;
  view.setUint16(2, start | (more ? 1 : 0));
  view.setUint32(4, id);
  out.set(data, 8);
  return ip(source, destination, 44, out);
}
