import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { assembleCommands } from '../../../infra/build/lua.ts';
import { type CommandName, type Commands, commandConnection } from '../../../src/registry/connection.ts';
import { anchorKeys, deviceKeys, serversKey } from '../../../src/registry/keys.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** Scripts that take devices and anchors for the slots of two servers, as in a cluster. */
const { commands } = assembleCommands({
  replace: {
    server:
      "local server = redis.call('GET', string.find(KEYS[1], '{d:', 1, true) and 'test:devices' or 'test:anchors')",
  },
});

const alice = { tenant: 't', id: 'alice' };
const boot = '00'.repeat(8);
const HOUR_MS = 3_600_000;
let server: RealRedis;
let registry: Registry;
let asked: CommandName[];
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  const redis = server.client();
  await redis.flushall();
  await redis.mset('test:devices', 'first', 'test:anchors', 'other');
  await redis.hset(serversKey(), 'first', 0);
  const connection = commandConnection(redis, commands as unknown as Commands, 60_000);
  asked = [];
  const noting: typeof connection = {
    ...connection,
    run(command, keys, args) {
      asked.push(command);
      return connection.run(command, keys, args);
    },
  };
  registry = createStore(noting, silent, async () => undefined);
  for (const at of [1, 2, 3]) {
    await registry.declareAnchor({
      ...{ id: `a${at}`, pool: 'p', sharing: 'whole', home: 'r1', coolingMs: 0 },
      ...{ prefixes: [`192.0.2.${at * 8}/30`], endpoints: [`203.0.113.${at}`] },
    });
    await registry.claim(`a${at}`, 'r1', boot, 600_000);
  }
});

const wish = { pool: 'p', device: alice, thumbprint: 'k'.repeat(43), kind: 'rsa-ip' as const };
const grant = (requestId: string, more: { quota?: number; anchor?: string } = {}) =>
  registry.grant({ ...wish, leaseMs: 60_000, requestId, quota: 2, ...more });
const activated = async (requestId: string, anchor?: string) => {
  const { lease } = await grant(requestId, anchor === undefined ? {} : { anchor });
  return registry.activate(lease.anchor, lease.id, 1n);
};
/** All that any anchor holds. */
const held = async () => {
  const all = await Promise.all(['a1', 'a2', 'a3'].map((id) => registry.snapshot(id)));
  return all.flatMap(({ leases }) => leases.map(({ id }) => id));
};
/** The device's slot fails over to a replica that had it as `dumped` (default: had never heard of the device). */
const failOver = async (dumped: (Buffer | null)[] = []) => {
  const redis = server.client();
  for (const [at, key] of deviceKeys(alice).entries()) {
    await redis.del(key);
    if (dumped[at]) await redis.restore(key, 0, dumped[at]);
  }
  await redis.set('test:devices', 'second');
};
const dump = () => Promise.all(deviceKeys(alice).map((key) => server.client().dumpBuffer(key)));
/** Makes an anchor the one that a device without history is sent to. */
const prefer = async (anchor: string) => {
  await server.client().zadd('mooring1:{p:p}:anchors', 99, anchor);
};

