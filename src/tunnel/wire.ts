/**
 * Layout of the tunnel's datagrams, version 1. PROTOCOL.md §2 is normative; test/vectors/tunnel.json pins it.
 * All integers are big-endian; offsets and sizes are octets.
 */

/** High nibble of the first octet. */
export const TYPE = { data: 0x1, dataFull: 0x2, control: 0x3 } as const;

/** DATA and DATA-FULL: type·phase·lane (1) index (3) sequence (4) tag (8), then the inner packet. */
export const DATA = {
  first: 0,
  index: 1,
  sequence: 4,
  tag: 8,
  inner: 16,
  /** Bits 3–2 of the first octet: key number modulo 4. */
  phaseShift: 2,
  phaseMask: 0b0000_1100,
  /** Bit 1 of the first octet: 1 when the fast engine numbered the packet. */
  laneBit: 0b0000_0010,
  /** Bit 0 is zero. */
  reservedMask: 0b0000_0001,
} as const;

/** Octets behind the inner IP header that the tag of a DATA datagram covers. */
export const TAGGED_BEHIND_HEADER = 16;

/** CONTROL: type (1) index (3) boot (8) counter (8) tag (8) sealed body (72 + 16). Low nibble of type is zero. */
export const CONTROL = {
  first: 0,
  index: 1,
  boot: 4,
  counter: 12,
  tag: 20,
  sealed: 28,
  /** Plaintext body. */
  body: 72,
  aeadTag: 16,
  /** Every CONTROL datagram has this length: no answer can be longer than what it answers. */
  length: 116,
} as const;

/** The CONTROL body: one layout for every kind; fields that a kind does not use are zero. */
export const BODY = {
  kind: 0,
  oldPath: 1,
  code: 2,
  epoch: 4,
  echoBoot: 12,
  echoCounter: 20,
  generation: 28,
  keyNumber: 32,
  cookie: 36,
  observedPort: 52,
  observedAddress: 54,
  delayMs: 70,
} as const;

export const KIND = {
  bind: 1,
  challenge: 2,
  proof: 3,
  sync: 4,
  hold: 5,
  keepalive: 6,
  notice: 7,
} as const;
export type ControlKind = keyof typeof KIND;

/** What a BIND says of the path the device leaves. */
export const OLD_PATH = { unknown: 0, alive: 1, dead: 2 } as const;
export type OldPath = keyof typeof OLD_PATH;

/** New DATA keys before this many packets under one key. */
export const REKEY_AFTER_PACKETS = 2 ** 31;

/** Sequences that the replay window remembers. */
export const WINDOW_SIZE = 4096;

/** Default UDP port of the tunnel. */
export const TUNNEL_PORT = 4556;

/** Default and least inner MTU. */
export const INNER_MTU = 1280;

export type Direction = 'to-relay' | 'to-device';
