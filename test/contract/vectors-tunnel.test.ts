import { createCipheriv, createDecipheriv, hkdfSync } from 'node:crypto';
import { importJWK } from 'jose';
import { describe, expect, test } from 'vitest';
import { tunnelVectors } from '../../infra/build/vectors.ts';
import { socketAddress } from '../../src/protocol/address.ts';
import { classify, FULL } from '../../src/tunnel/classify.ts';
import { ControlChannel } from '../../src/tunnel/control.ts';
import { decodeBody, encodeBody } from '../../src/tunnel/control-body.ts';
import { DataReceiver, DataSender, dataRefusalName } from '../../src/tunnel/data.ts';
import {
  deriveAnchorKey,
  deriveControlAeadKey,
  deriveControlTagKey,
  deriveDataKey,
  deriveRoot,
} from '../../src/tunnel/keys.ts';
import type { ControlDraft } from '../../src/tunnel/message.ts';
import { openRoot } from '../../src/tunnel/root-sealing.ts';
import { sipKey } from '../../src/tunnel/siphash.ts';
import { ReplayWindow } from '../../src/tunnel/window.ts';
import type { ControlKind, Direction, OldPath } from '../../src/tunnel/wire.ts';
import vectors from '../vectors/tunnel.json' with { type: 'json' };
import { sipHash24 } from './siphash-by-the-paper.ts';

const octets = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, 'hex'));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const u64 = (value: bigint): Buffer => {
  const out = Buffer.alloc(8);
  out.writeBigUInt64BE(value);
  return out;
};
const directionOctet = (direction: string): Buffer => Buffer.of(direction === 'to-relay' ? 0 : 1);
const { keySchedule } = vectors;
const root = octets(keySchedule.root);

const aeadKeyOf = (direction: string): Buffer =>
  Buffer.from(keySchedule.controlAeadKeys.find((entry) => entry.direction === direction)!.key, 'hex');
const tagKeyOf = (direction: string): Uint8Array =>
  octets(keySchedule.controlTagKeys.find((entry) => entry.direction === direction)!.key);
const dataKeyOf = (direction: string, keyNumber: number): Uint8Array =>
  octets(
    keySchedule.dataKeys.find((entry) => entry.direction === direction && entry.keyNumber === keyNumber)!.key,
  );

test('the file is what the generator writes', async () => {
  const { readFile } = await import('node:fs/promises');
  const file = await readFile(new URL('../vectors/tunnel.json', import.meta.url), 'utf8');
  expect(file).toBe(tunnelVectors());
});

describe('the key schedule', () => {
  test('is what this implementation derives', () => {
    const anchorKey = deriveAnchorKey(octets(keySchedule.masterKey), keySchedule.anchor);
    expect(hex(anchorKey)).toBe(keySchedule.anchorKey);
    expect(hex(deriveRoot(anchorKey, keySchedule.session))).toBe(keySchedule.root);
    for (const { direction, key } of keySchedule.controlTagKeys) {
      expect(hex(deriveControlTagKey(root, direction as Direction))).toBe(key);
    }
    for (const { direction, boot, key } of keySchedule.controlAeadKeys) {
      expect(hex(deriveControlAeadKey(root, direction as Direction, BigInt(`0x${boot}`)))).toBe(key);
    }
    for (const entry of keySchedule.dataKeys) {
      const key = deriveDataKey(root, entry.direction as Direction, {
        epoch: BigInt(entry.epoch),
        relayBoot: BigInt(`0x${entry.relayBoot}`),
        deviceBoot: BigInt(`0x${entry.deviceBoot}`),
        keyNumber: entry.keyNumber,
      });
      expect(hex(key)).toBe(entry.key);
    }
  });

  test('is what the HKDF of another library derives from the written definition', () => {
    const hkdf = (ikm: string, salt: Buffer, info: Buffer[], length: number): string =>
      Buffer.from(hkdfSync('sha256', Buffer.from(ikm, 'hex'), salt, Buffer.concat(info), length)).toString(
        'hex',
      );
    const none = Buffer.alloc(0);
    const label = (text: string) => Buffer.from(text, 'ascii');
    const { session } = keySchedule;
    expect(
      hkdf(keySchedule.masterKey, none, [label('mooring v1 anchor'), Buffer.from(keySchedule.anchor)], 32),
    ).toBe(keySchedule.anchorKey);
    const rootInfo = [
      label('mooring v1 root'),
      Buffer.from(session.id, 'hex'),
      Buffer.from(session.thumbprint, 'base64url'),
    ];
    expect(hkdf(keySchedule.anchorKey, Buffer.from(session.salt, 'hex'), rootInfo, 32)).toBe(
      keySchedule.root,
    );
    for (const { direction, key } of keySchedule.controlTagKeys) {
      const info = [label('mooring v1 control tag'), directionOctet(direction)];
      expect(hkdf(keySchedule.root, none, info, 16)).toBe(key);
    }
    for (const { direction, boot, key } of keySchedule.controlAeadKeys) {
      const info = [label('mooring v1 control aead'), directionOctet(direction), Buffer.from(boot, 'hex')];
      expect(hkdf(keySchedule.root, none, info, 32)).toBe(key);
    }
    for (const entry of keySchedule.dataKeys) {
      const keyNumber = Buffer.alloc(4);
      keyNumber.writeUInt32BE(entry.keyNumber);
      const info = [
        label('mooring v1 data'),
        directionOctet(entry.direction),
        u64(BigInt(entry.epoch)),
        Buffer.from(entry.relayBoot, 'hex'),
        Buffer.from(entry.deviceBoot, 'hex'),
        keyNumber,
      ];
      expect(hkdf(keySchedule.root, none, info, 16)).toBe(entry.key);
    }
  });

  test('has no two keys alike', () => {
    const keys = [
      keySchedule.anchorKey,
      keySchedule.root,
      ...[keySchedule.controlTagKeys, keySchedule.controlAeadKeys, keySchedule.dataKeys]
        .flat()
        .map((entry) => entry.key),
    ].map((key) => key.slice(0, 32));
    expect(new Set(keys).size).toBe(keys.length);
  });

  test('reaches the device sealed to its key', async () => {
    const { privateKey, sealed, sessionId } = vectors.sealedRoot;
    const key = await importJWK(privateKey, 'ECDH-ES');
    if (key instanceof Uint8Array) throw new TypeError('an OKP key is not octets');
    expect(hex(await openRoot(sealed, key, sessionId))).toBe(vectors.sealedRoot.root);
    expect(vectors.sealedRoot.root).toBe(keySchedule.root);
  });
});