describe('a request whose intent a fail-over has lost', () => {
  test('is answered by the lease that it was granted, on whichever anchor', async () => {
    const request = hex128();
    const lease = await activated(request, 'a2');
    await failOver();
    await prefer('a1');
    expect((await grant(request)).lease.id).toBe(lease.id);
    expect(await held()).toEqual([lease.id]);
  });

  test('is answered by the lease of an attempt that the index has not heard of', async () => {
    const request = hex128();
    for (const device of ['x', 'y', 'z', 'w'])
      await registry.grant({
        ...wish,
        ...{ device: { tenant: 't', id: device }, leaseMs: 60_000, requestId: hex128() },
        ...{ quota: 1, anchor: 'a1' },
      });
    await prefer('a1');
    // Intended for a1, and what followed is lost: a1 refuses, another grants.
    const { lease } = await grant(request);
    expect(lease.anchor).not.toBe('a1');
    const [heldKey = '', intentsKey = ''] = deviceKeys(alice);
    const intent = { anchor: 'a1', attempt: 'b'.repeat(11), bindId: 1, pool: 'p', lease: '' };
    await server.client().hset(intentsKey, request, JSON.stringify(intent));
    await server.client().del(heldKey);
    await failOver(await dump());
    expect((await grant(request)).lease.id).toBe(lease.id);
  });

  test('is granted once when its first grant arrives after the retry', async () => {
    const request = hex128();
    const connection = commandConnection(server.client(), commands as unknown as Commands, 60_000);
    // A node has its intent, and is slow.
    const mark = 'm'.repeat(11);
    const args = [request, mark, 'p', 'a1', 'a'.repeat(11), 2, '', '|first|'];
    const [, index] = (await connection.run('intend', deviceKeys(alice), args)) as [string, string];
    await failOver();
    await prefer('a3');
    const { lease } = await grant(request);
    expect(lease.anchor).toBe('a3');
    const late = await connection.run('grant', anchorKeys('a1'), [
      ...[index, `a1.${mark}${'a'.repeat(11)}`, 't', 'alice', wish.thumbprint, wish.kind, 60_000, 1],
      ...[hex128(), hex128(), 'a1', 'p'],
    ]);
    expect(late).toEqual({ refused: 'INDEX_BEHIND' });
    expect(await held()).toEqual([lease.id]);
  });

  test('waits for an anchor that may have lost its lease, and gets it when its owner has said so', async () => {
    const request = hex128();
    const redis = server.client();
    const keys = anchorKeys('a2').slice(0, -1);
    const replica = await Promise.all(keys.map((key) => redis.dumpBuffer(key)));
    const lease = await activated(request, 'a2');
    const { leases, sessions, epoch, lastId } = await registry.snapshot('a2');
    // The anchors' server fails over too, to one that has not heard of the lease.
    await redis.set('test:anchors', 'new');
    await redis.del(...keys);
    for (const [at, key] of keys.entries()) if (replica[at]) await redis.restore(key, 0, replica[at]);
    await failOver();
    await expect(grant(request)).rejects.toMatchObject({
      code: 'ERR_MOORING_QUARANTINED',
      temporary: true,
    });
    for (const id of ['a1', 'a2', 'a3']) {
      const own = id === 'a2' ? { leases, sessions } : { leases: [], sessions: [] };
      const counter = id === 'a2' ? BigInt(lastId.split('-')[1]!) : 1n;
      await registry.report(id, { relay: 'r1', boot, epoch, counter, hasStandby: false, ...own }, 600_000);
    }
    expect((await grant(request)).lease.id).toBe(lease.id);
    expect(await held()).toEqual([lease.id]);
  });

  test('counts what the device holds against its quota, and draws bind ids above', async () => {
    const first = await activated(hex128(), 'a1');
    const second = await activated(hex128(), 'a3');
    await failOver();
    await expect(grant(hex128())).rejects.toMatchObject({ rsip: 304 });
    const { lease } = await grant(hex128(), { quota: 3 });
    expect(new Set([first, second, lease].map(({ bindId }) => bindId)).size).toBe(3);
  });
});

describe('the anchors of a pool are asked', () => {
  test('for no device while no server has lost anything', async () => {
    await grant(hex128());
    expect(asked).not.toContain('held_on');
  });

  test('once for each device after a fail-over, until owners have repaired every index', async () => {
    await failOver();
    await grant(hex128());
    expect(asked.filter((command) => command === 'held_on')).toHaveLength(3);
    asked.length = 0;
    await grant(hex128());
    expect(asked).not.toContain('held_on');
    const nowMs = Number((await server.client().time())[0]) * 1000;
    await server.client().hset(serversKey(), 'second', nowMs - HOUR_MS - 5_000);
    await registry.grant({
      ...wish,
      ...{ device: { tenant: 't', id: 'bob' }, leaseMs: 60_000, requestId: hex128(), quota: 1 },
    });
    expect(asked).not.toContain('held_on');
  });
});
