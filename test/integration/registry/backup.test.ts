import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { standalone, until } from '../../../infra/lab/redis-shapes.ts';
import { anchorKeys } from '../../../src/registry/keys.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import { expectNothingLostOrDoubled } from './lost-grant.ts';
import { oneRelay } from './one-relay.ts';
import { silent } from './real-redis.ts';

test('a registry that is put back to an old backup as the manual says hears the rest from its relay', async () => {
  const shape = await standalone();
  const server = shape.server('r1');
  const folder = join(shape.directory, 'r1');
  const backup = join(shape.directory, 'backup.rdb');
  const registry = await openRegistry({ url: shape.url, log: silent });
  const heldNow = async () => (await relay.persist(() => registry.snapshot('a1'))).leases.map(({ id }) => id);
  const relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
  const [kept, freed] = [await relay.lease('kept'), await relay.lease('freed')];
  const savedS = Number(await server.call('LASTSAVE'));
  // An operator waits for another second in it.
  await until('another second', async () => Date.now() / 1000 > savedS + 1);
  await server.call('BGSAVE');
  await until('it is saved', async () => Number(await server.call('LASTSAVE')) > savedS);
  copyFileSync(join(folder, 'dump.rdb'), backup);
  const since = await relay.lease('since');
  await relay.free(freed);
  const epoch = relay.epoch();

  await server.kill();
  rmSync(join(folder, 'appendonlydir'), { recursive: true });
  copyFileSync(backup, join(folder, 'dump.rdb'));
  const conf = join(folder, 'redis.conf');
  writeFileSync(conf, readFileSync(conf, 'utf8').replace('appendonly yes', 'appendonly no'));
  await server.restart();
  await server.call('CONFIG', 'SET', 'appendonly', 'yes');
  await server.call('CONFIG', 'REWRITE');

  expect(await code(registry.snapshot('a1'))).toBe('ERR_MOORING_QUARANTINED');
  expect((await heldNow()).sort()).toEqual([kept.id, since.id].sort());
  expect(relay.epoch()).toBeGreaterThan(epoch);
  const stranger = await relay.lease('stranger');
  expect([kept, freed, since].map(({ address }) => address)).not.toContain(stranger.address);
  await expectNothingLostOrDoubled(registry, relay);

  // The append-only file has it all from then on.
  await until('it is written', async () =>
    /aof_enabled:1.*aof_rewrite_in_progress:0/s.test(String(await server.call('INFO', 'persistence'))),
  );
  await server.restart();
  expect(await server.call('HLEN', anchorKeys('a1')[1]!)).toBe(3);
  expect((await heldNow()).sort()).toEqual([kept.id, since.id, stranger.id].sort());
  await registry.close();
  await shape.stop();
});

const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'done',
    (error: { readonly code: string }) => error.code,
  );
