import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;

beforeAll(async () => {
  server = await realRedis();
  registry = await openRegistry({ url: server.socket, log: silent });
  await registry.declareAnchor({
    id: 'a1',
    pool: 'shared',
    sharing: 'shared',
    prefixes: ['192.0.2.8/30'],
    endpoints: ['198.51.100.1'],
    home: 'r1',
  });
  await registry.claim('a1', 'r1', '00'.repeat(8), 60_000);
});
afterAll(async () => {
  await registry?.close();
  await server.stop();
});

const hex = () => randomBytes(16).toString('hex');
async function lease(id: string, tenant = 'acme') {
  const device = { tenant, id };
  const wish = { pool: 'shared', device, thumbprint: 'k'.repeat(43), kind: 'rsipsec', quota: 4 } as const;
  const granted = await registry.grant({ ...wish, leaseMs: 60_000, requestId: hex() });
  return registry.activate('a1', granted.lease.id, (await registry.owner('a1'))!.epoch);
}

test('what an operator revokes ends in the stream, whoever owns the anchor next', async () => {
  const { id, device } = await lease('d1');
  const before = (await registry.snapshot('a1')).lastId;
  const event = await registry.revoke({ leaseId: id });
  expect(event).toMatchObject({ type: 'ended', reason: 'revoked', lease: { id } });
  await registry.release('a1', 'r1', 1n);
  await registry.claim('a1', 'r2', '11'.repeat(8), 60_000, true);
  expect((await registry.snapshot('a1')).leases.filter((one) => one.id === id)).toEqual([]);
  expect(await registry.deviceLeases(device)).toEqual([]);
  const page = await registry.events('a1', before, 10);
  expect(page).toMatchObject({
    reload: false,
    events: [{ type: 'ended', reason: 'revoked', lease: { id } }, { type: 'owned' }],
  });
  await expect(
    registry.extend({ leaseId: id, device, leaseMs: 60_000, requestId: hex() }),
  ).rejects.toMatchObject({ rsip: 306 });
});

test('said twice it is done once, and answered the same', async () => {
  const { id } = await lease('d2');
  const first = await registry.revoke({ leaseId: id });
  const after = (await registry.snapshot('a1')).lastId;
  const second = await registry.revoke({ leaseId: id });
  expect(second.fence).toBe(first.fence);
  expect((await registry.snapshot('a1')).lastId).toBe(after);
});

test("an operator of one tenant cannot end, nor see ended, another's lease", async () => {
  const { id } = await lease('d3', 'other');
  await expect(registry.revoke({ leaseId: id, tenant: 'acme' })).rejects.toMatchObject({ rsip: 306 });
  expect(await registry.deviceLeases({ tenant: 'other', id: 'd3' })).toHaveLength(1);
  await registry.revoke({ leaseId: id, tenant: 'other' });
  await expect(registry.revoke({ leaseId: id, tenant: 'acme' })).rejects.toMatchObject({ rsip: 306 });
});

test('a lease that never was is no lease', async () => {
  await expect(registry.revoke({ leaseId: `a1.${'x'.repeat(22)}` })).rejects.toMatchObject({ rsip: 306 });
});
