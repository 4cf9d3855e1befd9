import { describe, expect, test } from 'vitest';
import {
  DATA_REFUSED,
  DataReceiver,
  DataSender,
  dataRefusalName,
  KEY_EXHAUSTED,
  sequenceOf,
} from '../../../src/tunnel/data.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { REKEY_AFTER_PACKETS } from '../../../src/tunnel/wire.ts';
import { ipv4, ipv6, withRoom } from './packets.ts';

const OLD_KEY = sipKey(new Uint8Array(16).fill(1));
const NEW_KEY = sipKey(new Uint8Array(16).fill(2));
const INDEX = 0x0a0b0c;
const NOW = 1_000;

const senderOf = (key = OLD_KEY, keyNumber = 6, lane: 0 | 1 = 0) =>
  new DataSender({ key, keyNumber, lane, index: INDEX });

function receiverOf(key = OLD_KEY, keyNumber = 6): DataReceiver {
  const receiver = new DataReceiver();
  receiver.install(key, keyNumber);
  return receiver;
}

function sealed(sender: DataSender, packet = ipv4(50, 100)): Uint8Array {
  const buffer = withRoom(packet);
  expect(sender.seal(buffer, 16, packet.length)).toBe(0);
  return buffer;
}

const open = (receiver: DataReceiver, datagram: Uint8Array, nowMs = NOW): number =>
  receiver.open(datagram, 0, datagram.length, nowMs);

describe('a sealed packet', () => {
  test.each([
    ['ESP over IPv4', ipv4(50, 100), 0x18],
    ['AH over IPv6', ipv6(51, 1280), 0x18],
    ['UDP over IPv4', ipv4(17, 1280), 0x28],
    ['TCP over IPv6', ipv6(6, 60), 0x28],
  ])('%s crosses unchanged behind a header of 16 octets', (_, packet, first) => {
    const datagram = sealed(senderOf(), packet);
    expect([...datagram.subarray(0, 8)]).toEqual([first, 0x0a, 0x0b, 0x0c, 0, 0, 0, 1]);
    expect(datagram.subarray(16)).toEqual(packet);
    expect(open(receiverOf(), datagram)).toBe(16);
  });

  test('is opened where it lies in a larger buffer', () => {
    const buffer = new Uint8Array(200);
    buffer.set(ipv4(50, 100), 40);
    expect(senderOf().seal(buffer, 40, 100)).toBe(24);
    expect(receiverOf().open(buffer, 24, 116, NOW)).toBe(40);
  });

  test('is numbered from 1, and from where another process stopped', () => {
    const sender = senderOf();
    expect(sender.nextSequence).toBe(1);
    expect(sequenceOf(sealed(sender), 0)).toBe(1);
    expect(sequenceOf(sealed(sender), 0)).toBe(2);
    sender.nextSequence = 0xfffe;
    expect(sequenceOf(sealed(sender), 0)).toBe(0xfffe);
    expect(sender.nextSequence).toBe(0xffff);
  });

  test('is refused to the sender once its key is used up', () => {
    const sender = senderOf();
    sender.nextSequence = REKEY_AFTER_PACKETS;
    const last = sealed(sender);
    expect(sequenceOf(last, 0)).toBe(REKEY_AFTER_PACKETS);
    expect(open(receiverOf(), last)).toBe(16);
    const buffer = withRoom(ipv4(50, 100));
    expect(sender.seal(buffer, 16, 100)).toBe(KEY_EXHAUSTED);
    expect(buffer.subarray(0, 16)).toEqual(new Uint8Array(16));
  });
});