describe('an inner packet', () => {
  test.each(vectors.classification)('$name is $class', (entry) => {
    const packet = octets(entry.packet);
    const covered = classify(packet, 0, packet.length);
    expect(covered === FULL ? 'DATA-FULL' : 'DATA').toBe(entry.class);
    expect(covered === FULL ? packet.length : covered).toBe(entry.covered);
  });
});

describe('a DATA datagram', () => {
  test.each(vectors.data)('$name: is sealed and opened', (entry) => {
    const key = sipKey(dataKeyOf(entry.direction, entry.keyNumber));
    const inner = octets(entry.inner);
    const buffer = new Uint8Array(16 + inner.length);
    buffer.set(inner, 16);
    const sender = new DataSender({
      key,
      index: entry.index,
      keyNumber: entry.keyNumber,
      lane: entry.lane === 0 ? 0 : 1,
      nextSequence: entry.sequence,
    });
    expect(sender.seal(buffer, 16, inner.length)).toBe(0);
    expect(hex(buffer)).toBe(entry.datagram);
    const receiver = new DataReceiver();
    receiver.install(key, entry.keyNumber);
    expect(receiver.open(buffer, 0, buffer.length, 0)).toBe(16);
    expect(receiver.sequence).toBe(entry.sequence);
  });

  test.each(vectors.data)('$name: has the header and the tag that the definition says', (entry) => {
    const datagram = Buffer.from(entry.datagram, 'hex');
    const type = entry.class === 'DATA' ? 1 : 2;
    expect(datagram[0]).toBe(type * 16 + (entry.keyNumber % 4) * 4 + entry.lane * 2);
    expect(datagram.readUIntBE(1, 3)).toBe(entry.index);
    expect(datagram.readUInt32BE(4)).toBe(entry.sequence);
    const covered = Buffer.concat([
      datagram.subarray(0, 8),
      Buffer.from(entry.inner, 'hex').subarray(0, entry.covered),
    ]);
    expect(datagram.subarray(8, 16).toString('hex')).toBe(
      hex(sipHash24(dataKeyOf(entry.direction, entry.keyNumber), covered)),
    );
    expect(datagram.subarray(16).toString('hex')).toBe(entry.inner);
  });

  test.each(vectors.dataRefused)('$name is refused: $reason', ({ datagram, reason }) => {
    const { keyNumber } = vectors.data[0]!;
    const receiver = new DataReceiver();
    receiver.install(sipKey(dataKeyOf('to-relay', keyNumber)), keyNumber);
    const buffer = octets(datagram);
    expect(dataRefusalName(receiver.open(buffer, 0, buffer.length, 0))).toBe(reason);
  });
});

const channelOf = (sends: Direction, boot = 1n) =>
  new ControlChannel({ root, sends, index: vectors.control[0]!.index, boot });

