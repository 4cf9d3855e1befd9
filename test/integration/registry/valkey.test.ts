import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cluster, type RedisShape, standalone, withSentinels } from '../../../infra/lab/redis-shapes.ts';
import { valkeyServer } from '../../../infra/lab/valkey.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import { anyOp, commandsWithTestClock, LAYOUTS, runAgainstModel } from '../../oracle/registry-run.ts';
import { expectNothingLostOrDoubled, loseOneGrant } from './lost-grant.ts';
import { oneRelay } from './one-relay.ts';
import { realServer, silent } from './real-redis.ts';

const program = valkeyServer() ?? '';

describe.skipIf(program === '')('on Valkey, which npm run setup unpacks where it can be had,', () => {
  test('the scripts and the model agree on any history', async () => {
    const server = await realServer(program);
    try {
      expect(await server.client().info('server')).toMatch(/valkey_version:\d/);
      const connection = commandConnection(server.client(), commandsWithTestClock());
      const histories = fc.array(anyOp, { minLength: 1, maxLength: 60, size: 'max' });
      await fc.assert(
        fc.asyncProperty(fc.constantFrom(...LAYOUTS), histories, (layout, ops) =>
          runAgainstModel(connection, layout, ops),
        ),
        { numRuns: 20, seed: 4 },
      );
    } finally {
      await server.stop();
    }
  });

  test('a server that may evict leases is refused, with the command that mends it', async () => {
    const shape = await standalone({ program });
    try {
      await shape.servers[0]?.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru');
      await expect(openRegistry({ url: shape.url, log: silent })).rejects.toMatchObject({
        code: 'ERR_MOORING_REGISTRY_UNFIT',
        message: expect.stringContaining('CONFIG SET maxmemory-policy noeviction'),
      });
    } finally {
      await shape.stop();
    }
  });

  test.concurrent.each<[string, () => Promise<RedisShape>, string[]]>([
    ['sentinels', () => withSentinels({ program }), ['s1', 's2', 's3']],
    ['a cluster', () => cluster({ program }), []],
  ])(
    'behind %s an acknowledged grant outlives a primary that is cut off, and none is doubled',
    async (_, start, others) => {
      const shape = await start();
      try {
        const registry = await openRegistry({ url: shape.url, log: silent });
        const relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
        await relay.lease('d1');
        await shape.settled();
        const { lost } = await loseOneGrant(shape, relay, others);
        const next = await relay.persist(() => relay.lease('d2'));
        expect(next.address).not.toBe(lost.address);
        await expectNothingLostOrDoubled(registry, relay);
        await registry.close();
      } finally {
        await shape.stop();
      }
    },
  );
});
