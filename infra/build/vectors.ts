import { fileURLToPath } from 'node:url';
import { gcm } from '@noble/ciphers/aes.js';
import { socketAddress } from '../../src/protocol/address.ts';
import { ControlChannel } from '../../src/tunnel/control.ts';
import { encodeBody } from '../../src/tunnel/control-body.ts';
import { DataSender, type Lane } from '../../src/tunnel/data.ts';
import {
  deriveAnchorKey,
  deriveControlAeadKey,
  deriveControlTagKey,
  deriveDataKey,
  deriveRoot,
} from '../../src/tunnel/keys.ts';
import type { ControlDraft } from '../../src/tunnel/message.ts';
import { type SipKey, sipKey, writeTag } from '../../src/tunnel/siphash.ts';
import { ReplayWindow } from '../../src/tunnel/window.ts';
import { BODY, CONTROL, type Direction, WINDOW_SIZE } from '../../src/tunnel/wire.ts';
import { writeOrCheck } from './generated-file.ts';

/**
 * Writes test/vectors/tunnel.json, the octets that any implementation of the tunnel must produce and accept.
 * What is refused, and every class, is stated here by hand, not computed. `--check` fails when the file differs.
 */

const FILE = fileURLToPath(new URL('../../test/vectors/tunnel.json', import.meta.url));
const DIRECTIONS: readonly Direction[] = ['to-relay', 'to-device'];

const hex = (octets: Uint8Array): string => Buffer.from(octets).toString('hex');
const counting = (from: number, length: number) => Uint8Array.from({ length }, (_, at) => from + at);
const boot = (value: bigint): string => value.toString(16).padStart(16, '0');

const MASTER_KEY = counting(0x00, 32);
const ANCHOR = 'a-1';
const SESSION = {
  id: hex(counting(0x10, 16)),
  salt: hex(counting(0x30, 16)),
  thumbprint: Buffer.from(counting(0x40, 32)).toString('base64url'),
};
const INDEX = 0x0a0b0c;
const RELAY_BOOT = 0xe0e1e2e3e4e5e6e7n;
const DEVICE_BOOT = 0x00d1d2d3d4d5d6d7n;
const EPOCH = 258n;
const KEY_NUMBER = 6;

/** A device's private sealing key and a K_root sealed to it once: sealing draws a new ephemeral key each time. */
const SEALED_ROOT = {
  privateKey: {
    kty: 'OKP',
    crv: 'X25519',
    x: '3q7wlrBkf7LUS8RCnoT8-NVYQu63MUr6RMs0AolsYhU',
    d: 'YAykoIr6GTXCpis752IIXsaaM5QsUj3MPJeVi13rcEE',
  },
  sealed:
    'eyJhbGciOiJFQ0RILUVTIiwiZW5jIjoiQTI1NkdDTSIsInR5cCI6Im1vb3Jpbmctcm9vdCtqd2UiLCJzaWQiOiIxMDExMTIxMzE0MTUx' +
    'NjE3MTgxOTFhMWIxYzFkMWUxZiIsImVwayI6eyJ4IjoiVUNObVpRemNVZVc5UWJpU0MzWl9VakI3cmp5VUJQQjc5REZaWG4xTGNHYyIs' +
    'ImNydiI6IlgyNTUxOSIsImt0eSI6Ik9LUCJ9fQ..97LwqkcK0NKPIn54.33jNSDovN_7bWkhWxOYK3_pGjFo9rNXHqB2NXi3WXdc.Ceu' +
    'iWgjMhnBbwTXOJ624Pg',
};

const anchorKey = deriveAnchorKey(MASTER_KEY, ANCHOR);
const root = deriveRoot(anchorKey, SESSION);
const dataKeyOctets = (direction: Direction, keyNumber = KEY_NUMBER) =>
  deriveDataKey(root, direction, { epoch: EPOCH, relayBoot: RELAY_BOOT, deviceBoot: DEVICE_BOOT, keyNumber });
const dataKey = (direction: Direction) => sipKey(dataKeyOctets(direction));