describe('a receiver refuses', () => {
  const cases: [string, (datagram: Uint8Array) => Uint8Array, number][] = [
    ['less than a header', (d) => d.subarray(0, 15), DATA_REFUSED.tooShort],
    ['a header without a packet', (d) => d.subarray(0, 16), DATA_REFUSED.badInner],
    ['the reserved bit', (d) => patched(d, 0, (first) => first | 1), DATA_REFUSED.badHeader],
    ['another type', (d) => patched(d, 0, (first) => (first & 0x0f) | 0x40), DATA_REFUSED.badHeader],
    ['another phase', (d) => patched(d, 0, (first) => first ^ 0b0100), DATA_REFUSED.unknownPhase],
    ['a truncated packet', (d) => d.subarray(0, -1), DATA_REFUSED.badInner],
    ['ESP as DATA-FULL', (d) => patched(d, 0, (first) => first ^ 0x30), DATA_REFUSED.classMismatch],
    ['another tag', (d) => patched(d, 8, (octet) => octet ^ 0x80), DATA_REFUSED.badTag],
    ['another sequence', (d) => patched(d, 7, () => 9), DATA_REFUSED.badTag],
    ['sequence 0', (d) => patched(d, 7, () => 0), DATA_REFUSED.replayed],
    ['another SPI', (d) => patched(d, 16 + 20, (octet) => octet ^ 1), DATA_REFUSED.badTag],
  ];
  test.each(cases)('%s', (_, change, refusal) => {
    const receiver = receiverOf();
    const datagram = sealed(senderOf());
    expect(open(receiver, change(Uint8Array.from(datagram)))).toBe(refusal);
    expect(receiver.windows(6)).toEqual(receiverOf().windows(6));
    expect(open(receiver, datagram)).toBe(16);
  });

  test('UDP that claims the weaker tag', () => {
    const datagram = sealed(senderOf(), ipv4(17, 100));
    expect(
      open(
        receiverOf(),
        patched(datagram, 0, (first) => first ^ 0x30),
      ),
    ).toBe(DATA_REFUSED.classMismatch);
  });

  test('the same datagram twice', () => {
    const receiver = receiverOf();
    const datagram = sealed(senderOf());
    expect(open(receiver, datagram)).toBe(16);
    expect(open(receiver, datagram)).toBe(DATA_REFUSED.replayed);
  });

  test('everything before its first key', () => {
    expect(open(new DataReceiver(), sealed(senderOf()))).toBe(DATA_REFUSED.unknownPhase);
  });

  test('with a name for every reason', () => {
    const names = Object.values(DATA_REFUSED).map(dataRefusalName);
    expect(names).toEqual([
      'too-short',
      'bad-header',
      'unknown-phase',
      'bad-inner',
      'class-mismatch',
      'replayed',
      'bad-tag',
    ]);
  });
});

describe('lanes', () => {
  test('number independently', () => {
    const receiver = receiverOf();
    expect(open(receiver, sealed(senderOf(OLD_KEY, 6, 0)))).toBe(16);
    expect(open(receiver, sealed(senderOf(OLD_KEY, 6, 1)))).toBe(16);
    expect(open(receiver, sealed(senderOf(OLD_KEY, 6, 1)))).toBe(DATA_REFUSED.replayed);
  });
});

