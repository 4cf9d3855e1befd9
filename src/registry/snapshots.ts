import { MooringError } from '../protocol/errors.ts';
import type { Lease, LeaseEvent, PathHint, Session } from '../protocol/lease.ts';
import { askAnchor } from './asking.ts';
import type { Connection } from './connection.ts';
import { anchorFrom, type Described, ownerFrom } from './described.ts';
import { hintFrom, leaseRecordFrom, sessionFrom } from './records.ts';
import type { EventPage, Snapshot } from './registry.ts';

/** Leases that one script reads: what else Redis has to do waits for a millisecond or two. */
const PAGE = 128;
const EVENTS = 128;
/** So often an anchor may change too fast to be read. */
const ATTEMPTS = 8;

/** What snapshot.lua returns. */
type Page = readonly [
  ...Described,
  lastId: string,
  cursor: string,
  leases: readonly string[],
  sessions: readonly string[],
];

/** Reads an anchor page by page, and then what happened meanwhile: the result is all of it at one instant. */
export async function readWhole(
  connection: Connection,
  anchor: string,
  events: (afterId: string, limit: number) => Promise<EventPage>,
): Promise<Snapshot> {
  for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
    const { first, lastId, ...held } = await readPages(connection, anchor);
    const settledId = lastId === first[9] ? lastId : await catchUp(held, first[9], events);
    if (settledId === null) continue;
    const carrying = new Set([...held.leases.values()].map(({ session }) => session));
    return {
      anchor: anchorFrom(first),
      epoch: BigInt(first[1]),
      lastId: settledId,
      leases: [...held.leases.values()],
      sessions: [...held.sessions.values()].filter(({ id }) => carrying.has(id)),
      hints: [...held.hints.values()].filter(({ session }) => carrying.has(session)),
      owner: ownerFrom(first),
    };
  }
  throw new MooringError(
    'ERR_MOORING_REGISTRY_UNAVAILABLE',
    `anchor ${anchor}: it changes faster than it can be read; try again`,
    { temporary: true, retryAfterMs: 1000, data: { anchor } },
  );
}

interface Held {
  readonly leases: Map<string, Lease>;
  readonly sessions: Map<string, Session>;
  readonly hints: Map<string, PathHint>;
}

async function readPages(
  connection: Connection,
  anchor: string,
): Promise<Held & { readonly first: Page; readonly lastId: string }> {
  const held = { leases: new Map(), sessions: new Map(), hints: new Map() } satisfies Held as Held;
  let first: Page | undefined;
  for (let cursor = '0'; ; ) {
    const page = (await askAnchor(connection, 'snapshot', anchor, [cursor, PAGE])) as unknown as Page;
    first ??= page;
    take(held, page, anchor);
    cursor = page[10];
    if (cursor === '0') return { ...held, first, lastId: page[9] };
  }
}

function take(held: Held, page: Page, anchor: string): void {
  const [nowMs, leases, sessions] = [page[0], page[11], page[12]];
  const place = { anchor, pool: anchorFrom(page).pool, nowMs };
  const ofDevice = new Map<string, Session>();
  for (let at = 0; at < sessions.length; at += 3) {
    const session = sessionFrom(`${sessions[at]} ${sessions[at + 1]}`);
    ofDevice.set(sessions[at]!, session);
    held.sessions.set(session.id, session);
    const hint = sessions[at + 2]!;
    if (hint !== '') held.hints.set(session.id, hintFrom(session.id, hint));
  }
  for (let at = 0; at < leases.length; at += 2) {
    const lease = leaseRecordFrom(leases[at]!, leases[at + 1]!, ofDevice, place);
    held.leases.set(lease.id, lease);
  }
}

/** Brings all pages to one instant; its fence, or null when that cannot be told from what the stream still has. */
async function catchUp(
  held: Held,
  afterId: string,
  events: (afterId: string, limit: number) => Promise<EventPage>,
): Promise<string | null> {
  for (let lastId = afterId; ; ) {
    const page = await events(lastId, EVENTS);
    // Another owner, or other addresses: what the first page said of the anchor is no more.
    if (page.reload || page.events.some(({ type }) => type === 'owned' || type === 'declared')) return null;
    for (const event of page.events) apply(held, event);
    lastId = page.lastId;
    if (page.events.length < EVENTS) return lastId;
  }
}

function apply({ leases, sessions }: Held, event: LeaseEvent): void {
  switch (event.type) {
    case 'granted':
      sessions.set(event.session.id, event.session);
      leases.set(event.lease.id, event.lease);
      return;
    case 'activated':
    case 'extended':
      leases.set(event.lease.id, event.lease);
      return;
    case 'ended':
      leases.delete(event.lease.id);
      return;
    case 'session':
      sessions.set(event.session.id, event.session);
      for (const lease of [...leases.values()]) {
        if (lease.session !== event.replaces) continue;
        leases.set(lease.id, { ...lease, session: event.session.id, fence: event.fence });
      }
      return;
    case 'owned':
    case 'declared':
      return;
    default:
      event satisfies never;
  }
}