function keySchedule() {
  return {
    masterKey: hex(MASTER_KEY),
    anchor: ANCHOR,
    anchorKey: hex(anchorKey),
    session: SESSION,
    root: hex(root),
    controlTagKeys: DIRECTIONS.map((direction) => ({
      direction,
      key: hex(deriveControlTagKey(root, direction)),
    })),
    controlAeadKeys: DIRECTIONS.map((direction) => {
      const sender = direction === 'to-relay' ? DEVICE_BOOT : RELAY_BOOT;
      return { direction, boot: boot(sender), key: hex(deriveControlAeadKey(root, direction, sender)) };
    }),
    dataKeys: DIRECTIONS.flatMap((direction) =>
      [KEY_NUMBER, 0xffff_ffff].map((keyNumber) => ({
        direction,
        epoch: EPOCH.toString(),
        relayBoot: boot(RELAY_BOOT),
        deviceBoot: boot(DEVICE_BOOT),
        keyNumber,
        key: hex(dataKeyOctets(direction, keyNumber)),
      })),
    ),
  };
}

type Patch = Readonly<Record<number, number>>;

function ipv4(protocol: number, length: number, patch: Patch = {}): Uint8Array {
  const packet = counting(0x80, length);
  packet.set([0x45, 0, length >> 8, length, 0x12, 0x34, 0x40, 0, 64, protocol, 0xbe, 0xef]);
  packet.set([198, 51, 100, 7, 203, 0, 113, 9], 12);
  return patched(packet, patch);
}

function ipv6(nextHeader: number, length: number, patch: Patch = {}): Uint8Array {
  const packet = counting(0x80, length);
  packet.set([0x60, 0, 0, 0, (length - 40) >> 8, length - 40, nextHeader, 64]);
  return patched(packet, patch);
}

function patched(octets: Uint8Array, patch: Patch): Uint8Array {
  const copy = Uint8Array.from(octets);
  for (const [at, octet] of Object.entries(patch)) copy[Number(at)] = octet;
  return copy;
}

/** Class of inner packets; `covered` says how many inner octets the tag covers. */
function classification() {
  const data = (name: string, covered: number, packet: Uint8Array) => ({
    name,
    class: 'DATA',
    covered,
    packet: hex(packet),
  });
  const full = (name: string, packet: Uint8Array) => ({
    name,
    class: 'DATA-FULL',
    covered: packet.length,
    packet: hex(packet),
  });
  return [
    data('ESP over IPv4', 36, ipv4(50, 64)),
    data('AH over IPv4', 36, ipv4(51, 64)),
    data('ESP over IPv6', 56, ipv6(50, 80)),
    data('AH over IPv6', 56, ipv6(51, 80)),
    data('ESP over IPv4 with 16 octets behind the header', 36, ipv4(50, 36)),
    data('ESP over IPv6 with 16 octets behind the header', 56, ipv6(50, 56)),
    data('ESP over IPv4 without don’t-fragment', 36, ipv4(50, 64, { 6: 0 })),
    full('ESP over IPv4 with 15 octets behind the header', ipv4(50, 35)),
    full('ESP over IPv6 with 15 octets behind the header', ipv6(50, 55)),
    full('UDP over IPv4', ipv4(17, 64)),
    full('UDP over IPv4, port 4500', ipv4(17, 64, { 20: 0x11, 21: 0x94, 22: 0x11, 23: 0x94 })),
    full('TCP over IPv6', ipv6(6, 80)),
    full('ESP over IPv4 with options', ipv4(50, 64, { 0: 0x46 })),
    full('ESP over IPv4, first fragment', ipv4(50, 64, { 6: 0x20 })),
    full('ESP over IPv4, later fragment', ipv4(50, 64, { 6: 0, 7: 0x02 })),
    full('ESP over IPv6 behind a fragment header', ipv6(44, 80, { 40: 50 })),
    full('ESP over IPv6 behind destination options', ipv6(60, 80, { 40: 50 })),
    full('ESP over IPv4, total length one too small', ipv4(50, 64, { 3: 63 })),
    full('ESP over IPv4, total length one too large', ipv4(50, 64, { 3: 65 })),
    full('ESP over IPv6, payload length one too small', ipv6(50, 80, { 5: 39 })),
    full('version 5', ipv4(50, 64, { 0: 0x55 })),
    full('one octet', Uint8Array.of(0x45)),
    full('nothing', new Uint8Array(0)),
  ];
}

function seal(direction: Direction, packet: Uint8Array, sequence: number, lane: Lane): Uint8Array {
  const datagram = new Uint8Array(16 + packet.length);
  datagram.set(packet, 16);
  const sender = new DataSender({
    key: dataKey(direction),
    index: INDEX,
    keyNumber: KEY_NUMBER,
    lane,
    nextSequence: sequence,
  });
  sender.seal(datagram, 16, packet.length);
  return datagram;
}

