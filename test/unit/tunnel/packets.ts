/** Inner packets for tunnel tests: only the octets that the tunnel looks at are meaningful. */

/** An IPv4 packet of `length` octets; `patch` is applied to its header. */
export function ipv4(protocol: number, length: number, patch: (packet: Uint8Array) => void = () => {}) {
  const packet = filled(length);
  const header = Uint8Array.of(0x45, 0, length >> 8, length, 0, 1, 0x40, 0, 64, protocol, 0, 0);
  packet.set(header.subarray(0, Math.min(header.length, length)));
  patch(packet);
  return packet;
}

/** An IPv6 packet of `length` octets in all. */
export function ipv6(nextHeader: number, length: number, patch: (packet: Uint8Array) => void = () => {}) {
  const packet = filled(length);
  const payload = length - 40;
  packet.set([0x60, 0, 0, 0, payload >> 8, payload, nextHeader, 64]);
  patch(packet);
  return packet;
}

/** The packet behind 16 octets of room for a tunnel header. */
export function withRoom(packet: Uint8Array): Uint8Array {
  const buffer = new Uint8Array(packet.length + 16);
  buffer.set(packet, 16);
  return buffer;
}

function filled(length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, at) => (at * 37 + 11) & 0xff);
}
