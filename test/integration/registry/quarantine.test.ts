import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { deviceKeys } from '../../../src/registry/keys.ts';
import type { OwnersReport, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

const QUARANTINE_MS = 12_000;
const TTL_MS = 450;
const OWNER = { id: 'r1', boot: 'b'.repeat(16) };
const STANDBY = { id: 'r2', boot: 'c'.repeat(16) };

let server: RealRedis;
let store: Registry;
let anchor: string;
let nowMs = 1_700_000_000_000;
let anchors = 0;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

async function passes(ms: number): Promise<void> {
  nowMs += ms;
  await server.client().set('test:now', nowMs);
}

/** An anchor with owner, standby and one acknowledged lease, which the registry has forgotten by a fail-over. */
let report: OwnersReport;
let lease: Lease;
beforeEach(async () => {
  anchors += 1;
  anchor = `a${anchors}`;
  const redis = server.client();
  await passes(0);
  await redis.set('test:server', `first ${anchor}`);
  const connection = commandConnection(redis, commandsWithTestClock(), QUARANTINE_MS);
  store = createStore(connection, silent, async () => undefined);
  await store.declareAnchor({
    ...{ id: anchor, pool: anchor, sharing: 'whole', home: OWNER.id },
    ...{ prefixes: ['192.0.2.0/28'], endpoints: ['198.51.100.1'] },
  });
  const { epoch } = await store.claim(anchor, OWNER.id, OWNER.boot, TTL_MS);
  await store.appoint(anchor, OWNER.id, epoch, STANDBY, TTL_MS);
  const keys = (await redis.keys('*')).filter((key) => key.includes(`{a:${anchor}}`));
  const replica = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));

  const granted = await store.grant({
    ...{ pool: anchor, device: { tenant: 't', id: 'd1' }, thumbprint: '0'.repeat(43), kind: 'rsa-ip' },
    ...{ leaseMs: 600_000, requestId: randomBytes(16).toString('hex'), quota: 4 },
  });
  lease = await store.activate(anchor, granted.lease.id, epoch);
  const sessions: Session[] = [granted.session];
  report = {
    relay: OWNER.id,
    boot: OWNER.boot,
    epoch,
    counter: 3n,
    hasStandby: true,
    leases: [lease],
    sessions,
  };

  const all = (await redis.keys('*')).filter((key) => key.includes(`{a:${anchor}}`));
  await redis.del(...all);
  await Promise.all(keys.map((key, at) => redis.restore(key, 0, replica[at] as Buffer)));
  await redis.set('test:server', `second ${anchor}`);
});

const leaseIds = async () => (await store.snapshot(anchor)).leases.map(({ id }) => id);
const quarantined = { code: 'ERR_MOORING_QUARANTINED' };

describe('at the end of a quarantine', () => {
  test('the standby does not go before the owner that has reported, and nothing is lost', async () => {
    await expect(store.report(anchor, report, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS - 1);
    await expect(store.report(anchor, report, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(1);
    await expect(store.claim(anchor, STANDBY.id, STANDBY.boot, TTL_MS)).rejects.toMatchObject(quarantined);
    await store.report(anchor, report, TTL_MS);
    expect(await leaseIds()).toEqual([lease.id]);
  });

  test('what an owner has reported is kept, though it hangs and its standby goes on', async () => {
    await expect(store.report(anchor, report, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    const { epoch } = await store.claim(anchor, STANDBY.id, STANDBY.boot, TTL_MS);
    expect(epoch).toBeGreaterThan(report.epoch);
    const { leases, owner } = await store.snapshot(anchor);
    expect(owner?.relay).toBe(STANDBY.id);
    expect(leases).toMatchObject([{ id: lease.id, address: lease.address, state: 'active' }]);
    expect(leases[0]?.remainingMs).toBe(lease.remainingMs - QUARANTINE_MS);
  });

  test('a device is told that what it holds is not known now', async () => {
    await expect(store.deviceLeases({ tenant: 't', id: 'd1' })).rejects.toMatchObject(quarantined);
  });

  test('a lease that came back is found at its anchor, though the index of its device is lost', async () => {
    await expect(store.report(anchor, report, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await store.report(anchor, report, TTL_MS);
    const device = { tenant: 't', id: 'd1' };
    await server.client().del(...deviceKeys(device));
    expect(await store.deviceLeases(device)).toEqual([]);
    const found = await store.deviceLeases(device, anchor);
    expect(found.map(({ id }) => id)).toEqual([lease.id]);
    expect((await store.deviceLeases(device)).map(({ id }) => id)).toEqual([lease.id]);
  });

  test('nobody is waited for when nobody has reported', async () => {
    await expect(store.snapshot(anchor)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await store.claim(anchor, STANDBY.id, STANDBY.boot, TTL_MS);
    expect(await leaseIds()).toEqual([]);
  });
});