function data() {
  const of = (
    name: string,
    direction: Direction,
    packet: Uint8Array,
    sequence: number,
    lane: Lane,
    covered: number,
    className: 'DATA' | 'DATA-FULL',
  ) => ({
    name,
    class: className,
    direction,
    index: INDEX,
    keyNumber: KEY_NUMBER,
    lane,
    sequence,
    covered,
    inner: hex(packet),
    datagram: hex(seal(direction, packet, sequence, lane)),
  });
  return [
    of('ESP over IPv4, up', 'to-relay', ipv4(50, 64), 1, 0, 36, 'DATA'),
    of('ESP over IPv4, down', 'to-device', ipv4(50, 64), 1, 0, 36, 'DATA'),
    of('AH over IPv6, fast lane', 'to-device', ipv6(51, 96), 0x01020304, 1, 56, 'DATA'),
    of('UDP over IPv4', 'to-relay', ipv4(17, 61), 2, 0, 61, 'DATA-FULL'),
    of('TCP over IPv6', 'to-device', ipv6(6, 60), 3, 0, 60, 'DATA-FULL'),
    of('an IPv4 header alone', 'to-relay', ipv4(17, 20), 4, 0, 20, 'DATA-FULL'),
    of('the last sequence of a key', 'to-relay', ipv4(50, 36), 2 ** 31, 0, 36, 'DATA'),
  ];
}

/** A datagram with a correct tag over as much of the packet as its sender chose. */
function tagged(key: SipKey, first: number, packet: Uint8Array, covered: number): Uint8Array {
  const datagram = new Uint8Array(16 + packet.length);
  datagram.set([first, INDEX >> 16, (INDEX >> 8) & 0xff, INDEX & 0xff, 0, 0, 0, 1]);
  datagram.set(packet, 16);
  writeTag(key, datagram, 0, datagram, 16, covered, datagram, 8);
  return datagram;
}

/** Datagrams that a relay in possession of the key refuses, by reason. */
function dataRefused() {
  const key = dataKey('to-relay');
  const good = seal('to-relay', ipv4(50, 64), 1, 0);
  const of = (name: string, reason: string, datagram: Uint8Array) => ({
    name,
    reason,
    datagram: hex(datagram),
  });
  return [
    of('nothing', 'too-short', new Uint8Array(0)),
    of('15 octets', 'too-short', good.subarray(0, 15)),
    of('a header alone', 'bad-inner', good.subarray(0, 16)),
    of('the reserved bit, tagged', 'bad-header', tagged(key, 0x19, ipv4(50, 64), 36)),
    of('type 4, tagged', 'bad-header', tagged(key, 0x48, ipv4(50, 64), 36)),
    of('phase of another key', 'unknown-phase', tagged(key, 0x1c, ipv4(50, 64), 36)),
    of(
      'an inner packet longer than the datagram, tagged',
      'bad-inner',
      tagged(key, 0x28, ipv4(17, 61, { 3: 62 }), 61),
    ),
    of(
      'an inner packet that is not IP, tagged',
      'bad-inner',
      tagged(key, 0x28, ipv4(17, 61, { 0: 0x75 }), 61),
    ),
    of('UDP with the short tag of DATA', 'class-mismatch', tagged(key, 0x18, ipv4(17, 64), 36)),
    of(
      'a fragment with the short tag of DATA',
      'class-mismatch',
      tagged(key, 0x18, ipv4(50, 64, { 6: 0x20 }), 36),
    ),
    of('ESP covered as a whole', 'class-mismatch', tagged(key, 0x28, ipv4(50, 64), 64)),
    of('sequence 0', 'replayed', patched(good, { 7: 0 })),
    of('another sequence', 'bad-tag', patched(good, { 7: 2 })),
    of('another index', 'bad-tag', patched(good, { 3: good[3]! ^ 1 })),
    of('another lane', 'bad-tag', patched(good, { 0: good[0]! ^ 2 })),
    of('another inner source', 'bad-tag', patched(good, { 28: good[28]! ^ 1 })),
    of('another SPI', 'bad-tag', patched(good, { 36: good[36]! ^ 1 })),
    of('another octet of a UDP payload', 'bad-tag', lastChanged(seal('to-relay', ipv4(17, 61), 1, 0))),
    of('the other direction', 'bad-tag', seal('to-device', ipv4(50, 64), 1, 0)),
  ];
}

function lastChanged(datagram: Uint8Array): Uint8Array {
  return patched(datagram, { [datagram.length - 1]: datagram.at(-1)! ^ 1 });
}