describe('a new key', () => {
  test('leaves the previous one in use until its time is over', () => {
    const receiver = receiverOf();
    const late = [sealed(senderOf()), sealed(senderOf())];
    receiver.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    expect(open(receiver, late[0]!, NOW + 9_999)).toBe(16);
    expect(receiver.keyNumber).toBe(6);
    expect(open(receiver, late[1]!, NOW + 10_000)).toBe(DATA_REFUSED.unknownPhase);
    // Another process may receive under it again: it must not take what was taken here.
    expect(receiver.windows(6)?.[0]?.highest).toBe(1);
    expect(open(receiver, sealed(senderOf(NEW_KEY, 7)), NOW + 10_000)).toBe(16);
    expect(receiver.keyNumber).toBe(7);
  });

  test('leaves nothing to be learned from the older one, whoever received it', () => {
    const receiver = receiverOf();
    expect(receiver.noteUsed(6)).toBe(true);
    receiver.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    expect(receiver.noteUsed(6)).toBe(true);
    expect(receiver.noteUsed(7)).toBe(true);
    expect(receiver.noteUsed(6)).toBe(false);
    expect(receiver.noteUsed(10)).toBe(false);
  });

  test('has a window of its own', () => {
    const receiver = receiverOf();
    expect(open(receiver, sealed(senderOf()))).toBe(16);
    receiver.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    expect(open(receiver, sealed(senderOf(NEW_KEY, 7)))).toBe(16);
    expect(open(receiver, sealed(senderOf()))).toBe(DATA_REFUSED.replayed);
  });

  test('after another one leaves both former ones their own time', () => {
    const receiver = receiverOf();
    receiver.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    receiver.install(OLD_KEY, 8, { previousUntilMs: NOW + 15_000 });
    expect(open(receiver, sealed(senderOf()), NOW + 9_999)).toBe(16);
    expect(open(receiver, sealed(senderOf()), NOW + 10_000)).toBe(DATA_REFUSED.unknownPhase);
    expect(open(receiver, sealed(senderOf(NEW_KEY, 7)), NOW + 14_999)).toBe(16);
    expect(open(receiver, sealed(senderOf(OLD_KEY, 8)), NOW + 99_999)).toBe(16);
  });

  test('of the same phase ends the previous one at once', () => {
    const receiver = receiverOf();
    receiver.install(NEW_KEY, 10, { previousUntilMs: NOW + 10_000 });
    expect(open(receiver, sealed(senderOf()))).toBe(DATA_REFUSED.badTag);
  });

  test('installed again empties no window and keeps the previous key', () => {
    const receiver = receiverOf();
    receiver.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    const datagram = sealed(senderOf(NEW_KEY, 7));
    expect(open(receiver, datagram)).toBe(16);
    receiver.install(NEW_KEY, 7);
    expect(open(receiver, datagram)).toBe(DATA_REFUSED.replayed);
    expect(open(receiver, sealed(senderOf()))).toBe(16);
  });
});

describe('a packet is fresh', () => {
  test('only when sent after everything received before it', () => {
    const receiver = receiverOf();
    const sender = senderOf();
    const [first, second, third] = [sealed(sender), sealed(sender), sealed(sender)];
    open(receiver, first);
    expect(receiver.fresh).toBe(true);
    open(receiver, third);
    expect(receiver.fresh).toBe(true);
    open(receiver, second);
    expect([receiver.fresh, receiver.sequence]).toEqual([false, 2]);
  });

  test('not under a key that the sender has left', () => {
    const receiver = receiverOf();
    receiver.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    const old = senderOf();
    open(receiver, sealed(old));
    expect(receiver.fresh).toBe(true);
    open(receiver, sealed(senderOf(NEW_KEY, 7)));
    expect(receiver.fresh).toBe(true);
    open(receiver, sealed(old));
    expect(receiver.fresh).toBe(false);
  });
});

describe('a hand-over', () => {
  test('goes on with the windows of the former relay', () => {
    const former = receiverOf();
    const sender = senderOf();
    const received = [sealed(sender), sealed(sender)];
    const inFlight = sealed(sender);
    for (const datagram of received) open(former, datagram);

    const next = new DataReceiver();
    next.install(OLD_KEY, 6, { windows: former.windows(6)! });
    next.install(NEW_KEY, 7, { previousUntilMs: NOW + 10_000 });
    expect(open(next, received[0]!)).toBe(DATA_REFUSED.replayed);
    expect(open(next, received[1]!)).toBe(DATA_REFUSED.replayed);
    expect(open(next, inFlight)).toBe(16);
    expect(open(next, sealed(senderOf(NEW_KEY, 7)))).toBe(16);
  });
});

function patched(datagram: Uint8Array, at: number, change: (octet: number) => number): Uint8Array {
  const copy = Uint8Array.from(datagram);
  copy[at] = change(copy[at]!);
  return copy;
}
