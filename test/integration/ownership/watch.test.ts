import { afterAll, beforeAll, expect, test } from 'vitest';
import { createWatch, type Watch } from '../../../src/cli/watch.ts';
import { type RealRedis, realRedis, until } from '../registry/real-redis.ts';

let server: RealRedis;
let watch: Watch;
beforeAll(async () => {
  server = await realRedis();
  watch = createWatch({ endProcess: () => undefined });
});
afterAll(async () => {
  watch.close();
  await server.stop();
});

const isAtRegistry = async () => {
  const names = String(await server.client().client('LIST'));
  return names.includes(`supervisor-${process.pid}`);
};

test('a supervisor reaches the registry when its relay stands by: a takeover leaves no time for that', async () => {
  watch.told({
    type: 'duty',
    duty: {
      relay: { id: 'r1', interface: 'lo', tun: 'tun0', announce: 'routed', ownershipMs: 10_000 },
      registry: { url: server.socket, redis: undefined },
      logLevel: 'silent',
      pins: null,
    },
  });
  expect(await isAtRegistry()).toBe(false);
  watch.told({ type: 'stands-by' });
  await until(isAtRegistry);
});