const COOKIE = counting(0xc0, 16);
const MESSAGES: readonly ControlDraft[] = [
  { kind: 'bind', generation: 1, oldPath: 'unknown' },
  { kind: 'bind', epoch: EPOCH, echoBoot: RELAY_BOOT, echoCounter: 3n, generation: 2, oldPath: 'alive' },
  { kind: 'bind', epoch: EPOCH, echoBoot: RELAY_BOOT, generation: 0xffff_ffff, oldPath: 'dead' },
  { kind: 'proof', epoch: EPOCH, echoBoot: RELAY_BOOT, echoCounter: 1n, generation: 2, cookie: COOKIE },
  { kind: 'hold', epoch: EPOCH, echoBoot: RELAY_BOOT, generation: 3 },
  { kind: 'keepalive', epoch: EPOCH, echoBoot: RELAY_BOOT, generation: 3 },
  {
    kind: 'challenge',
    epoch: EPOCH,
    echoBoot: DEVICE_BOOT,
    echoCounter: 2n,
    generation: 2,
    keyNumber: KEY_NUMBER,
    cookie: COOKIE,
    observed: socketAddress('192.0.2.33', 40_000),
  },
  {
    kind: 'sync',
    epoch: EPOCH,
    echoBoot: DEVICE_BOOT,
    echoCounter: 4n,
    generation: 2,
    keyNumber: KEY_NUMBER,
    observed: socketAddress('2001:db8::33', 40_000),
    delayMs: 75,
  },
  { kind: 'sync', epoch: EPOCH + 1n, echoBoot: DEVICE_BOOT, keyNumber: KEY_NUMBER + 1 },
  { kind: 'notice', epoch: EPOCH, echoBoot: DEVICE_BOOT, generation: 2, keyNumber: KEY_NUMBER, code: 313 },
];

/** All messages of one direction are one incarnation's: counters 1, 2, … in the order of the list. */
function control() {
  const ends = {
    'to-relay': new ControlChannel({ root, sends: 'to-relay', index: INDEX, boot: DEVICE_BOOT }),
    'to-device': new ControlChannel({ root, sends: 'to-device', index: INDEX, boot: RELAY_BOOT }),
  };
  return MESSAGES.map((draft) => {
    const direction: Direction = ['challenge', 'sync', 'notice'].includes(draft.kind)
      ? 'to-device'
      : 'to-relay';
    const channel = ends[direction];
    const datagram = channel.seal(draft);
    return {
      direction,
      index: INDEX,
      boot: boot(channel.boot),
      counter: channel.lastCounter.toString(),
      message: {
        kind: draft.kind,
        epoch: (draft.epoch ?? 0n).toString(),
        echoBoot: boot(draft.echoBoot ?? 0n),
        echoCounter: (draft.echoCounter ?? 0n).toString(),
        generation: draft.generation ?? 0,
        keyNumber: draft.keyNumber ?? 0,
        oldPath: draft.oldPath ?? 'unknown',
        code: draft.code ?? 0,
        cookie: hex(draft.cookie ?? new Uint8Array(16)),
        observed: draft.observed ? { address: draft.observed.address, port: draft.observed.port } : null,
        delayMs: draft.delayMs ?? 0,
      },
      body: hex(encodeBody(draft)),
      datagram: hex(datagram),
    };
  });
}

/** A datagram from a device put together from parts that a channel would not send. */
function forged(parts: {
  readonly first?: number;
  readonly boot?: bigint;
  readonly counter?: bigint;
  readonly body?: Uint8Array;
  readonly aeadKey?: Uint8Array;
}): Uint8Array {
  const { first = 0x30, counter = 1n, body = encodeBody({ kind: 'keepalive' }) } = parts;
  const sender = parts.boot ?? DEVICE_BOOT;
  const datagram = new Uint8Array(CONTROL.length);
  const view = new DataView(datagram.buffer);
  view.setUint32(0, first * 2 ** 24 + INDEX);
  view.setBigUint64(CONTROL.boot, sender);
  view.setBigUint64(CONTROL.counter, counter);
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter);
  const aeadKey = parts.aeadKey ?? deriveControlAeadKey(root, 'to-relay', sender);
  const header = datagram.slice(0, CONTROL.tag);
  const sealed = gcm(aeadKey, nonce, header).encrypt(body);
  datagram.set(sealed, CONTROL.sealed);
  const covered = Uint8Array.from([...header, ...sealed]);
  const tagKey = sipKey(deriveControlTagKey(root, 'to-relay'));
  writeTag(tagKey, covered, 0, covered, 8, covered.length - 8, datagram, CONTROL.tag);
  return datagram;
}

