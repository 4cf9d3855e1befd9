import { MooringError } from '../protocol/errors.ts';
import type { Block, Device, EndReason, Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';

/**
 * Records as commands store and answer them (commands/include/records.lua): words with a space between them, `-` for
 * none. What a record leaves out is said by its key, its anchor and its device.
 */
const LEASE_WORDS = 11;
const SESSION_WORDS = 6;
const END_REASONS: readonly string[] = ['freed', 'expired', 'withdrawn', 'revoked'] satisfies EndReason[];

/** What is the same for all records of an anchor. */
export interface Place {
  readonly anchor: string;
  readonly pool: string;
  /** When they were read, by the registry's clock. */
  readonly nowMs: number;
}

/** A lease as it crosses (`<id> <pool> <session id> <record>`), with the life that it had left at `nowMs`. */
export function leaseFrom(text: string, nowMs: number): Lease {
  const [id = '', pool = '', session = '', ...words] = text.split(' ');
  const dot = id.indexOf('.');
  return leaseOf(id.slice(dot + 1), session, words, { anchor: id.slice(0, dot), pool, nowMs });
}

/** What `leaseFrom` reads; its end is what is left of its life, its slot is not known. */
export function leaseText(lease: Lease): string {
  const { id, pool, device, session, address, ports, spis, ikeSpis = null, remote, state, bindId } = lease;
  return [
    ...[id, pool, packed(session), deviceText(device), '-', address],
    ...[blockText(ports), blockText(spis), blockText(ikeSpis), remoteText(remote ?? null)],
    ...[state === 'active' ? '-' : 0, lease.remainingMs, lease.fence, bindId],
  ].join(' ');
}

/** A lease as a hash holds it: its name and its record; `sessions` by device. */
export function leaseRecordFrom(
  name: string,
  record: string,
  sessions: ReadonlyMap<string, Session>,
  place: Place,
): Lease {
  const words = record.split(' ');
  const session = sessions.get(words[0] ?? '');
  if (session === undefined) throw damaged(record);
  return leaseOf(name, packed(session.id), words, place);
}

function leaseOf(name: string, session: string, words: readonly string[], place: Place): Lease {
  if (words.length !== LEASE_WORDS) throw damaged(words.join(' '));
  const [device, , address, ports, spis, ikeSpis, remote, pending, expiresAtMs, fence, bindId] =
    words as string[] & { length: 11 };
  return {
    id: `${place.anchor}.${name}`,
    anchor: place.anchor,
    pool: place.pool,
    device: deviceFrom(device!),
    bindId: numberFrom(bindId!),
    kind: ports === '-' ? 'rsa-ip' : spis === '-' ? 'rsap-ip' : 'rsipsec',
    address: address!,
    ports: blockFrom(ports!),
    spis: blockFrom(spis!),
    ikeSpis: blockFrom(ikeSpis!),
    remote: remoteFrom(remote!),
    session: unpacked(session),
    state: pending === '-' ? 'active' : 'pending',
    remainingMs: numberFrom(expiresAtMs!) - place.nowMs,
    fence: fence!,
  };
}

/** A session as it crosses: `<device> <record>`. */
export function sessionFrom(text: string): Session {
  const words = text.split(' ');
  if (words.length !== 1 + SESSION_WORDS) throw damaged(text);
  const [device, index, id, thumbprint, salt] = words;
  return {
    id: unpacked(id!),
    index: numberFrom(index!),
    device: deviceFrom(device!),
    thumbprint: thumbprint!,
    salt: unpacked(salt!),
  };
}

/** What `sessionFrom` reads. */
export function sessionText({ id, index, device, thumbprint, salt }: Session): string {
  return [deviceText(device), index, packed(id), thumbprint, packed(salt), '-', '-'].join(' ');
}

/** The last proven path of `session` (its id): `<epoch> <device boot> <generation> <address> <port>`. */
export function hintFrom(session: string, text: string): PathHint {
  const words = text.split(' ');
  if (words.length !== 5) throw damaged(text);
  const [, deviceBoot, generation, address, port] = words;
  return {
    session,
    address: address!,
    port: numberFrom(port!),
    generation: numberFrom(generation!),
    deviceBoot: deviceBoot!,
  };
}

/** A stream entry's event (commands/include/events.lua). */
export function eventFrom(fence: string, text: string, place: Place): LeaseEvent {
  const [type, ...words] = text.split(' ');
  switch (type) {
    case 'granted': {
      const [name = '', ...record] = words;
      const device = record[0] ?? '';
      const session = sessionFrom(`${device} ${record.slice(LEASE_WORDS).join(' ')}`);
      const lease = leaseOf(name, packed(session.id), record.slice(0, LEASE_WORDS), place);
      return { type, fence, lease, session };
    }
    case 'activated':
    case 'extended': {
      const [name = '', session = '', ...record] = words;
      return { type, fence, lease: leaseOf(name, session, record, place) };
    }
    case 'ended': {
      const [reason = '', name = '', session = '', ...record] = words;
      if (!END_REASONS.includes(reason)) throw damaged(text);
      return { type, fence, lease: leaseOf(name, session, record, place), reason: reason as EndReason };
    }
    case 'session':
      return { type, fence, session: sessionFrom(words.join(' ')), replaces: unpacked(words[5] ?? '') };
    case 'owned':
      return { type, fence, relay: words[0] ?? '' };
    case 'declared':
      return { type, fence };
    default:
      throw damaged(text);
  }
}

/** 16 octets, of hexadecimal, as records have them. */
export function packed(hex: string): string {
  return Buffer.from(hex, 'hex').toString('base64url');
}

/** What `packed` packed. */
export function unpacked(text: string): string {
  return Buffer.from(text, 'base64url').toString('hex');
}

/** `<address>,<port>`, and `-` for any remote. */
export function remoteText(remote: Lease['remote']): string {
  return remote == null ? '-' : `${remote.address},${remote.port ?? '-'}`;
}

function remoteFrom(word: string): NonNullable<Lease['remote']> | null {
  if (word === '-') return null;
  const [address = '', port = ''] = word.split(',');
  return { address, port: port === '-' ? null : numberFrom(port) };
}

function deviceText({ tenant, id }: Device): string {
  return `${tenant}/${id}`;
}

function deviceFrom(word: string): Device {
  const slash = word.indexOf('/');
  if (slash < 0) throw damaged(word);
  return { tenant: word.slice(0, slash), id: word.slice(slash + 1) };
}

/** `<first>/<width>`: 2^width values. */
function blockText(block: Block | null): string {
  return block === null ? '-' : `${block.first}/${Math.log2(block.count)}`;
}

function blockFrom(word: string): Block | null {
  if (word === '-') return null;
  const [first = '', width = ''] = word.split('/');
  return { first: numberFrom(first), count: 2 ** numberFrom(width) };
}

function numberFrom(word: string): number {
  const number = Number(word);
  if (word === '' || !Number.isSafeInteger(number)) throw damaged(word);
  return number;
}

/** Records are the scripts' own; one that is none shows that something else has written to the registry. */
function damaged(text: string): MooringError {
  return new MooringError(
    'ERR_MOORING_RECORD',
    `the registry holds ${JSON.stringify(text.slice(0, 80))} where a record is due; find out what else writes to it`,
  );
}
