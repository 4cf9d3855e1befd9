import { concatBytes, hexToBytes, utf8ToBytes } from '@noble/hashes/utils.js';
import * as base64url from 'jose/base64url';
import type { Session } from '../protocol/lease.ts';
import { cryptography } from './cryptography.ts';
import type { Direction } from './wire.ts';

/**
 * The key schedule: HKDF-SHA256 (RFC 5869) from a site's master key down to the keys of single incarnations.
 * Each label ends where fields of fixed length begin, so no two purposes share an input.
 */

/** Source of random octets: `crypto.getRandomValues` outside tests. */
export type RandomOctets = (length: number) => Uint8Array;

const NO_SALT = new Uint8Array(0);

/** Key of one anchor (32 octets) from the site's master key (32 octets), which only its relays hold. */
export function deriveAnchorKey(masterKey: Uint8Array, anchor: string): Uint8Array {
  expectLength('master key', masterKey, 32);
  return derive(masterKey, NO_SALT, 32, 'mooring v1 anchor', utf8ToBytes(anchor));
}

/** K_root of a session (32 octets): binds its id, salt and the thumbprint of the device's key. */
export function deriveRoot(
  anchorKey: Uint8Array,
  session: Pick<Session, 'id' | 'salt' | 'thumbprint'>,
): Uint8Array {
  expectLength('anchor key', anchorKey, 32);
  const id = hexToBytes(session.id);
  const salt = hexToBytes(session.salt);
  const thumbprint = base64url.decode(session.thumbprint);
  expectLength('session id', id, 16);
  expectLength('session salt', salt, 16);
  expectLength('device thumbprint', thumbprint, 32);
  return derive(anchorKey, salt, 32, 'mooring v1 root', id, thumbprint);
}

/** SipHash key (16 octets) of all CONTROL datagrams of a session in one direction. */
export function deriveControlTagKey(root: Uint8Array, direction: Direction): Uint8Array {
  return derive(root, NO_SALT, 16, 'mooring v1 control tag', directionOctet(direction));
}

/** AES-256-GCM key (32 octets) of the CONTROL bodies that the incarnation `boot` sends in `direction`. */
export function deriveControlAeadKey(root: Uint8Array, direction: Direction, boot: bigint): Uint8Array {
  return derive(root, NO_SALT, 32, 'mooring v1 control aead', directionOctet(direction), u64(boot));
}

/** What names one generation of DATA keys. */
export interface DataKeyName {
  readonly epoch: bigint;
  readonly relayBoot: bigint;
  readonly deviceBoot: bigint;
  /** 32 bits; the low two are the phase on the wire. */
  readonly keyNumber: number;
}

/** SipHash key (16 octets) of DATA and DATA-FULL in one direction. */
export function deriveDataKey(root: Uint8Array, direction: Direction, name: DataKeyName): Uint8Array {
  const keyNumber = new Uint8Array(4);
  new DataView(keyNumber.buffer).setUint32(0, name.keyNumber);
  return derive(
    root,
    NO_SALT,
    16,
    'mooring v1 data',
    directionOctet(direction),
    u64(name.epoch),
    u64(name.relayBoot),
    u64(name.deviceBoot),
    keyNumber,
  );
}

/** A new incarnation's name: 64 random bits, never 0 (which says "unknown" on the wire). */
export function newBoot(random: RandomOctets): bigint {
  for (;;) {
    const octets = random(8);
    const boot = new DataView(octets.buffer, octets.byteOffset, 8).getBigUint64(0);
    if (boot !== 0n) return boot;
  }
}

function derive(
  key: Uint8Array,
  salt: Uint8Array,
  length: number,
  label: string,
  ...fields: readonly Uint8Array[]
): Uint8Array {
  return cryptography().hkdfSha256(key, salt, concatBytes(utf8ToBytes(label), ...fields), length);
}

function directionOctet(direction: Direction): Uint8Array {
  return Uint8Array.of(direction === 'to-relay' ? 0 : 1);
}

function u64(value: bigint): Uint8Array {
  const octets = new Uint8Array(8);
  new DataView(octets.buffer).setBigUint64(0, value);
  return octets;
}

function expectLength(name: string, octets: Uint8Array, length: number): void {
  if (octets.length !== length) {
    throw new RangeError(`the ${name} has ${octets.length} octets; it must have ${length}`);
  }
}
