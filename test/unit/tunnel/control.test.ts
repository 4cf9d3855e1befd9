import { gcm } from '@noble/ciphers/aes.js';
import { describe, expect, test } from 'vitest';
import { socketAddress } from '../../../src/protocol/address.ts';
import { ControlChannel, peekIndex, peekType } from '../../../src/tunnel/control.ts';
import { decodeBody, encodeBody } from '../../../src/tunnel/control-body.ts';
import { deriveControlAeadKey, deriveControlTagKey } from '../../../src/tunnel/keys.ts';
import type { ControlDraft } from '../../../src/tunnel/message.ts';
import { sipKey, writeTag } from '../../../src/tunnel/siphash.ts';
import { BODY, TYPE } from '../../../src/tunnel/wire.ts';

const ROOT = new Uint8Array(32).fill(7);
const INDEX = 0x010203;
const COOKIE = Uint8Array.from({ length: 16 }, (_, at) => at + 1);
const device = (boot = 0xd1n) => new ControlChannel({ root: ROOT, sends: 'to-relay', index: INDEX, boot });
const relay = (boot = 0xe1n) => new ControlChannel({ root: ROOT, sends: 'to-device', index: INDEX, boot });

const openAll = (channel: ControlChannel, datagram: Uint8Array) => channel.open(datagram, 0, datagram.length);

const DRAFTS: [ControlDraft, 'device' | 'relay'][] = [
  [{ kind: 'bind', epoch: 3n, echoBoot: 9n, echoCounter: 4n, generation: 5, oldPath: 'dead' }, 'device'],
  [{ kind: 'hold', generation: 5 }, 'device'],
  [{ kind: 'keepalive', generation: 0xffff_ffff }, 'device'],
  [{ kind: 'proof', generation: 5, cookie: COOKIE }, 'device'],
  [
    {
      kind: 'challenge',
      epoch: 2n ** 64n - 1n,
      generation: 5,
      keyNumber: 7,
      cookie: COOKIE,
      observed: socketAddress('192.0.2.1', 4556),
    },
    'relay',
  ],
  [
    { kind: 'sync', generation: 5, keyNumber: 8, delayMs: 75, observed: socketAddress('2001:db8::1', 1) },
    'relay',
  ],
  [{ kind: 'notice', generation: 5, keyNumber: 8, code: 313 }, 'relay'],
];

describe('a CONTROL message', () => {
  test.each(DRAFTS)('crosses as 116 octets: $kind', (draft, from) => {
    const [sender, receiver] = from === 'device' ? [device(), relay()] : [relay(), device()];
    const datagram = sender.seal(draft);
    expect(datagram).toHaveLength(116);
    expect(peekType(datagram, 0, 116)).toBe(TYPE.control);
    expect(peekIndex(datagram, 0, 116)).toBe(INDEX);
    expect(openAll(receiver, datagram)).toEqual({
      epoch: 0n,
      echoBoot: 0n,
      echoCounter: 0n,
      generation: 0,
      keyNumber: 0,
      oldPath: 'unknown',
      code: 0,
      cookie: new Uint8Array(16),
      observed: null,
      delayMs: 0,
      ...draft,
      boot: sender.boot,
      counter: 1n,
    });
  });

  test('is counted from 1 and never numbered twice', () => {
    const sender = device();
    expect(sender.lastCounter).toBe(0n);
    const counters = [1, 2, 3].map(() => openAll(relay(), sender.seal({ kind: 'keepalive' })));
    expect(counters).toMatchObject([{ counter: 1n }, { counter: 2n }, { counter: 3n }]);
    expect(sender.lastCounter).toBe(3n);
  });

  test('is opened where it lies in a larger buffer', () => {
    const buffer = new Uint8Array(200);
    buffer.set(device().seal({ kind: 'hold', generation: 1 }), 50);
    expect(relay().open(buffer, 50, 116)).toMatchObject({ kind: 'hold' });
  });

  test('of many incarnations is opened with a bounded memory of them', () => {
    const receiver = relay();
    const datagrams = Array.from({ length: 20 }, (_, at) =>
      device(BigInt(at + 1)).seal({ kind: 'keepalive' }),
    );
    for (const datagram of [...datagrams, ...datagrams]) {
      expect(openAll(receiver, datagram)).toMatchObject({ kind: 'keepalive' });
    }
  });
});

