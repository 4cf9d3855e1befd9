/** The least TURN client (RFC 8656): one allocation without authentication, one channel. */
import { randomBytes } from 'node:crypto';
import { parseAddress } from '../../../src/protocol/address.ts';
import type { DevicePort } from './tunnel-device.ts';

const MAGIC = 0x2112_a442;
const METHOD = { allocate: 0x0003, channelBind: 0x0009 } as const;
const SUCCESS = 0x0100;
const ATTRIBUTE = {
  channelNumber: 0x000c,
  lifetime: 0x000d,
  xorPeerAddress: 0x0012,
  xorRelayedAddress: 0x0016,
  requestedTransport: 0x0019,
} as const;
const HEADER = 20;
const UDP = 17;
const LIFETIME_S = 3_600;
export const CHANNEL = 0x4000;
/** Channel number and length in front of the payload; over UDP no padding is needed. */
export const CHANNEL_HEADER = 4;

function attribute(type: number, value: Uint8Array): Buffer {
  const out = Buffer.alloc(4 + ((value.length + 3) & ~3));
  out.writeUInt16BE(type, 0);
  out.writeUInt16BE(value.length, 2);
  out.set(value, 4);
  return out;
}

function request(method: number, attributes: readonly Buffer[]): Buffer {
  const body = Buffer.concat(attributes);
  const head = Buffer.alloc(HEADER);
  head.writeUInt16BE(method, 0);
  head.writeUInt16BE(body.length, 2);
  head.writeUInt32BE(MAGIC, 4);
  head.set(randomBytes(12), 8);
  return Buffer.concat([head, body]);
}

function xorAddress(address: string, port: number): Buffer {
  const value = Buffer.alloc(8);
  value[1] = 1;
  value.writeUInt16BE(port ^ (MAGIC >>> 16), 2);
  value.writeUInt32BE((Buffer.from(parseAddress(address)).readUInt32BE(0) ^ MAGIC) >>> 0, 4);
  return value;
}

function attributesOf(message: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = HEADER; at + 4 <= message.length; ) {
    const length = message.readUInt16BE(at + 2);
    found.set(message.readUInt16BE(at), message.subarray(at + 4, at + 4 + length));
    at += 4 + ((length + 3) & ~3);
  }
  return found;
}

async function exchange(port: DevicePort, method: number, attributes: readonly Buffer[]) {
  const message = request(method, attributes);
  for (let attempt = 0; attempt < 50; attempt += 1) {
    port.send(message);
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const octets of port.received()) {
      const answer = Buffer.from(octets);
      if (answer.length < HEADER || !answer.subarray(8, 20).equals(message.subarray(8, 20))) continue;
      const type = answer.readUInt16BE(0);
      if (type !== (method | SUCCESS))
        throw new Error(`TURN request ${method}: answer 0x${type.toString(16)}`);
      return attributesOf(answer);
    }
  }
  throw new Error(`TURN request ${method}: no answer`);
}

/** Allocates and binds CHANNEL to the peer; resolves with the relayed port. */
export async function allocate(port: DevicePort, peer: { address: string; port: number }): Promise<number> {
  const lifetime = Buffer.alloc(4);
  lifetime.writeUInt32BE(LIFETIME_S);
  const granted = await exchange(port, METHOD.allocate, [
    attribute(ATTRIBUTE.requestedTransport, Uint8Array.of(UDP, 0, 0, 0)),
    attribute(ATTRIBUTE.lifetime, lifetime),
  ]);
  await bindChannel(port, peer);
  return granted.get(ATTRIBUTE.xorRelayedAddress)!.readUInt16BE(2) ^ (MAGIC >>> 16);
}

/** Binds CHANNEL to the peer, anew for the ten minutes that a binding lasts; the peer's permission, of five, with it. */
export async function bindChannel(port: DevicePort, peer: { address: string; port: number }): Promise<void> {
  await exchange(port, METHOD.channelBind, [
    attribute(ATTRIBUTE.channelNumber, Uint8Array.of(CHANNEL >> 8, CHANNEL & 0xff, 0, 0)),
    attribute(ATTRIBUTE.xorPeerAddress, xorAddress(peer.address, peer.port)),
  ]);
}
