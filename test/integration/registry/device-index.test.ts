import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { commandConnection } from '../../../src/registry/connection.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;
const alice = { tenant: 't', id: 'alice' };
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
    const index = 'mooring1:{d:t/alice}:held';
    await server.client().hset(index, leases[0]!.lease.id, 'p', leases[1]!.lease.id, 'p');
    const { lease } = await grant();
    expect(await held()).toEqual([lease.id]);
  });

  test('is told by the anchors again when it was lost, and what it had counts against the quota', async () => {
    const first = (await grant(hex128(), 'a1')).lease.id;
    const second = (await grant(hex128(), 'a2')).lease.id;
    await server
      .client()
      .del(...['held', 'intents', 'ages', 'open', 'notes'].map((part) => `mooring1:{d:t/alice}:${part}`));
    expect(await held()).toEqual([]);
    for (const anchor of ['a1', 'a2']) await registry.reindex(anchor);
    expect(await held()).toEqual([first, second].sort());
    await expect(grant()).rejects.toMatchObject({ code: 'ERR_MOORING_QUOTA' });
  });

  test('is made anew when something else has written to it', async () => {
    const { lease } = await grant();
    await server.client().set('mooring1:{d:t/alice}:held', 'garbage');
    await server.client().set('mooring1:{d:t/alice}:intents', 'garbage');
    await registry.reindex(lease.anchor);
    expect(await held()).toEqual([lease.id]);
  });
});