describe('a CONTROL datagram', () => {
  test('is sealed octet for octet, counter by counter', () => {
    const ends = new Map<string, ControlChannel>();
    for (const entry of vectors.control) {
      const channel =
        ends.get(entry.direction) ?? channelOf(entry.direction as Direction, BigInt(`0x${entry.boot}`));
      ends.set(entry.direction, channel);
      expect(hex(encodeBody(draftOf(entry.message)))).toBe(entry.body);
      expect(hex(channel.seal(draftOf(entry.message)))).toBe(entry.datagram);
      expect(channel.lastCounter.toString()).toBe(entry.counter);
    }
  });

  test.each(vectors.control)('is opened: $direction $counter, $message.kind', (entry) => {
    const datagram = octets(entry.datagram);
    const receiver = channelOf(entry.direction === 'to-relay' ? 'to-device' : 'to-relay');
    expect(receiver.open(datagram, 0, datagram.length)).toEqual({
      ...draftOf(entry.message),
      boot: BigInt(`0x${entry.boot}`),
      counter: BigInt(entry.counter),
    });
    expect(decodeBody(octets(entry.body))).toEqual(draftOf(entry.message));
  });

  test.each(vectors.control)('has the seal and the tag of another library: $direction $counter', (entry) => {
    const datagram = Buffer.from(entry.datagram, 'hex');
    expect(datagram).toHaveLength(116);
    const nonce = Buffer.concat([Buffer.alloc(4), datagram.subarray(12, 20)]);
    const cipher = createCipheriv('aes-256-gcm', aeadKeyOf(entry.direction), nonce);
    cipher.setAAD(datagram.subarray(0, 20));
    const sealed = Buffer.concat([cipher.update(Buffer.from(entry.body, 'hex')), cipher.final()]);
    expect(datagram.subarray(28, 100)).toEqual(sealed);
    expect(datagram.subarray(100)).toEqual(cipher.getAuthTag());
    const covered = Buffer.concat([datagram.subarray(0, 20), datagram.subarray(28)]);
    expect(datagram.subarray(20, 28).toString('hex')).toBe(
      hex(sipHash24(tagKeyOf(entry.direction), covered)),
    );
  });

  test.each(vectors.control)('has the body that the definition says: $direction $counter', (entry) => {
    const { message } = entry;
    const datagram = Buffer.from(entry.datagram, 'hex');
    const decipher = createDecipheriv(
      'aes-256-gcm',
      aeadKeyOf(entry.direction),
      Buffer.concat([Buffer.alloc(4), datagram.subarray(12, 20)]),
    );
    decipher.setAAD(datagram.subarray(0, 20)).setAuthTag(datagram.subarray(100));
    const body = Buffer.concat([decipher.update(datagram.subarray(28, 100)), decipher.final()]);
    const kinds = ['', 'bind', 'challenge', 'proof', 'sync', 'hold', 'keepalive', 'notice'];
    expect(kinds[body[0]!]).toBe(message.kind);
    expect(['unknown', 'alive', 'dead'][body[1]!]).toBe(message.oldPath);
    expect(body.readUInt16BE(2)).toBe(message.code);
    expect(body.readBigUInt64BE(4).toString()).toBe(message.epoch);
    expect(body.toString('hex', 12, 20)).toBe(message.echoBoot);
    expect(body.readBigUInt64BE(20).toString()).toBe(message.echoCounter);
    expect(body.readUInt32BE(28)).toBe(message.generation);
    expect(body.readUInt32BE(32)).toBe(message.keyNumber);
    expect(body.toString('hex', 36, 52)).toBe(message.cookie);
    expect(body.readUInt16BE(52)).toBe(message.observed?.port ?? 0);
    expect(body.readUInt16BE(70)).toBe(message.delayMs);
  });

  test.each(vectors.controlRefused)('$name is refused: $reason', ({ datagram, reason }) => {
    const buffer = octets(datagram);
    expect(channelOf('to-device').open(buffer, 0, buffer.length)).toBe(reason);
  });
});

describe('a replay window', () => {
  test.each(vectors.windows)('after $received goes on from $highest', (entry) => {
    const window = new ReplayWindow();
    const numbers = (text: string) => text.split(' ').map(Number);
    for (const number of numbers(entry.received)) window.commit(number);
    expect(window.export()).toEqual({ highest: entry.highest, bitmap: entry.bitmap });
    for (const each of [window, ReplayWindow.import(entry)]) {
      for (const number of numbers(entry.refused)) expect(each.admits(number)).toBe(false);
      for (const number of numbers(entry.admitted)) expect(each.admits(number)).toBe(true);
    }
  });
});

function draftOf(message: (typeof vectors.control)[number]['message']): ControlDraft {
  return {
    kind: message.kind as ControlKind,
    epoch: BigInt(message.epoch),
    echoBoot: BigInt(`0x${message.echoBoot}`),
    echoCounter: BigInt(message.echoCounter),
    generation: message.generation,
    keyNumber: message.keyNumber,
    oldPath: message.oldPath as OldPath,
    code: message.code,
    cookie: octets(message.cookie),
    observed: message.observed ? socketAddress(message.observed.address, message.observed.port) : null,
    delayMs: message.delayMs,
  };
}
