import { canonicalAddress, contains, parseAddress, parsePrefix } from '../protocol/address.ts';
import { badInput } from '../protocol/errors.ts';
import type { Block, Device, Lease } from '../protocol/lease.ts';
import { anchorOf } from '../registry/registry.ts';
import type { KnownAnchors } from './known-anchors.ts';
import type { AdminParts } from './parts.ts';

/** What a lease must be like to be listed; all that is named must hold. */
export interface LeaseFilter {
  readonly tenant?: string;
  /** Tenant and id. */
  readonly device?: Device;
  readonly pool?: string;
  readonly anchor?: string;
  /** Who has it? A lease of the address or, with `port` or `spi`, of that share of it. */
  readonly address?: string;
  readonly port?: number;
  readonly spi?: number;
  readonly state?: Lease['state'];
}

export interface LeasePage {
  readonly leases: readonly Lease[];
  /** Where the next page begins; null: this is the last one. A page may hold fewer than `limit`, even none. */
  readonly next: string | null;
}

/** Anchors looked into for one page at most: each is one script of some milliseconds in Redis. */
const ANCHORS_A_PAGE = 32;

/**
 * Leases in the order of their ids, one anchor at a time, so that Redis never stands still for long. `after` is the
 * cursor of the page before: a lease's id, or an anchor's when all of it has been seen. What is leased throughout is
 * seen exactly once.
 */
export async function searchLeases(
  { registry, knownAnchors }: Pick<AdminParts, 'registry' | 'knownAnchors'>,
  filter: LeaseFilter,
  after: string | undefined,
  limit: number,
): Promise<LeasePage> {
  const matches = matcher(filter);
  if (filter.device !== undefined) {
    const held = await registry.deviceLeases(filter.device);
    return cut(
      held.filter((lease) => matches(lease) && isAfter(lease.id, after)),
      limit,
    );
  }
  const anchors = (await anchorsOf(knownAnchors, filter)).filter((anchor) => mayFollow(anchor, after));
  const found: Lease[] = [];
  for (const [at, anchor] of anchors.entries()) {
    if (at === ANCHORS_A_PAGE) return { leases: found, next: anchors[at - 1] ?? null };
    const { leases } = await registry.snapshot(anchor);
    found.push(
      ...leases
        .filter((lease) => lease.remainingMs > 0 && matches(lease) && isAfter(lease.id, after))
        .sort((left, right) => order(left.id, right.id)),
    );
    if (found.length > limit) return cut(found, limit);
  }
  return { leases: found, next: null };
}

function cut(leases: readonly Lease[], limit: number): LeasePage {
  const sorted = [...leases].sort((left, right) => order(left.id, right.id));
  const page = sorted.slice(0, limit);
  return { leases: page, next: sorted.length > limit ? (page.at(-1)?.id ?? null) : null };
}

/** Anchors by name, and leases of one anchor by id: never by locale, which two nodes may have different. */
function order(left: string, right: string): number {
  const [a, b] = [anchorOf(left), anchorOf(right)];
  if (a !== b) return a < b ? -1 : 1;
  return left < right ? -1 : left > right ? 1 : 0;
}

function isAfter(lease: string, cursor: string | undefined): boolean {
  if (cursor === undefined) return true;
  return cursor.includes('.') ? order(lease, cursor) > 0 : anchorOf(lease) > cursor;
}

function mayFollow(anchor: string, cursor: string | undefined): boolean {
  if (cursor === undefined) return true;
  return cursor.includes('.') ? anchor >= anchorOf(cursor) : anchor > cursor;
}

async function anchorsOf(known: KnownAnchors, filter: LeaseFilter): Promise<readonly string[]> {
  const address = filter.address === undefined ? undefined : parseAddress(filter.address);
  return (await known())
    .filter(
      ({ id, pool, prefixes, draining }) =>
        (filter.anchor === undefined || id === filter.anchor) &&
        (filter.pool === undefined || pool === filter.pool) &&
        (address === undefined ||
          [...prefixes, ...draining.map(({ prefix }) => prefix)].some((prefix) =>
            contains(parsePrefix(prefix), address),
          )),
    )
    .map(({ id }) => id);
}

function matcher(filter: LeaseFilter): (lease: Lease) => boolean {
  const address = filter.address === undefined ? undefined : canonicalAddress(filter.address);
  if (address === undefined && (filter.port !== undefined || filter.spi !== undefined)) {
    throw badInput('address', 'missing', 'name the address that port or spi is of');
  }
  return (lease) =>
    (filter.tenant === undefined || lease.device.tenant === filter.tenant) &&
    (filter.pool === undefined || lease.pool === filter.pool) &&
    (filter.anchor === undefined || lease.anchor === filter.anchor) &&
    (filter.state === undefined || lease.state === filter.state) &&
    (address === undefined || hasAddress(lease, address)) &&
    (filter.port === undefined || lease.ports === null || within(lease.ports, filter.port)) &&
    (filter.spi === undefined ||
      (lease.spis === null ? lease.kind === 'rsa-ip' : within(lease.spis, filter.spi)));
}

function hasAddress({ address }: Lease, wanted: string): boolean {
  if (!address.includes('/')) return address === wanted;
  return contains(parsePrefix(address), parseAddress(wanted));
}

function within({ first, count }: Block, value: number): boolean {
  return value >= first && value < first + count;
}
