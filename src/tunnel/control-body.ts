import { formatAddress, parseAddress, type SocketAddress, socketAddress } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import type { ControlDraft, ControlMessage } from './message.ts';
import { BODY, CONTROL, type ControlKind, type Direction, KIND, OLD_PATH, type OldPath } from './wire.ts';

/** Everything of a message that its body carries; boot and counter are in the header. */
export type ControlBody = Omit<ControlMessage, 'boot' | 'counter'>;

type Optional = 'generation' | 'keyNumber' | 'oldPath' | 'code' | 'cookie' | 'observed' | 'delayMs';

interface KindRule {
  readonly kind: ControlKind;
  readonly direction: Direction;
  /** Fields that may differ from zero beside epoch, echoBoot and echoCounter. */
  readonly uses: readonly Optional[];
}

const RULES: readonly KindRule[] = [
  { kind: 'bind', direction: 'to-relay', uses: ['generation', 'oldPath'] },
  { kind: 'hold', direction: 'to-relay', uses: ['generation'] },
  { kind: 'keepalive', direction: 'to-relay', uses: ['generation'] },
  { kind: 'proof', direction: 'to-relay', uses: ['generation', 'cookie'] },
  { kind: 'challenge', direction: 'to-device', uses: ['generation', 'keyNumber', 'cookie', 'observed'] },
  { kind: 'sync', direction: 'to-device', uses: ['generation', 'keyNumber', 'observed', 'delayMs'] },
  { kind: 'notice', direction: 'to-device', uses: ['generation', 'keyNumber', 'code'] },
];

const RULE_BY_KIND = new Map(RULES.map((rule) => [rule.kind, rule]));
const RULE_BY_NUMBER = new Map(RULES.map((rule) => [KIND[rule.kind], rule]));
const OLD_PATH_BY_NUMBER = new Map(
  (Object.keys(OLD_PATH) as OldPath[]).map((name) => [OLD_PATH[name] as number, name]),
);

const EVERY_OPTIONAL: readonly Optional[] = [
  'generation',
  'keyNumber',
  'oldPath',
  'code',
  'cookie',
  'observed',
  'delayMs',
];

const NO_COOKIE = new Uint8Array(16);
const V4_MAPPED = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff);

/** The direction in which a kind travels. */
export function directionOf(kind: ControlKind): Direction {
  return RULE_BY_KIND.get(kind)!.direction;
}

/** The body of 72 octets. Throws ERR_MOORING_BAD_INPUT for a value that does not fit or that the kind does not use. */
export function encodeBody(draft: ControlDraft): Uint8Array {
  const rule = RULE_BY_KIND.get(draft.kind);
  if (rule === undefined) throw badInput('kind', draft.kind, `use one of ${Object.keys(KIND).join(', ')}`);
  const body = completed(draft);
  for (const field of EVERY_OPTIONAL) {
    if (!rule.uses.includes(field) && !isUnset(body, field)) {
      throw badInput(field, body[field], `leave it out of a ${draft.kind}`);
    }
  }
  const octets = new Uint8Array(CONTROL.body);
  const view = new DataView(octets.buffer);
  octets[BODY.kind] = KIND[body.kind];
  octets[BODY.oldPath] = OLD_PATH[body.oldPath];
  view.setUint16(BODY.code, fitting('code', body.code, 0xffff));
  view.setBigUint64(BODY.epoch, fitting64('epoch', body.epoch));
  view.setBigUint64(BODY.echoBoot, fitting64('echoBoot', body.echoBoot));
  view.setBigUint64(BODY.echoCounter, fitting64('echoCounter', body.echoCounter));
  view.setUint32(BODY.generation, fitting('generation', body.generation, 0xffff_ffff));
  view.setUint32(BODY.keyNumber, fitting('keyNumber', body.keyNumber, 0xffff_ffff));
  if (body.cookie.length !== 16) throw badInput('cookie', body.cookie.length, 'use 16 octets');
  octets.set(body.cookie, BODY.cookie);
  if (body.observed !== null) {
    const address = parseAddress(body.observed.address, 'observed');
    view.setUint16(BODY.observedPort, fitting('observed.port', body.observed.port, 0xffff));
    if (address.length === 4) octets.set(V4_MAPPED, BODY.observedAddress);
    octets.set(address, BODY.observedAddress + 16 - address.length);
  }
  view.setUint16(BODY.delayMs, fitting('delayMs', body.delayMs, 0xffff));
  return octets;
}

/**
 * The message in a body of 72 octets, or null when it is not exactly what a sender may write: unknown kind or
 * old path, a field that the kind does not use, an address of one spelling where another is due.
 */
export function decodeBody(octets: Uint8Array): ControlBody | null {
  if (octets.length !== CONTROL.body) return null;
  const view = new DataView(octets.buffer, octets.byteOffset, octets.byteLength);
  const rule = RULE_BY_NUMBER.get(octets[BODY.kind] as (typeof KIND)[ControlKind]);
  const oldPath = OLD_PATH_BY_NUMBER.get(octets[BODY.oldPath]!);
  if (rule === undefined || oldPath === undefined) return null;
  const observed = decodeObserved(octets, view.getUint16(BODY.observedPort));
  if (observed === undefined) return null;
  const body: ControlBody = {
    kind: rule.kind,
    epoch: view.getBigUint64(BODY.epoch),
    echoBoot: view.getBigUint64(BODY.echoBoot),
    echoCounter: view.getBigUint64(BODY.echoCounter),
    generation: view.getUint32(BODY.generation),
    keyNumber: view.getUint32(BODY.keyNumber),
    oldPath,
    code: view.getUint16(BODY.code),
    cookie: octets.slice(BODY.cookie, BODY.cookie + 16),
    observed,
    delayMs: view.getUint16(BODY.delayMs),
  };
  return EVERY_OPTIONAL.every((field) => rule.uses.includes(field) || isUnset(body, field)) ? body : null;
}

function decodeObserved(octets: Uint8Array, port: number): SocketAddress | null | undefined {
  const address = octets.subarray(BODY.observedAddress, BODY.observedAddress + 16);
  if (address.every((octet) => octet === 0)) return port === 0 ? null : undefined;
  return socketAddress(formatAddress(address), port);
}

function completed(draft: ControlDraft): ControlBody {
  return {
    epoch: 0n,
    echoBoot: 0n,
    echoCounter: 0n,
    generation: 0,
    keyNumber: 0,
    oldPath: 'unknown',
    code: 0,
    cookie: NO_COOKIE,
    observed: null,
    delayMs: 0,
    ...draft,
  };
}

function isUnset(body: ControlBody, field: Optional): boolean {
  switch (field) {
    case 'oldPath':
      return body.oldPath === 'unknown';
    case 'observed':
      return body.observed === null;
    case 'cookie':
      return body.cookie.every((octet) => octet === 0);
    default:
      return body[field] === 0;
  }
}

function fitting(field: string, value: number, highest: number): number {
  if (!Number.isInteger(value) || value < 0 || value > highest) {
    throw badInput(field, value, `use an integer from 0 to ${highest}`);
  }
  return value;
}

function fitting64(field: string, value: bigint): bigint {
  if (value < 0n || value > 0xffff_ffff_ffff_ffffn) {
    throw badInput(field, value, 'use an unsigned integer of 64 bits');
  }
  return value;
}
