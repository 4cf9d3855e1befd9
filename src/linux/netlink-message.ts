import { allocate } from './libc.ts';

/*
 * Netlink messages (netlink(7), rtnetlink(7)), host byte order, everything padded to 4 octets:
 *
 *   nlmsghdr (16): length 0 · type 4 · flags 6 · sequence 8 · port id 12
 *   rtattr    (4): length 0 (with this header) · type 2
 */
export const NLMSG_HEADER_BYTES = 16;
const ATTRIBUTE_HEADER_BYTES = 4;
/** The two top bits of an attribute's type say "nested" and "network byte order". */
const ATTRIBUTE_TYPE_MASK = 0x3fff;

export const NLM_F_REQUEST = 0x001;
export const NLM_F_ACK = 0x004;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_DUMP = 0x300;

/** One message as received: `body` is what follows the header. */
export interface NetlinkMessage {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Uint8Array;
}

/** Attributes by type; where one comes twice the last counts. */
export type Attributes = ReadonlyMap<number, Uint8Array>;

/** One message to send. `fixed` is the family's header struct; the kernel copies the sequence into its answer. */
export function encodeMessage(
  type: number,
  flags: number,
  sequence: number,
  fixed: Uint8Array,
  attributes: readonly Uint8Array[] = [],
): Uint8Array {
  const bodyAt = NLMSG_HEADER_BYTES + align(fixed.length);
  const length = attributes.reduce((sum, attribute) => sum + align(attribute.length), bodyAt);
  const message = allocate(length);
  const view = new DataView(message.buffer);
  view.setUint32(0, length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  message.set(fixed, NLMSG_HEADER_BYTES);
  let at = bodyAt;
  for (const attribute of attributes) {
    message.set(attribute, at);
    at += align(attribute.length);
  }
  return message;
}

/** An attribute with its header (not padded: `encodeMessage` does that). */
export function attribute(type: number, value: Uint8Array): Uint8Array {
  const memory = allocate(ATTRIBUTE_HEADER_BYTES + value.length);
  const view = new DataView(memory.buffer);
  view.setUint16(0, memory.length, true);
  view.setUint16(2, type, true);
  memory.set(value, ATTRIBUTE_HEADER_BYTES);
  return memory;
}

export function attributeU32(type: number, value: number): Uint8Array {
  const octets = allocate(4);
  new DataView(octets.buffer).setUint32(0, value, true);
  return attribute(type, octets);
}

/** Text with the final zero octet that the kernel expects. */
export function attributeText(type: number, text: string): Uint8Array {
  return attribute(type, Buffer.from(`${text}\0`, 'utf8'));
}

/** Attributes within an attribute. */
export function attributeNested(type: number, inner: readonly Uint8Array[]): Uint8Array {
  const memory = allocate(inner.reduce((sum, one) => sum + align(one.length), 0));
  let at = 0;
  for (const one of inner) {
    memory.set(one, at);
    at += align(one.length);
  }
  return attribute(type, memory);
}

/** The messages of one datagram. What is cut off or claims an impossible length ends the list. */
export function decodeMessages(datagram: Uint8Array): NetlinkMessage[] {
  const view = viewOf(datagram);
  const messages: NetlinkMessage[] = [];
  let at = 0;
  while (at + NLMSG_HEADER_BYTES <= datagram.length) {
    const length = view.getUint32(at, true);
    if (length < NLMSG_HEADER_BYTES || at + length > datagram.length) break;
    messages.push({
      type: view.getUint16(at + 4, true),
      flags: view.getUint16(at + 6, true),
      sequence: view.getUint32(at + 8, true),
      body: datagram.subarray(at + NLMSG_HEADER_BYTES, at + length),
    });
    at += align(length);
  }
  return messages;
}

/** The attributes behind the first `from` octets of a body, by the same rule. */
export function decodeAttributes(body: Uint8Array, from: number): Attributes {
  const view = viewOf(body);
  const attributes = new Map<number, Uint8Array>();
  let at = align(from);
  while (at + ATTRIBUTE_HEADER_BYTES <= body.length) {
    const length = view.getUint16(at, true);
    if (length < ATTRIBUTE_HEADER_BYTES || at + length > body.length) break;
    const type = view.getUint16(at + 2, true) & ATTRIBUTE_TYPE_MASK;
    attributes.set(type, body.subarray(at + ATTRIBUTE_HEADER_BYTES, at + length));
    at += align(length);
  }
  return attributes;
}

/** The number in an attribute of 4 octets or more; undefined when absent or short. */
export function readU32(attributes: Attributes, type: number): number | undefined {
  const value = attributes.get(type);
  return value === undefined || value.length < 4 ? undefined : viewOf(value).getUint32(0, true);
}

export function readU8(attributes: Attributes, type: number): number | undefined {
  return attributes.get(type)?.[0];
}

/** Text up to its zero octet. */
export function readText(attributes: Attributes, type: number): string | undefined {
  const value = attributes.get(type);
  if (value === undefined) return undefined;
  const end = value.indexOf(0);
  return Buffer.from(end < 0 ? value : value.subarray(0, end)).toString('utf8');
}

export function viewOf(octets: Uint8Array): DataView {
  return new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
}

function align(length: number): number {
  return (length + 3) & ~3;
}
