import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { assembleCommands } from '../../../infra/build/lua.ts';
import { type CommandName, type Commands, commandConnection } from '../../../src/registry/connection.ts';
import { anchorKeys, deviceKeys, indexName, serversKey } from '../../../src/registry/keys.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** Scripts that take devices and anchors for the slots of two servers, as in a cluster. */
const replace = {
  server:
    "local server = redis.call('GET', string.find(KEYS[1], '{d:', 1, true) and 'test:devices' or 'test:anchors')",
};
const { commands } = assembleCommands({ replace });
/** Those of a version that keeps devices' indexes in another layout. */
const OTHER_LAYOUT = '/1';
const { commands: otherCommands } = assembleCommands({
  replace,
  mutate: (_, lua) => lua.replace("server .. '/2'", `server .. '${OTHER_LAYOUT}'`),
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
  await redis.hset(serversKey(), indexName('first'), 0);
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

  test('would be granted another, were the index believed', async () => {
    const from = 'if not isTrusted and';
    const { commands: believing } = assembleCommands({
      replace,
      mutate: (command, lua) => {
        if (command !== 'intend') return lua;
        expect(lua).toContain(from);
        return lua.replace(from, 'if false and');
      },
    });
    const connection = commandConnection(server.client(), believing as unknown as Commands, 60_000);
    const credulous = createStore(connection, silent, async () => undefined);
    const request = hex128();
    const lease = await activated(request, 'a2');
    await failOver();
    await prefer('a1');
    const again = await credulous.grant({ ...wish, leaseMs: 60_000, requestId: request, quota: 2 });
    expect(again.lease.id).not.toBe(lease.id);
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
    const [index = ''] = deviceKeys(alice);
    const intended = `a1.${lease.id.slice(-22, -11)}${'b'.repeat(11)}`;
    await server.client().hdel(index, lease.id);
    await server.client().hset(index, intended, `?p ${Date.now()} 1`);
    await failOver(await dump());
    expect((await grant(request)).lease.id).toBe(lease.id);
  });

  test('is granted once when its first grant arrives after the retry', async () => {
    const request = hex128();
    const connection = commandConnection(server.client(), commands as unknown as Commands, 60_000);
    // A node has its intent, and is slow.
    const mark = 'm'.repeat(11);
    const args = [mark, 'p', 'a1', 0, 'a'.repeat(11), 2, '', `|${indexName('first')}|`];
    const answer = await connection.run('intend', deviceKeys(alice), args);
    const [leaseId, , index] = answer as [string, number, string];
    await failOver();
    await prefer('a3');
    const { lease } = await grant(request);
    expect(lease.anchor).toBe('a3');
    const late = await connection.run('grant', anchorKeys('a1'), [
      ...[index, leaseId, 't', 'alice', wish.thumbprint, wish.kind, 60_000, 1],
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

test('a request that goes to and fro between nodes that keep indexes in different layouts is one lease', async () => {
  const redis = server.client();
  // The other layout's were there first.
  await redis.del(serversKey());
  await redis.hset(serversKey(), `first${OTHER_LAYOUT}`, 0);
  const connection = commandConnection(redis, otherCommands as unknown as Commands, 60_000);
  const elsewhere: typeof connection = {
    ...connection,
    run: (command, keys, args) =>
      connection.run(
        command,
        keys.map((key) => key.replace('{d:', 'other:{d:')),
        args,
      ),
  };
  const nodes = [createStore(elsewhere, silent, async () => undefined), registry] as const;
  const leases = new Set<string>();
  for (const [at, requestId] of [hex128(), hex128(), hex128(), hex128()].entries()) {
    const one = { ...wish, leaseMs: 60_000, requestId, quota: 4 };
    const inTurn = at % 2 === 0 ? nodes : nodes.toReversed();
    const ids: string[] = [];
    for (const node of inTurn) {
      ids.push((await node.grant(one)).lease.id);
      // Where it would go next is not where it went.
      await prefer(`a${((at + ids.length) % 3) + 1}`);
    }
    expect(new Set(ids).size).toBe(1);
    leases.add(ids[0]!);
  }
  expect((await held()).sort()).toEqual([...leases].sort());
  await expect(grant(hex128(), { quota: 4 })).rejects.toMatchObject({ rsip: 304 });
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
    await server.client().hset(serversKey(), indexName('second'), nowMs - HOUR_MS - 5_000);
    await registry.grant({
      ...wish,
      ...{ device: { tenant: 't', id: 'bob' }, leaseMs: 60_000, requestId: hex128(), quota: 1 },
    });
    expect(asked).not.toContain('held_on');
  });
});
