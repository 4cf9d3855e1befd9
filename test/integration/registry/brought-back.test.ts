import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { QUARANTINE_MS } from '../../../src/registry/hold.ts';
import type { OwnersReport, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { cutOff } from './cut-off.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** An owner that is away while its registry fails over, and its standby. What the owner acknowledged comes back. */
const TTL_MS = 450;
const COOLING_MS = 120_000;
const OWNER = { id: 'r1', boot: 'b'.repeat(16) };
const STANDBY = { id: 'r2', boot: 'c'.repeat(16) };
const HOLDER = 'holder';

let server: RealRedis;
let store: Registry;
let anchor: string;
let epoch: bigint;
let nowMs = 1_700_000_000_000;
let anchors = 0;
let failOver: () => Promise<void>;
beforeAll(async () => {
  server = await realRedis();
  const connection = commandConnection(server.client(), commandsWithTestClock(), QUARANTINE_MS);
  store = createStore(connection, silent, async () => undefined);
});
afterAll(() => server.stop());

async function passes(ms: number): Promise<void> {
  nowMs += ms;
  await server.client().set('test:now', nowMs);
}

type Held = { readonly lease: Lease; readonly session: Session };

async function grants(device: string, leaseMs = 600_000): Promise<Held> {
  return store.grant({
    ...{ pool: anchor, device: { tenant: 't', id: device }, thumbprint: '0'.repeat(43), kind: 'rsa-ip' },
    ...{ leaseMs, requestId: randomBytes(16).toString('hex'), quota: 4 },
  });
}
async function leases(device: string, leaseMs?: number): Promise<Held> {
  const { lease, session } = await grants(device, leaseMs);
  return { lease: await store.activate(anchor, lease.id, epoch), session };
}
const extendsIt = (lease: Lease, leaseMs: number) =>
  store.extend({
    ...{ leaseId: lease.id, device: lease.device, leaseMs },
    requestId: randomBytes(16).toString('hex'),
  });

/** What somebody who has read as far as the last of these leases has. */
function knows(...held: readonly Held[]): Pick<OwnersReport, 'epoch' | 'counter' | 'leases' | 'sessions'> {
  const [of = '0', counter = '0'] = held.at(-1)!.lease.fence.split('-');
  return {
    ...{ epoch: BigInt(of), counter: BigInt(counter) },
    leases: held.map(({ lease }) => lease),
    sessions: held.map(({ session }) => session),
  };
}
const reports = (relay: typeof OWNER, as: 'owner' | 'standby', ...held: readonly Held[]) =>
  store.report(
    anchor,
    { ...{ relay: relay.id, boot: relay.boot }, hasStandby: true, as, ...knows(...held) },
    TTL_MS,
  );
async function standbyClaims(): Promise<void> {
  await expect(store.snapshot(anchor)).rejects.toMatchObject(quarantined);
  await passes(QUARANTINE_MS);
  ({ epoch } = await store.claim(anchor, STANDBY.id, STANDBY.boot, 600_000));
}
const held = async () => (await store.snapshot(anchor)).leases.map(({ id, state }) => ({ id, state }));
const quarantined = { code: 'ERR_MOORING_QUARANTINED' };

beforeEach(async () => {
  anchors += 1;
  anchor = `a${anchors}`;
  await passes(0);
  await server.client().set('test:server', `first ${anchor}`);
  await store.declareAnchor({
    ...{ id: anchor, pool: anchor, sharing: 'whole', home: OWNER.id, coolingMs: COOLING_MS },
    ...{ prefixes: ['192.0.2.0/31'], endpoints: ['198.51.100.1'] },
  });
  ({ epoch } = await store.claim(anchor, OWNER.id, OWNER.boot, TTL_MS));
  await store.appoint(anchor, OWNER.id, epoch, STANDBY, TTL_MS);
});
/** From now on no replica hears of the anchor. */
const isCutOff = async () => {
  failOver = await cutOff(server.client(), anchor);
};

test('what was freed before its owner could hear of it rests anew: it was forwarded for until now', async () => {
  const known = [await leases(HOLDER), await leases('other')];
  const { id, device } = known[0]!.lease;
  await store.free({ leaseId: id, device, requestId: 'f'.repeat(32) });
  await passes(COOLING_MS - QUARANTINE_MS);
  await isCutOff();
  await failOver();
  await expect(reports(OWNER, 'owner', ...known)).rejects.toMatchObject(quarantined);
  await passes(QUARANTINE_MS);
  await reports(OWNER, 'owner', ...known);
  ({ epoch } = await store.claim(anchor, OWNER.id, OWNER.boot, 600_000));
  await expect(leases('stranger')).rejects.toMatchObject({ code: 'ERR_MOORING_EXHAUSTED' });
  await passes(COOLING_MS);
  expect((await leases('stranger')).lease.address).toBe(known[0]!.lease.address);
});

describe('a standby whose owner is away for all of the quarantine', () => {
  test('goes on with what it has followed', async () => {
    await isCutOff();
    const lost = await leases(HOLDER);
    await failOver();
    await expect(reports(STANDBY, 'standby', lost)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    ({ epoch } = await reports(STANDBY, 'standby', lost));
    expect(await held()).toEqual([{ id: lost.lease.id, state: 'active' }]);
    expect((await store.owner(anchor))?.relay).toBe(STANDBY.id);
  });

  test('does not bring back what was freed before it could hear of it', async () => {
    const known = await leases(HOLDER);
    const { id, device } = known.lease;
    await store.free({ leaseId: id, device, requestId: 'f'.repeat(32) });
    await isCutOff();
    const lost = await leases(HOLDER);
    await failOver();
    await expect(reports(STANDBY, 'standby', known)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await reports(STANDBY, 'standby', known);
    expect(await held()).toEqual([]);
    expect(lost.lease.address).toBe(known.lease.address);
    await store.bringBack(anchor, knows(lost));
    expect(await held(), 'what has its address since').toEqual([{ id: lost.lease.id, state: 'active' }]);
  });

  test('counts what is pending as acknowledged', async () => {
    const known = await grants('known');
    await isCutOff();
    const followed = await grants(HOLDER);
    await failOver();
    await expect(reports(STANDBY, 'standby', known, followed)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await reports(STANDBY, 'standby', known, followed);
    expect((await held()).map(({ state }) => state)).toEqual(['active', 'active']);
  });

  test('says less than an owner that comes back in time, though it has read more', async () => {
    await isCutOff();
    const acknowledged = await leases(HOLDER);
    const unacknowledged = await grants('other');
    await failOver();
    await expect(reports(STANDBY, 'standby', acknowledged, unacknowledged)).rejects.toMatchObject(
      quarantined,
    );
    await expect(reports(OWNER, 'owner', acknowledged)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await expect(reports(STANDBY, 'standby', acknowledged, unacknowledged)).rejects.toMatchObject({
      code: 'ERR_MOORING_STALE_EPOCH',
    });
    await reports(OWNER, 'owner', acknowledged);
    expect(await held()).toEqual([{ id: acknowledged.lease.id, state: 'active' }]);
  });

  test('does not get the anchor when the registry names another', async () => {
    const other = { id: 'r3', boot: 'd'.repeat(16) };
    await isCutOff();
    const lost = await leases(HOLDER);
    await failOver();
    await expect(reports(other, 'standby', lost)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await expect(reports(other, 'standby', lost)).rejects.toMatchObject(quarantined);
    await store.claim(anchor, STANDBY.id, STANDBY.boot, TTL_MS);
  });
});

describe('an owner that comes back after its standby has claimed', () => {
  let lost: Held;
  const comesBack = (...known: readonly Held[]) =>
    store.bringBack(anchor, knows(...(known.length > 0 ? known : [lost])));

  async function loses(leaseMs?: number): Promise<void> {
    await isCutOff();
    lost = await leases(HOLDER, leaseMs);
    await failOver();
  }

  test('gives back what counts among what its tenant may hold', async () => {
    const { draining: _, capacity: __, ...declared } = (await store.anchor(anchor))!;
    await store.declareAnchor({ ...declared, maxLeasesPerTenant: 1 });
    await loses();
    await standbyClaims();
    expect(await comesBack()).toBe(true);
    await passes(COOLING_MS + 1);
    await expect(grants('another')).rejects.toMatchObject({ code: 'ERR_MOORING_TENANT_QUOTA' });
  });

  test('gives back what it acknowledged, and whoever owns the anchor now hears of it', async () => {
    await loses();
    await standbyClaims();
    const { lastId } = await store.snapshot(anchor);
    expect(await comesBack()).toBe(true);
    const page = await store.events(anchor, lastId, 10);
    expect(page).toMatchObject({
      events: [
        {
          type: 'granted',
          lease: { ...lost.lease, fence: expect.anything(), remainingMs: expect.anything() },
          session: lost.session,
        },
      ],
    });
    expect(await comesBack(), 'said again').toBe(false);
    expect(await held()).toEqual([{ id: lost.lease.id, state: 'active' }]);
  });

  test('gives back by how much it was extended, also when it has run out since', async () => {
    const known = await leases(HOLDER, QUARANTINE_MS + 60_000);
    await isCutOff();
    const { lease } = await extendsIt(known.lease, 600_000);
    await failOver();
    await standbyClaims();
    await passes(60_000);
    await store.sweep(anchor, epoch, 10);
    expect(await held()).toEqual([]);
    await comesBack({ lease, session: known.session });
    expect(await held()).toEqual([{ id: lease.id, state: 'active' }]);
  });

  test('has nothing to say of what it had no more', async () => {
    const known = await leases(HOLDER);
    await isCutOff();
    const { lease } = await extendsIt(known.lease, 600_000);
    await failOver();
    await standbyClaims();
    await store.free({ leaseId: lease.id, device: lease.device, requestId: 'f'.repeat(32) });
    await comesBack({ lease, session: known.session });
    expect(await held(), 'freed since').toEqual([]);
  });

  test('gives back no address that a stranger has had since', async () => {
    await loses(3_600_000);
    await standbyClaims();
    await passes(COOLING_MS);
    const strangers = [await leases('one', 1_000), await leases('two', 600_000)];
    await comesBack();
    expect((await held()).map(({ id }) => id)).not.toContain(lost.lease.id);
    await passes(1_000);
    await store.sweep(anchor, epoch, 10);
    await comesBack();
    expect(await held(), 'while it rests').toEqual([{ id: strangers[1]!.lease.id, state: 'active' }]);
  });

  test('finds the index of its session free', async () => {
    await loses();
    await standbyClaims();
    await passes(COOLING_MS);
    const stranger = await leases('stranger');
    expect(stranger.session.index).not.toBe(lost.session.index);
  });

  test('gives back nothing that its standby has seen end', async () => {
    await isCutOff();
    lost = await leases(HOLDER);
    await store.revoke({ leaseId: lost.lease.id });
    const after = await leases('other');
    await failOver();
    await expect(reports(STANDBY, 'standby', after)).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    ({ epoch } = await reports(STANDBY, 'standby', after));
    expect(await comesBack()).toBe(false);
    expect(await held()).toEqual([{ id: after.lease.id, state: 'active' }]);
  });

  test('gives it back where its device had freed another before, of which the registry has not heard', async () => {
    const known = await leases(HOLDER);
    await isCutOff();
    const { id, device, address } = known.lease;
    await store.free({ leaseId: id, device, requestId: 'f'.repeat(32) });
    lost = await leases(HOLDER);
    await failOver();
    await standbyClaims();
    expect(await held()).toEqual([{ id, state: 'active' }]);
    await comesBack();
    expect(await held()).toEqual([{ id: lost.lease.id, state: 'active' }]);
    expect(lost.lease.address).toBe(address);
    await passes(COOLING_MS);
    expect((await leases('stranger')).lease.address).not.toBe(address);
    await expect(grants('another')).rejects.toMatchObject({ code: 'ERR_MOORING_EXHAUSTED' });
  });

  test('gives it back also when a second fail-over has lost that it was not heard', async () => {
    await loses();
    await expect(store.snapshot(anchor)).rejects.toMatchObject(quarantined);
    await isCutOff();
    await standbyClaims();
    const counter = BigInt((await store.snapshot(anchor)).lastId.split('-')[1]!);
    const known = { epoch, counter, leases: [], sessions: [] };
    await failOver();
    await server.client().set('test:server', `third ${anchor}`);
    const reported = () =>
      store.report(anchor, { relay: STANDBY.id, boot: STANDBY.boot, hasStandby: true, ...known }, TTL_MS);
    await expect(reported()).rejects.toMatchObject(quarantined);
    await passes(QUARANTINE_MS);
    await reported();
    expect(await comesBack()).toBe(true);
    expect(await held()).toEqual([{ id: lost.lease.id, state: 'active' }]);
  });

  test('is heard for an hour', async () => {
    await loses(7_200_000);
    await standbyClaims();
    await passes(3_600_000);
    expect(await comesBack()).toBe(false);
  });
});
