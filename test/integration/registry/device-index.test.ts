import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { commandConnection } from '../../../src/registry/connection.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;
const alice = { tenant: 't', id: 'alice' };
const index = 'mooring2:{d:t/alice}';
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
  for (const at of [1, 2]) {
    await registry.declareAnchor({
      ...{ id: `a${at}`, pool: 'p', sharing: 'whole', home: 'r1' },
      ...{ prefixes: [`192.0.2.${at * 8}/30`], endpoints: [`203.0.113.${at}`] },
    });
    await registry.claim(`a${at}`, 'r1', '00'.repeat(8), 600_000);
  }
});
const grant = (requestId = hex128(), anchor?: string) =>
  registry.grant({
    ...{
      pool: 'p',
      device: alice,
      thumbprint: 'k'.repeat(43),
      kind: 'rsa-ip',
      leaseMs: 60_000,
      requestId,
      quota: 2,
    },
    ...(anchor === undefined ? {} : { anchor }),
  });
const held = async () => (await registry.deviceLeases(alice)).map(({ id }) => id).sort();

describe('the index of a device', () => {
  test('counts nothing that its anchors do not have', async () => {
    const leases = [await grant(), await grant()];
    // Both ended, and the word of it was lost on the way to the index.
    for (const { lease } of leases) await registry.withdraw(lease.id);
    await server.client().hset(index, leases[0]!.lease.id, '+p', leases[1]!.lease.id, '+p');
    const { lease } = await grant();
    expect(await held()).toEqual([lease.id]);
  });

  test('is told by the anchors again when it was lost, and what it had counts against the quota', async () => {
    const first = (await grant(hex128(), 'a1')).lease.id;
    const second = (await grant(hex128(), 'a2')).lease.id;
    await server.client().del(index);
    expect(await held()).toEqual([]);
    for (const anchor of ['a1', 'a2']) await registry.reindex(anchor);
    expect(await held()).toEqual([first, second].sort());
    await expect(grant()).rejects.toMatchObject({ code: 'ERR_MOORING_QUOTA' });
  });

  test('is one small piece of memory, also with the longest names and while much is intended and has ended', async () => {
    const [pool, id] = ['p', 'a'].map((letter) => letter.repeat(32)) as [string, string];
    await registry.declareAnchor({
      ...{ id, pool, sharing: 'whole', home: 'r1', coolingMs: 0 },
      ...{ prefixes: ['198.51.100.0/25'], endpoints: ['203.0.113.9'] },
    });
    await registry.claim(id, 'r1', '00'.repeat(8), 600_000);
    await registry.register({ device: alice, leaseMs: 60_000 });
    const of = { pool, device: alice, thumbprint: 'k'.repeat(43), kind: 'rsa-ip' as const };
    for (let at = 0; at < 150; at += 1) {
      const request = { ...of, leaseMs: 60_000, requestId: hex128(), quota: 1 };
      const { lease } = await registry.grant(request);
      await registry.free({ leaseId: lease.id, device: alice, requestId: hex128() });
      // It ended: that is what a retry is told.
      await expect(registry.grant(request)).rejects.toMatchObject({ code: 'ERR_MOORING_REQUEST_ENDED' });
    }
    await registry.release(id, 'r1', 1n);
    await expect(registry.grant({ ...of, leaseMs: 1, requestId: hex128(), quota: 1 })).rejects.toMatchObject({
      code: 'ERR_MOORING_NO_OWNER',
    });
    expect(await server.client().object('ENCODING', index)).toBe('listpack');
    expect(await server.client().hlen(index)).toBeLessThan(140);
  });

  test('sends a device to the anchor that it had last, also when that held its lease no more', async () => {
    const first = (await grant(hex128(), 'a2')).lease;
    await server.client().zadd('mooring1:{p:p}:anchors', 99, 'a1');
    const second = (await grant()).lease;
    expect(second.anchor).toBe('a2');
    for (const { id } of [first, second]) {
      await registry.free({ leaseId: id, device: alice, requestId: hex128() });
    }
    expect((await grant()).lease).toMatchObject({ anchor: 'a2' });
  });

  test('sends nobody to an anchor that has come to another pool', async () => {
    const { lease } = await grant(hex128(), 'a2');
    await registry.free({ leaseId: lease.id, device: alice, requestId: hex128() });
    await registry.claim('a2', 'r1', '00'.repeat(8), 600_000);
    await server.client().hset('mooring2:{a:a2}:meta', 'pool', 'q');
    expect((await grant()).lease.anchor).toBe('a1');
  });

  test('is made anew when something else has written to it', async () => {
    const { lease } = await grant();
    await server.client().set(index, 'garbage');
    await registry.reindex(lease.anchor);
    expect(await held()).toEqual([lease.id]);
  });
});
