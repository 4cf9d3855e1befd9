import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  cluster,
  type RedisShape,
  standalone,
  until,
  withSentinels,
} from '../../../infra/lab/redis-shapes.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';
import { openRegistry, reachRedis } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { expectNothingLostOrDoubled, keyOf, loseOneGrant } from './lost-grant.ts';
import { type OneRelay, oneRelay } from './one-relay.ts';
import { silent } from './real-redis.ts';

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'done',
    (error: MooringError) => error.code,
  );

describe('behind sentinels', () => {
  let shape: RedisShape;
  let registry: Registry;
  let relay: OneRelay;
  beforeAll(async () => {
    shape = await withSentinels();
    registry = await openRegistry({ url: shape.url, log: silent });
    relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
  });
  afterAll(async () => {
    await registry.close();
    await shape.stop();
  });

  test('a replica that may evict leases is refused as well, with the command for it', async () => {
    await shape.server('r3').call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
    const error: MooringError = await openRegistry({ url: shape.url, log: silent }).catch((cause) => cause);
    expect(error.code).toBe('ERR_MOORING_REGISTRY_UNFIT');
    const { address, port } = shape.server('r3');
    expect(error.message).toContain(
      `redis-cli -h ${address} -p ${port} CONFIG SET maxmemory-policy noeviction`,
    );
    await shape.server('r3').call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
  });

  test('a client that hears of another primary just while it looks for one does not end', async () => {
    const { client, close } = await reachRedis({ url: shape.url, name: 'mooring-test', log: silent });
    let ended = false;
    client.once('end', () => {
      ended = true;
    });
    client.once('connecting', () => client.disconnect(true));
    client.disconnect(true);
    await until('it ended', async () => ended);
    await until('it answers again', async () => (await client.ping()) === 'PONG');
    close();
  });

  test('a primary cut off with an acknowledged grant: grants go on at another, the grant is not lost, none is doubled', async () => {
    await relay.lease('d1');
    const { lost, ledger } = await loseOneGrant(shape, relay, ['s1', 's2', 's3']);
    expect(ledger).toBe(1);
    const next = await relay.persist(() => relay.lease('d2'));
    expect(next.address).not.toBe(lost.address);
    await expectNothingLostOrDoubled(registry, relay);
    await shape.heal();
  });

  test('it opens amid a fail-over too; a primary that hangs: grants go on at another', async () => {
    const hung = await shape.primaryOf(keyOf('a1'));
    hung.pause();
    const opening = relay.persist(() => openRegistry({ url: shape.url, log: silent }));
    opening.catch(() => undefined);
    await until('another primary', async () => {
      const said = (await shape
        .server('s1')
        .call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'mooring')) as string[];
      return said[0] !== hung.address;
    });
    await relay.persist(() => relay.lease('d3'));
    hung.resume();
    await (await opening).close();
    await expectNothingLostOrDoubled(registry, relay);
  });
});

describe('behind a cluster', () => {
  let shape: RedisShape;
  let registry: Registry;
  let relay: OneRelay;
  beforeAll(async () => {
    shape = await cluster();
    registry = await openRegistry({ url: shape.url, log: silent });
    relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
  });
  afterAll(async () => {
    await registry.close();
    await shape.stop();
  });

  test('a server that may evict leases is refused, whichever it is, also when the others hold it for failed just now', async () => {
    const [unfit, ...others] = ['c5', 'c1', 'c2', 'c3', 'c4', 'c6'].map((name) => shape.server(name));
    if (unfit === undefined) throw new Error('a cluster has six servers');
    const refused = async () => {
      const error: MooringError = await openRegistry({ url: shape.url, log: silent }).catch((cause) => cause);
      expect(error.code).toBe('ERR_MOORING_REGISTRY_UNFIT');
      expect(error.message).toContain(`redis-cli -h ${unfit.address} -p`);
    };
    await unfit.call('CONFIG', 'SET', 'maxmemory-policy', 'volatile-ttl');
    await refused();
    await shape.cut(
      [unfit.name],
      others.map(({ name }) => name),
    );
    await until('it is left out of who serves what', async () => {
      const said = await Promise.all(others.map((one) => one.call('CLUSTER', 'SLOTS')));
      return !said.some((slots) => JSON.stringify(slots).includes(unfit.address));
    });
    await refused();
    await unfit.call('CONFIG', 'SET', 'maxmemory-policy', 'noeviction');
    await shape.heal();
    await shape.settled();
  });

  test('a slot that moves to another server: its anchor is quarantined once and goes on there', async () => {
    await relay.lease('d1');
    const from = await shape.primaryOf(keyOf('a1'));
    const to = (await shape.primaries()).find((one) => one.name !== from.name);
    if (to === undefined) throw new Error('a cluster has several primaries');
    const slot = Number(await from.call('CLUSTER', 'KEYSLOT', keyOf('a1')));
    const ids = await Promise.all([from, to].map(async (one) => String(await one.call('CLUSTER', 'MYID'))));
    await to.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', ids[0] as string);
    await from.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', ids[1] as string);
    // Half moved: nothing can be done, and nothing is done by halves.
    const keys = (await from.call('CLUSTER', 'GETKEYSINSLOT', slot, 100)) as string[];
    await from.call('MIGRATE', to.address, to.port, '', 0, 1000, 'KEYS', keys[0] as string);
    const meanwhile = code(relay.lease('d2'));
    await from.call('MIGRATE', to.address, to.port, '', 0, 1000, 'KEYS', ...keys.slice(1));
    for (const one of [to, from]) await one.call('CLUSTER', 'SETSLOT', slot, 'NODE', ids[1] as string);
    expect(await meanwhile).toBe('ERR_MOORING_QUARANTINED');
    await relay.persist(() => relay.lease('d2'));
    expect(await code(relay.lease('d3'))).toBe('done');
    await expectNothingLostOrDoubled(registry, relay);
  });

  test('a primary cut off with an acknowledged grant: grants go on at its replica, the grant is not lost, none is doubled', async () => {
    const before = relay.leases.size;
    await shape.settled();
    const { former, lost, ledger } = await loseOneGrant(shape, relay, []);
    expect(ledger).toBe(before);
    const next = await relay.persist(() => relay.lease('d4'));
    expect(next.address).not.toBe(lost.address);
    await expectNothingLostOrDoubled(registry, relay);
    await shape.heal();
    await until('it follows', async () => ((await former.call('ROLE')) as unknown[])[0] === 'slave');
  });
});

test('the first replica that joins a server costs a quarantine, and no lease', async () => {
  const [shape, joining] = await Promise.all([standalone(), standalone()]);
  const registry = await openRegistry({ url: shape.url, log: silent });
  const relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
  const lease = await relay.lease('d1');
  const [primary, replica] = [shape.server('r1'), joining.server('r1')];
  await replica.call('REPLICAOF', primary.address, primary.port);
  await until('it is in step', async () => ((await replica.call('ROLE')) as unknown[])[3] === 'connected');
  expect(await code(relay.lease('d2'))).toBe('ERR_MOORING_QUARANTINED');
  await relay.persist(() => relay.lease('d2'));
  expect(relay.leases.has(lease.id)).toBe(true);
  await expectNothingLostOrDoubled(registry, relay);
  await registry.close();
  await Promise.all([shape.stop(), joining.stop()]);
});
