import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import type { Lease, LeaseEvent, Session } from '../../src/protocol/lease.ts';
import { type Connection, isRefused } from '../../src/registry/connection.ts';
import { anchorKeys } from '../../src/registry/keys.ts';
import { leaseFrom } from '../../src/registry/records.ts';
import type { OwnersReport } from '../../src/registry/registry.ts';
import { createStore } from '../../src/registry/store.ts';
import { silent } from '../integration/registry/real-redis.ts';
import type { Layout } from './registry-run.ts';

const COOLING_MS = 120_000;
const DEVICES = ['0', '1', '2', '3', '4', '5'];

export type Step =
  | { op: 'grant'; device: number }
  | { op: 'follow' | 'sweep' | 'cut' }
  | { op: 'activate' | 'free' | 'extend' | 'double'; lease: number }
  | { op: 'advance'; ms: number };

export const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({ op: fc.constant('grant' as const), device: fc.nat(DEVICES.length - 1) }),
  },
  { weight: 4, arbitrary: fc.record({ op: fc.constant('follow' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constantFrom(...(['sweep', 'cut'] as const)) }) },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom(...(['activate', 'activate', 'free', 'extend', 'double'] as const)),
      lease: fc.nat(5),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 4_000 }) }),
  },
  { weight: 1, arbitrary: fc.constant({ op: 'advance' as const, ms: COOLING_MS }) },
);
const LEASE_MS = 600_000;
const TTL_MS = 10_000;
let runs = 0;

/**
 * Lets an owner and its devices do `steps`, then takes the registry back to where the last `cut` was, as a replica does
 * that was promoted without having heard the rest. Throws when something acknowledged is lost after the owner's report,
 * or anything is given twice.
 */
