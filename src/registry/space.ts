import { formatAddress, type Prefix, parseAddress, parsePrefix } from '../protocol/address.ts';
import { MooringError } from '../protocol/errors.ts';
import type { Connection } from './connection.ts';
import { spaceKeys } from './keys.ts';

/**
 * Notes the addresses of an anchor (what it leases, what it drains, its tunnel endpoints) for all pools of the registry
 * to see; idempotent, and none frees them all. Throws ERR_MOORING_OVERLAP naming the other anchor when it has one of them.
 */
export async function takeSpace(
  connection: Connection,
  anchor: string,
  prefixes: readonly string[],
): Promise<void> {
  const spans = prefixes.map((text) => spanOf(parsePrefix(text))).sort();
  const clash = await connection.run('take_space', spaceKeys(), [anchor, JSON.stringify(spans)]);
  if (clash === '') return;
  const [, first = '', last = '', other = ''] = String(clash).split(':');
  const theirs = `${textOf(first)} to ${textOf(last)}`;
  throw new MooringError(
    'ERR_MOORING_OVERLAP',
    `anchor ${anchor}: addresses of it are anchor ${other}'s, which has ${theirs}; take them out there first and wait until they are drained, or name others`,
    { rsip: 205, data: { anchor, other, field: 'prefixes' } },
  );
}

/** The anchor that has an address, by what pools declare; null when none is known to. */
export async function anchorWith(connection: Connection, address: string): Promise<string | null> {
  const bytes = parseAddress(address, 'local.address');
  const [family, hex] = [bytes.length === 4 ? 4 : 6, hexOf(bytes)];
  const [key = ''] = spaceKeys();
  const [before] = await connection.plain((redis) =>
    redis.zrevrangebylex(key, `[${family}:${hex};`, `[${family}:`, 'LIMIT', 0, 1),
  );
  const [, , last = '', anchor = null] = before?.split(':') ?? [];
  return last >= hex ? anchor : null;
}

/** A tunnel endpoint as a prefix of one address. */
export function hostPrefix(address: string): string {
  return `${address}/${parseAddress(address).length * 8}`;
}

function spanOf({ bytes, bits }: Prefix): string {
  const last = Uint8Array.from(
    bytes,
    (octet, at) => octet | (0xff >> Math.max(0, Math.min(8, bits - at * 8))),
  );
  return `${bytes.length === 4 ? 4 : 6}:${hexOf(bytes)}:${hexOf(last)}`;
}

function hexOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function textOf(hex: string): string {
  return formatAddress(Buffer.from(hex, 'hex'));
}