/** Datagrams that a relay in possession of K_root refuses, by reason. */
function controlRefused() {
  const good = forged({});
  const keepalive = encodeBody({ kind: 'keepalive', generation: 1 });
  const of = (name: string, reason: string, datagram: Uint8Array) => ({
    name,
    reason,
    datagram: hex(datagram),
  });
  const body = (name: string, octets: Uint8Array) => of(name, 'bad-body', forged({ body: octets }));
  return [
    of('115 octets', 'bad-length', good.subarray(0, 115)),
    of('117 octets', 'bad-length', Uint8Array.from([...good, 0])),
    of('a low nibble in the type, tagged', 'bad-type', forged({ first: 0x31 })),
    of('another index', 'wrong-index', patched(good, { 3: good[3]! ^ 1 })),
    of('another boot', 'bad-tag', patched(good, { 11: good[11]! ^ 1 })),
    of('another counter', 'bad-tag', patched(good, { 19: good[19]! ^ 2 })),
    of('another tag', 'bad-tag', patched(good, { 27: good[27]! ^ 1 })),
    of('another sealed body', 'bad-tag', patched(good, { 28: good[28]! ^ 1 })),
    of('boot 0, tagged', 'bad-counter', forged({ boot: 0n })),
    of('counter 0, tagged', 'bad-counter', forged({ counter: 0n })),
    of('counter 2^53, tagged', 'bad-counter', forged({ counter: 2n ** 53n })),
    of('sealed with another key, tagged', 'bad-seal', forged({ aeadKey: new Uint8Array(32) })),
    body('kind 0', patched(keepalive, { [BODY.kind]: 0 })),
    body('kind 8', patched(keepalive, { [BODY.kind]: 8 })),
    body('old path 3', patched(encodeBody({ kind: 'bind' }), { [BODY.oldPath]: 3 })),
    body('a kind of the other direction', encodeBody({ kind: 'sync' })),
    body('old path in a keepalive', patched(keepalive, { [BODY.oldPath]: 1 })),
    body('code in a keepalive', patched(keepalive, { [BODY.code + 1]: 1 })),
    body('key number in a keepalive', patched(keepalive, { [BODY.keyNumber + 3]: 1 })),
    body('cookie in a bind', patched(encodeBody({ kind: 'bind' }), { [BODY.cookie]: 1 })),
    body('observed port in a keepalive', patched(keepalive, { [BODY.observedPort + 1]: 1 })),
    body('observed address in a keepalive', patched(keepalive, { [BODY.observedAddress]: 0x20 })),
    body('delay in a keepalive', patched(keepalive, { [BODY.delayMs + 1]: 1 })),
  ];
}

/** Windows at rest after the numbers were received in this order; `refused` are not admitted afterwards. */
function windows() {
  const cases = [
    { received: '1', refused: '0 1', admitted: '2' },
    { received: '1 2 10', refused: '1 2 10', admitted: '3 9 11' },
    { received: '10 2 1', refused: '1 2 10', admitted: '3 9 11' },
    {
      received: `1 ${WINDOW_SIZE + 1}`,
      refused: `1 ${WINDOW_SIZE + 1}`,
      admitted: `2 ${WINDOW_SIZE} ${WINDOW_SIZE + 2}`,
    },
    {
      received: '20 1000000',
      refused: `20 ${1_000_000 - WINDOW_SIZE}`,
      admitted: `${1_000_001 - WINDOW_SIZE}`,
    },
  ];
  return cases.map((entry) => {
    const window = new ReplayWindow();
    for (const number of entry.received.split(' ').map(Number)) window.commit(number);
    return { ...entry, ...window.export() };
  });
}

/** The text of test/vectors/tunnel.json. */
export function tunnelVectors(): string {
  const vectors = {
    about: 'PROTOCOL.md is normative. Octets in hexadecimal, integers of 64 bits as decimal text.',
    version: 1,
    keySchedule: keySchedule(),
    sealedRoot: { ...SEALED_ROOT, sessionId: SESSION.id, root: hex(root) },
    classification: classification(),
    data: data(),
    dataRefused: dataRefused(),
    control: control(),
    controlRefused: controlRefused(),
    windows: windows(),
  };
  return `${JSON.stringify(vectors, null, 2)}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeOrCheck(FILE, tunnelVectors(), import.meta.filename);
}
