import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import type { Device, Lease } from '../../../src/protocol/lease.ts';
import { type Connection, commandConnection } from '../../../src/registry/connection.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { GrantRequest, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { commandsWithTestClock } from '../../oracle/registry-run.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** Several leases of one device, and its registration, by a clock that the test turns. */
let server: RealRedis;
let connection: Connection;
let registry: Registry;
beforeAll(async () => {
  server = await realRedis();
  connection = commandConnection(server.client(), commandsWithTestClock());
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  await server.client().set('test:now', 1_000_000);
  registry = createStore(connection, silent, async () => undefined);
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'shared', portBlock: 8192, spiBlock: 16, home: 'r1' },
    ...{ prefixes: ['192.0.2.1/32'], endpoints: ['203.0.113.1'] },
  });
  await registry.claim('a1', 'r1', '00'.repeat(8), 1e12);
});

const device: Device = { tenant: 't', id: 'd' };
const passes = (seconds: number) => server.client().incrby('test:now', seconds * 1_000);
const grant = async (seconds: number, more: Partial<GrantRequest> = {}): Promise<Lease> => {
  const { lease } = await registry.grant({
    ...{ pool: 'p', device, thumbprint: 'k'.repeat(43), kind: 'rsap-ip', quota: 9 },
    ...{ leaseMs: seconds * 1_000, requestId: hex128(), ...more },
  });
  return registry.activate('a1', lease.id, 1n);
};
const about = (lease: Lease) => ({ leaseId: lease.id, device: lease.device, requestId: hex128() });
const left = async () => ((await registry.registration(device))?.remainingMs ?? 0) / 1_000;

test('R17: a registration lasts as long as the longest binding, by every grant and extension', async () => {
  const { clientId } = await registry.register({ device, leaseMs: 60_000 });
  const long = await grant(300);
  await grant(100);
  expect(await left()).toBe(300);
  await passes(200);
  expect(await registry.registration(device)).toEqual({ clientId, remainingMs: 100_000 });
  await registry.extend({ ...about(long), leaseMs: 300_000 });
  await passes(250);
  expect(await left()).toBe(50);
  await grant(80);
  expect(await left()).toBe(80);
  await passes(80);
  expect(await left()).toBe(0);
});

test('R18: a registration that runs out is no more, and the next one is another', async () => {
  const { clientId } = await registry.register({ device, leaseMs: 60_000 });
  await passes(59);
  expect(await left()).toBe(1);
  await passes(1);
  expect(await registry.registration(device)).toBeNull();
  const next = await registry.register({ device, leaseMs: 60_000 });
  expect(next.clientId).not.toBe(clientId);
});

test('R20: an extension counts from its message, once however often that arrives', async () => {
  const lease = await grant(60);
  await passes(50);
  const asked = { ...about(lease), leaseMs: 60_000 };
  expect((await registry.extend(asked)).lease.remainingMs).toBe(60_000);
  await passes(30);
  expect((await registry.extend(asked)).lease.remainingMs).toBe(30_000);
  await passes(30);
  await expect(registry.extend({ ...about(lease), leaseMs: 60_000 })).rejects.toMatchObject({ rsip: 306 });
});

test('R22: what rests is not to be had by its name either, but by its last device', async () => {
  const lease = await grant(600);
  const named = { local: { address: lease.address, port: lease.ports!.first } };
  const stranger: Device = { tenant: 't', id: 's' };
  await registry.free(about(lease));
  await expect(grant(600, { ...named, device: stranger })).rejects.toMatchObject({ rsip: 311 });
  const again = await grant(600, named);
  expect(again.ports).toEqual(lease.ports);
  await registry.free(about(again));
  await passes(120);
  expect((await grant(600, { ...named, device: stranger })).ports).toEqual(lease.ports);
});

test('R30: bindings of one device have ids of their own and are freed one by one; the address stays with the others', async () => {
  const [first, second] = [await grant(600), await grant(600)];
  expect(first.address).toBe(second.address);
  expect([first.bindId, second.bindId]).toEqual([1, 2]);
  await registry.free(about(first));
  expect((await registry.deviceLeases(device)).map(({ id }) => id)).toEqual([second.id]);
  await registry.extend({ ...about(second), leaseMs: 600_000 });
  const stranger = await grant(600, { device: { tenant: 't', id: 's' } });
  expect(stranger.bindId).toBe(1);
  expect([first.ports, second.ports]).not.toContainEqual(stranger.ports);
  expect((await grant(600)).bindId).toBe(3);
});

test('R34: who asks for all gets what one may have, and another still finds something', async () => {
  const asked = Array.from({ length: 20 }, () => grant(600, { quota: 4 }).catch(() => null));
  expect((await Promise.all(asked)).filter((lease) => lease !== null)).toHaveLength(4);
  await expect(grant(600, { quota: 4 })).rejects.toMatchObject({ code: 'ERR_MOORING_QUOTA', rsip: 304 });
  await grant(600, { quota: 4, device: { tenant: 't', id: 'other' } });
});
