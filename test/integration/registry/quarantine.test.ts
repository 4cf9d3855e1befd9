import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { QUARANTINE_MS } from '../../../src/registry/hold.ts';
import { deviceKeys } from '../../../src/registry/keys.ts';
import type { GrantRequest, OwnersReport, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { cutOff } from './cut-off.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

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
let request: GrantRequest;
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
  const failOver = await cutOff(redis, anchor);

  request = {
    ...{ pool: anchor, device: { tenant: 't', id: 'd1' }, thumbprint: '0'.repeat(43), kind: 'rsa-ip' },
    ...{ leaseMs: 600_000, requestId: randomBytes(16).toString('hex'), quota: 4 },
  };
  const granted = await store.grant(request);
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

  await failOver();
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

  test('a request that was answered before is answered with the lease that came back', async () => {
    await expect(store.report(anchor, report, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await store.report(anchor, report, TTL_MS);
    const again = await store.grant(request);
    expect(again.lease).toMatchObject({ id: lease.id, state: 'active' });
    expect(await leaseIds()).toEqual([lease.id]);
  });

  test('nobody is waited for when nobody has reported', async () => {
    await expect(store.snapshot(anchor)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await store.claim(anchor, STANDBY.id, STANDBY.boot, TTL_MS);
    expect(await leaseIds()).toEqual([]);
  });
});

describe('a lease whose end the registry knows, and whoever reports does not', () => {
  const device = { tenant: 't', id: 'd1' };
  const ends = {
    freed: (leaseId: string) => store.free({ leaseId, device, requestId: randomBytes(16).toString('hex') }),
    revoked: (leaseId: string) => store.revoke({ leaseId }),
  };
  const whoReports = [
    { as: 'owner', by: OWNER },
    { as: 'standby', by: STANDBY },
  ] as const;
  const cases = whoReports.flatMap(({ as, by }) =>
    (['freed', 'revoked'] as const).map((how) => ({ as, by, how })),
  );

  test.each(cases)('stays $how: reported by the $as', async ({ as, by, how }) => {
    await expect(store.report(anchor, report, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    const { epoch } = await store.report(anchor, report, TTL_MS);
    await store.appoint(anchor, OWNER.id, epoch, STANDBY, TTL_MS);
    const { leases, sessions, lastId } = await store.snapshot(anchor);
    const counter = BigInt(lastId.slice(lastId.indexOf('-') + 1));
    await ends[how](lease.id);
    await server.client().set('test:server', `third ${anchor}`);
    const behind = {
      ...{ relay: by.id, boot: by.boot, as, epoch, counter, hasStandby: true, leases, sessions },
    };
    await expect(store.report(anchor, behind, TTL_MS)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await store.report(anchor, behind, TTL_MS);
    expect(await leaseIds()).toEqual([]);
  });
});

describe('of an anchor whose owner is alone', () => {
  const COOLING_MS = 120_000;
  const LONG_TTL_MS = 1e9;
  let alone: string;
  let epoch: bigint;
  let counter: bigint;

  /** Granted, installed, acknowledged. */
  async function leases(device: string, address?: string): Promise<{ lease: Lease; session: Session }> {
    const granted = await store.grant({
      ...{ pool: alone, device: { tenant: 't', id: device }, thumbprint: '0'.repeat(43) },
      ...{ kind: 'rsa-ip', leaseMs: 600_000, requestId: randomBytes(16).toString('hex'), quota: 4 },
      ...(address === undefined ? {} : { local: { address } }),
    });
    const active = await store.activate(alone, granted.lease.id, epoch);
    counter = counterOf(active.fence);
    return { lease: active, session: granted.session };
  }
  async function leasesAndFrees(device: string): Promise<void> {
    const { id } = (await leases(device)).lease;
    const requestId = randomBytes(16).toString('hex');
    const { fence } = await store.free({ leaseId: id, device: { tenant: 't', id: device }, requestId });
    counter = counterOf(fence);
  }
  const counterOf = (fence: string) => BigInt(fence.slice(fence.indexOf('-') + 1));
  async function reports(
    held: Pick<OwnersReport, 'leases' | 'sessions'> = { leases: [], sessions: [] },
    to = store,
  ) {
    const of = { relay: OWNER.id, boot: OWNER.boot, epoch, counter, hasStandby: false };
    ({ epoch } = await to.report(alone, { ...of, ...held }, LONG_TTL_MS));
  }
  async function serves(...prefixes: string[]): Promise<void> {
    alone = `${anchor}-alone`;
    await store.declareAnchor({
      ...{ id: alone, pool: alone, sharing: 'whole', home: OWNER.id, endpoints: ['198.51.100.2'], prefixes },
    });
    ({ epoch } = await store.claim(alone, OWNER.id, OWNER.boot, LONG_TTL_MS));
  }
  const exhausted = { code: 'ERR_MOORING_EXHAUSTED' };

  describe('what was given back and forgotten', () => {
    /** `former` had the only address until it was cool; then `last` had it, which the registry has forgotten. */
    beforeEach(async () => {
      await serves('192.0.2.64/32');
      await leasesAndFrees('former');
      await passes(COOLING_MS);
      const failOver = await cutOff(server.client(), alone);
      await leasesAndFrees('last');
      await failOver();
    });

    test('rests for everybody, also for who had it before', async () => {
      await reports();
      await expect(leases('former')).rejects.toMatchObject(exhausted);
      await passes(COOLING_MS - 1);
      await expect(leases('former')).rejects.toMatchObject(exhausted);
      await passes(1);
      await leases('former');
    });

    test('rests for everybody, though another fail-over comes before the first is done with', async () => {
      const redis = server.client();
      const connection = commandConnection(redis, commandsWithTestClock(), QUARANTINE_MS);
      const run: typeof connection.run = (command, ...of) =>
        command === 'restore' ? Promise.reject(new Error('cut off')) : connection.run(command, ...of);
      const cutShort = createStore({ ...connection, run }, silent, async () => undefined);
      await expect(reports(undefined, cutShort)).rejects.toThrow('cut off');
      await redis.set('test:server', `third ${alone}`);
      await reports();
      await expect(leases('former')).rejects.toMatchObject(exhausted);
    });

    test('rests for everybody where nobody can say what it was', async () => {
      await expect(store.snapshot(alone)).rejects.toMatchObject(quarantined);
      await passes(QUARANTINE_MS);
      ({ epoch } = await store.claim(alone, OWNER.id, 'd'.repeat(16), LONG_TTL_MS));
      await expect(leases('former')).rejects.toMatchObject(exhausted);
      await passes(COOLING_MS);
      await leases('former');
    });
  });

  test('what was forwarded for until its owner heard that it had ended rests from then on', async () => {
    await serves('192.0.2.64/32');
    const held = await leases('last');
    const requestId = randomBytes(16).toString('hex');
    await store.free({ leaseId: held.lease.id, device: { tenant: 't', id: 'last' }, requestId });
    await passes(COOLING_MS);
    await server.client().set('test:server', `second ${alone}`);
    await reports({ leases: [held.lease], sessions: [held.session] });
    await passes(COOLING_MS - 1);
    await expect(leases('stranger')).rejects.toMatchObject(exhausted);
    await passes(1);
    await leases('stranger');
  });

  test('R22: what was given back rests for two minutes, and only its last device gets it sooner', async () => {
    await serves('192.0.2.64/32');
    await leasesAndFrees('last');
    await passes(COOLING_MS - 1);
    await expect(leases('stranger')).rejects.toMatchObject(exhausted);
    await leasesAndFrees('last');
    await passes(COOLING_MS);
    await leases('stranger');
  });

  test('what rested at the fail-over is still for its last device first', async () => {
    await serves('192.0.2.64/32');
    await leasesAndFrees('last');
    const failOver = await cutOff(server.client(), alone);
    await passes(1_000);
    await leasesAndFrees('last');
    await failOver();
    await reports();
    await expect(leases('stranger')).rejects.toMatchObject(exhausted);
    await leases('last');
  });

  test.each([
    ['192.0.2.0/24', '192.0.2.200'],
    ['2001:db8:7::/120', '2001:db8:7::c8'],
  ])('an address that was asked for by name comes back, wherever it is in %s', async (prefix, address) => {
    await serves(prefix);
    const failOver = await cutOff(server.client(), alone);
    const held = await leases('d1', address);
    await failOver();
    await reports({ leases: [held.lease], sessions: [held.session] });
    expect((await store.snapshot(alone)).leases).toMatchObject([{ id: held.lease.id, address }]);
  });
});