export async function runFailOver(
  connection: Connection,
  layout: Layout,
  steps: readonly Step[],
  alone: boolean,
): Promise<{ lost: number }> {
  runs += 1;
  const anchor = `f${runs}`;
  const { redis } = connection;
  const keys = anchorKeys(anchor).slice(0, -1);
  const store = createStore(connection, silent, async () => undefined);
  const boot = randomBytes(8).toString('hex');
  let nowMs = 1_700_000_000_000;
  const setClock = async (ms: number) => {
    nowMs = ms;
    await redis.set('test:now', ms);
  };
  await setClock(nowMs);
  await redis.set('test:server', 'first');
  await store.declareAnchor({
    id: anchor,
    pool: 'p',
    endpoints: ['198.51.100.1'],
    coolingMs: COOLING_MS,
    home: 'r',
    ...layout,
  });
  const { epoch } = await store.claim(anchor, 'r', boot, 1e9);
  if (!alone) await store.appoint(anchor, 'r', epoch, { id: 's', boot }, 1e9);

  // What the owner relay has, as it follows the stream.
  const leases = new Map<string, { lease: Lease; untilMs: number }>();
  const sessions = new Map<string, Session>();
  let lastId = '0-0';
  const granted: { id: string; device: number }[] = [];
  /** A name for each slot of a lease. */
  const resources = ({ address, ports }: Lease): string[] => {
    if (ports === null) return [`${address} -`];
    const { first, count } = ports;
    const names: string[] = [];
    for (let port = first; port < first + count; port += layout.portBlock) names.push(`${address} ${port}`);
    return names;
  };
  /** Resource → the device that had it last, and until when. */
  const rests = new Map<string, { device: string; endedMs: number }>();
  /** Ended by its device's or the clock's doing, whether or not the owner has heard. */
  const ended = new Set<string>();
  const at = (index: number) => granted[index % Math.max(1, granted.length)];
  const hex = () => randomBytes(16).toString('hex');
  const end = (lease: Lease) => {
    ended.add(lease.id);
    for (const one of resources(lease)) rests.set(one, { device: lease.device.id, endedMs: nowMs });
  };
  const apply = (event: LeaseEvent) => {
    if (event.type === 'granted') sessions.set(event.session.id, event.session);
    if (!('lease' in event)) return;
    const { lease } = event;
    if (event.type === 'ended') leases.delete(lease.id);
    else leases.set(lease.id, { lease, untilMs: nowMs + lease.remainingMs });
  };
  const follow = async () => {
    const page = await store.events(anchor, lastId, 1_000);
    if (page.reload) throw new Error('the owner missed an event');
    page.events.forEach(apply);
    lastId = page.lastId;
  };
  const dump = async () => Promise.all(keys.map((key) => redis.dumpBuffer(key)));

  let replica = await dump();
  for (const step of steps) {
    switch (step.op) {
      case 'grant': {
        const id = `${anchor}.${randomBytes(16).toString('base64url')}`;
        const args = ['', id, 't', step.device, '0'.repeat(43), kindOf(layout), LEASE_MS, granted.length + 1];
        const answer = await connection.run('grant', anchorKeys(anchor), [
          ...args,
          ...[hex(), hex(), anchor, 'p', '-'],
        ]);
        if (!isRefused(answer)) granted.push({ id, device: step.device });
        break;
      }
      case 'follow':
        await follow();
        break;
      case 'activate': {
        // Only what the owner has installed.
        const one = at(step.lease);
        if (one === undefined || !leases.has(one.id)) break;
        await connection.run('activate', anchorKeys(anchor), [epoch, one.id]);
        await follow();
        break;
      }
      case 'free': {
        const one = at(step.lease);
        const held = one === undefined ? undefined : leases.get(one.id);
        if (one === undefined || held === undefined || held.lease.state !== 'active') break;
        const answer = await connection.run('free', anchorKeys(anchor), [hex(), one.id, 't', one.device]);
        if (!isRefused(answer)) end(leaseFrom((answer as [number, string])[1], nowMs));
        break;
      }
      case 'extend': {
        const one = at(step.lease);
        if (one !== undefined)
          await connection.run('extend', anchorKeys(anchor), [hex(), one.id, 't', one.device, LEASE_MS]);
        break;
      }
      case 'double': {
        const one = at(step.lease);
        const ports = one === undefined ? null : leases.get(one.id)?.lease.ports;
        if (one === undefined || ports == null) break;
        const args = [hex(), one.id, 't', one.device, LEASE_MS, 2 * ports.count];
        await connection.run('extend', anchorKeys(anchor), args);
        break;
      }
      case 'advance':
        await setClock(nowMs + step.ms);
        break;
      case 'sweep':
        // What was withdrawn was nobody's.
        for (const { lease, reason } of (await store.sweep(anchor, epoch, 100)).ended)
          if (reason === 'expired') end(lease);
        break;
      case 'cut':
        replica = await dump();
        break;
      default:
        step satisfies never;
    }
  }
  const [counter = '0'] = await redis.hmget(keys[0]!, 'counter').then(([value]) => [value ?? '0']);

  // The fail-over.
  await redis.del(...keys);
  await Promise.all(
    keys.map((key, i) => (replica[i] === null ? undefined : redis.restore(key, 0, replica[i] as Buffer))),
  );
  await redis.set('test:server', 'second');
  const kept = Number(await redis.hget(keys[0]!, 'counter'));
  const refused = await connection.run('extend', anchorKeys(anchor), [hex(), 'x', 't', 0, 1]);
  same('while nobody has reported', isRefused(refused) ? refused.refused : 'done', 'QUARANTINED');

  const report = (): OwnersReport => ({
    relay: 'r',
    boot,
    epoch,
    counter: BigInt(lastId.slice(lastId.indexOf('-') + 1)),
    hasStandby: !alone,
    leases: [...leases.values()].map(({ lease, untilMs }) => ({ ...lease, remainingMs: untilMs - nowMs })),
    sessions: [...sessions.values()].filter(({ id }) =>
      [...leases.values()].some(({ lease }) => lease.session === id),
    ),
  });
  if (!alone) {
    const early = await store.report(anchor, report(), TTL_MS).catch((error: { code: string }) => error.code);
    same('a report while others may rely on what is lost', early, 'ERR_MOORING_QUARANTINED');
    await setClock(nowMs + connection.quarantineMs);
  }
  const settled = await store.report(anchor, report(), TTL_MS);
  const again = await store.report(anchor, report(), TTL_MS);
  same('the answer to a report that is sent twice', again.epoch, settled.epoch);
  if (settled.epoch <= epoch) throw new Error(`epoch ${settled.epoch} is not above ${epoch}`);

  // What must hold.
  const after = await store.snapshot(anchor);
  const byId = new Map(after.leases.map((lease) => [lease.id, lease]));
  for (const { lease, untilMs } of leases.values()) {
    if (lease.state !== 'active' || untilMs <= nowMs) continue;
    const found = byId.get(lease.id);
    // Freed, which the owner has not heard, and its resources are another lease's by now.
    if (found === undefined && ended.has(lease.id)) continue;
    if (found === undefined) throw new Error(`${lease.id}, acknowledged and installed, is lost`);
    const missing = resources(lease).filter((one) => !resources(found).includes(one));
    same(`what ${lease.id} has no more`, missing.join(), '');
    same(`session of ${lease.id}`, found.session, lease.session);
    same(`device of ${lease.id}`, found.device.id, lease.device.id);
  }
  const known = BigInt(lastId.slice(lastId.indexOf('-') + 1));
  for (const lease of after.leases) {
    const fence = BigInt(lease.fence.slice(lease.fence.indexOf('-') + 1));
    if (fence <= known && !leases.has(lease.id)) throw new Error(`${lease.id} ended, and is back`);
  }
  const inUse = after.leases.flatMap(resources);
  same('each resource once', new Set(inUse).size, inUse.length);
  const [frontier, capacity] = await redis.hmget(keys[0]!, 'frontier', 'capacity');
  const resting = await redis.zcard(keys[5]!);
  same(
    'free + leased + cooling',
    Number(capacity) - Number(frontier) + inUse.length + resting,
    layout.capacity,
  );
  for (const session of after.sessions) {
    if (!after.leases.some((lease) => lease.session === session.id))
      throw new Error(`session ${session.id} carries nothing`);
  }

  // Those who had something come back for it, then strangers take what they get.
  const comers = [...DEVICES, ...Array.from({ length: layout.capacity }, (_, n) => `stranger${n}`)];
  for (const comer of comers) {
    const id = `${anchor}.${randomBytes(16).toString('base64url')}`;
    const answer = await connection.run('grant', anchorKeys(anchor), [
      ...['', id, 't', comer, '0'.repeat(43), kindOf(layout), LEASE_MS, granted.length + 1],
      ...[hex(), hex(), anchor, 'p', '-'],
    ]);
    if (isRefused(answer)) continue;
    const lease = leaseFrom((answer as [number, string])[1], nowMs);
    const [got = ''] = resources(lease);
    if (inUse.includes(got)) throw new Error(`${got} is given twice`);
    const rest = rests.get(got);
    if (rest !== undefined && rest.device !== comer && nowMs - rest.endedMs < COOLING_MS)
      throw new Error(`${got} of ${rest.device} has not rested before ${comer} got it`);
    inUse.push(got);
    const [of, number] = lease.fence.split('-').map(Number);
    if (of! <= Number(epoch) || number! <= Number(counter))
      throw new Error(`fence ${lease.fence} may have been given before`);
  }
  return { lost: Number(counter) - kept };
}

function kindOf({ sharing }: Layout): string {
  return sharing === 'whole' ? 'rsa-ip' : 'rsipsec';
}

function same(what: string, is: unknown, expected: unknown): void {
  if (is !== expected) throw new Error(`${what}: ${is}, expected ${expected}`);
}