describe('a channel refuses', () => {
  test('any length but 116', () => {
    const datagram = device().seal({ kind: 'keepalive' });
    expect(relay().open(datagram, 0, 115)).toBe('bad-length');
    expect(relay().open(datagram, 1, 116)).toBe('bad-length');
    expect(openAll(relay(), new Uint8Array(0))).toBe('bad-length');
  });

  test.each([
    ['type', 0, 'bad-type'],
    ['index', 3, 'wrong-index'],
    ['boot', 4, 'bad-tag'],
    ['counter', 19, 'bad-tag'],
    ['tag', 20, 'bad-tag'],
    ['body', 28, 'bad-tag'],
    ['seal', 115, 'bad-tag'],
  ])('a changed %s', (_, at, reason) => {
    const datagram = device().seal({ kind: 'keepalive' });
    datagram[at]! ^= 1;
    expect(openAll(relay(), datagram)).toBe(reason);
  });

  test('its own direction', () => {
    expect(openAll(device(), device().seal({ kind: 'keepalive' }))).toBe('bad-tag');
  });

  test('another session', () => {
    const other = new ControlChannel({
      root: new Uint8Array(32).fill(8),
      sends: 'to-relay',
      index: INDEX,
      boot: 1n,
    });
    expect(openAll(relay(), other.seal({ kind: 'keepalive' }))).toBe('bad-tag');
  });

  const body = encodeBody({ kind: 'keepalive' });
  test.each([
    ['boot 0', { boot: 0n }, 'bad-counter'],
    ['counter 0', { counter: 0n }, 'bad-counter'],
    ['a counter beyond 2^53 − 1', { counter: 2n ** 53n }, 'bad-counter'],
    ['a body under another key', { sealKey: new Uint8Array(32) }, 'bad-seal'],
    ['an unknown kind', { body: withOctet(body, BODY.kind, 8) }, 'bad-body'],
    ['kind 0', { body: withOctet(body, BODY.kind, 0) }, 'bad-body'],
    ['a kind of the other direction', { body: encodeBody({ kind: 'sync' }) }, 'bad-body'],
  ])('an authentic datagram with %s', (_, forged, reason) => {
    expect(openAll(relay(), forge(forged))).toBe(reason);
  });
});

describe('a body', () => {
  const keepalive = encodeBody({ kind: 'keepalive' });
  test.each([
    ['old path in a keepalive', BODY.oldPath, 1],
    ['code in a keepalive', BODY.code + 1, 1],
    ['key number in a keepalive', BODY.keyNumber, 1],
    ['cookie in a keepalive', BODY.cookie + 15, 1],
    ['port without an address', BODY.observedPort, 1],
    ['address in a keepalive', BODY.observedAddress + 15, 1],
    ['delay in a keepalive', BODY.delayMs, 1],
  ])('with a field its kind does not use is refused: %s', (_, at, octet) => {
    expect(decodeBody(withOctet(keepalive, at, octet))).toBeNull();
  });

  test('with an unknown old path is refused', () => {
    expect(decodeBody(withOctet(encodeBody({ kind: 'bind' }), BODY.oldPath, 3))).toBeNull();
  });

  test('of another length is refused', () => {
    expect(decodeBody(keepalive.subarray(0, 71))).toBeNull();
  });

  test.each([
    [{ kind: 'hold', cookie: COOKIE }, /leave it out of a hold/],
    [{ kind: 'hold', generation: -1 }, /generation: -1 .* 4294967295/],
    [{ kind: 'hold', epoch: 2n ** 64n }, /epoch: 18446744073709551616 .* 64 bits/],
    [{ kind: 'proof', cookie: new Uint8Array(15) }, /cookie: 15 .* 16 octets/],
  ] satisfies [ControlDraft, RegExp][])('that cannot be encoded is refused by name: %o', (draft, message) => {
    expect(() => encodeBody(draft)).toThrow(message);
  });

  test('is not sent in the wrong direction', () => {
    expect(() => device().seal({ kind: 'sync' })).toThrow(/send it to-device; this end sends to-relay/);
  });
});

test('a channel needs a boot', () => {
  expect(() => device(0n)).toThrow(/boot/);
});

function withOctet(octets: Uint8Array, at: number, value: number): Uint8Array {
  const copy = Uint8Array.from(octets);
  copy[at] = value;
  return copy;
}

/** An authentic datagram of a device, put together by hand. */
function forge(parts: { boot?: bigint; counter?: bigint; sealKey?: Uint8Array; body?: Uint8Array }) {
  const { boot = 0xd1n, counter = 1n, body = encodeBody({ kind: 'keepalive' }) } = parts;
  const datagram = new Uint8Array(116);
  const view = new DataView(datagram.buffer);
  view.setUint32(0, 0x30000000 | INDEX);
  view.setBigUint64(4, boot);
  view.setBigUint64(12, counter);
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter);
  const key = parts.sealKey ?? deriveControlAeadKey(ROOT, 'to-relay', boot);
  datagram.set(gcm(key, nonce, datagram.slice(0, 20)).encrypt(body), 28);
  const covered = Uint8Array.from([...datagram.subarray(0, 20), ...datagram.subarray(28)]);
  writeTag(sipKey(deriveControlTagKey(ROOT, 'to-relay')), covered, 0, covered, 8, 100, datagram, 20);
  return datagram;
}
