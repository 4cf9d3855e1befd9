import { readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { cluster, type RedisShape, standalone, withSentinels } from '../../../infra/lab/redis-shapes.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { oneRelay, requestId } from './one-relay.ts';
import { silent, until } from './real-redis.ts';

const USER = { name: 'mooring', password: 'correct-horse' };

/** Where a shape with TLS and a user is, and its files. */
function placeOf(shape: RedisShape, password = USER.password) {
  if (shape.tls === undefined) return { url: shape.url };
  const passwordFile = `${shape.directory}/${password}.password`;
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  return { url: shape.url.replace('://', `://${USER.name}@`), redis: { ...shape.tls, passwordFile } };
}
const refusal = (place: { url: string }) =>
  openRegistry({ ...place, log: silent }).then(
    async (registry) => {
      await registry.close();
      throw new Error('it was opened');
    },
    (error: MooringError) => error,
  );

describe.each([
  ['one server with TLS and a user', () => standalone({ tls: true, user: USER })],
  ['sentinels with TLS and a user', () => withSentinels({ tls: true, user: USER, replicas: 1 })],
  ['a cluster with TLS and a user', () => cluster({ tls: true, user: USER, replicas: 0 })],
])('a registry behind %s', (_name, start) => {
  let shape: RedisShape;
  let registry: Registry;
  beforeAll(async () => {
    shape = await start();
    registry = await openRegistry({ ...placeOf(shape), log: silent });
  });
  afterAll(async () => {
    await registry?.close();
    await shape?.stop();
  });

  test('grants, extends and frees leases; a request said twice is one lease', async () => {
    const relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
    const id = requestId();
    const lease = await relay.lease('d1', id);
    expect((await relay.lease('d1', id)).id).toBe(lease.id);
    const device = { tenant: 'acme', id: 'd1' };
    const extension = { leaseId: lease.id, device, leaseMs: 900_000, requestId: requestId() };
    expect((await registry.extend(extension)).lease.remainingMs).toBeGreaterThan(600_000);
    expect((await registry.deviceLeases(device)).map((one) => one.id)).toEqual([lease.id]);
    expect((await registry.free({ leaseId: lease.id, device, requestId: requestId() })).reason).toBe('freed');
    expect(await registry.deviceLeases(device)).toEqual([]);
    expect((await registry.sweep('a1', relay.epoch(), 10)).ended).toEqual([]);
    const page = await registry.events('a1', '0-0', 100);
    expect(page.reload === false && page.events.map(({ type }) => type)).toEqual([
      'owned',
      'granted',
      'activated',
      'extended',
      'ended',
    ]);
  });

  test('wakes those who watch an anchor, whichever server has it, and finds relays', async () => {
    const relays = await Promise.all(
      [2, 3, 4, 5].map((at) => oneRelay(registry, `a${at}`, `192.0.${at}.0/24`)),
    );
    const woken = new Map<string, number>();
    const ends = await Promise.all(
      relays.map(({ anchor }) =>
        registry.watch(anchor, () => woken.set(anchor, (woken.get(anchor) ?? 0) + 1)),
      ),
    );
    for (const relay of relays) await relay.lease('d2');
    await until(() => relays.every(({ anchor }) => (woken.get(anchor) ?? 0) >= 2));
    for (const end of ends) await end();

    const announcement = { id: 'r1', boot: 'ab'.repeat(8), planeUrl: 'wss://r1.example:4557', site: 's' };
    await registry.announceRelay(announcement, 60_000);
    expect(await registry.relays()).toEqual([announcement]);
  });
});

const manual = readFileSync(new URL('../../../docs/redis.md', import.meta.url), 'utf8');

test('a server starts with the redis.conf of the manual', async () => {
  const [, lines = ''] = /^## redis\.conf\n\n```\n([\s\S]*?)^```/m.exec(manual) ?? [];
  expect(lines).toMatch(/^appendonly yes\n/);
  const shape = await standalone({ settings: lines.split('\n') });
  await shape.stop();
});

test('a user with no more rights than the manual gives can do everything', async () => {
  const shape = await standalone();
  const [, rights = ''] = /^ACL SETUSER mooring on >PASSWORD (.*?)\s+\(one line\)$/ms.exec(manual) ?? [];
  expect(rights).toMatch(/^~mooring1:/);
  await shape.servers[0]?.call(
    'ACL',
    'SETUSER',
    USER.name,
    'on',
    `>${USER.password}`,
    ...rights.split(/\s+/),
  );
  const registry = await openRegistry({
    url: shape.url.replace('://', `://${USER.name}:${USER.password}@`),
    log: silent,
  });
  const relay = await oneRelay(registry, 'a1', '192.0.2.0/24');
  await relay.lease('d1');
  await (await registry.watch('a1', () => undefined))();
  await registry.announceRelay({ id: 'r1', boot: 'ab'.repeat(8), planeUrl: '', site: 's' }, 60_000);
  expect(await registry.relays()).toHaveLength(1);
  for (const [missing, given] of [
    ['resetkeys ~mooring1:*', '~mooring2:*'],
    ['resetchannels', '&mooring2:*'],
    ['-time', '+time'],
    ['-@write', '+@write'],
  ] as const) {
    await shape.servers[0]?.call('ACL', 'SETUSER', USER.name, ...missing.split(' '));
    const asked: MooringError = await relay.lease('d2').catch((cause) => cause);
    expect(asked.code, missing).toBe('ERR_MOORING_REGISTRY_UNAVAILABLE');
    expect(asked.message).toMatch(/user may not do what is needed \(.*docs\/redis\.md with ACL SETUSER/);
    await shape.servers[0]?.call('ACL', 'SETUSER', USER.name, given);
  }
  await relay.lease('d2');
  await registry.close();

  await shape.servers[0]?.call('ACL', 'SETUSER', USER.name, '-info');
  const error = await refusal({ url: shape.url.replace('://', `://${USER.name}:${USER.password}@`) });
  expect(error.message).toMatch(/user mooring may not .*docs\/redis\.md .*ACL SETUSER mooring/);
  await shape.stop();
});

describe('a server that is not what its URL says is refused, and the message says what to write', () => {
  let one: RedisShape;
  let watched: RedisShape;
  let member: RedisShape;
  beforeAll(async () => {
    [one, watched, member] = await Promise.all([
      standalone(),
      withSentinels({ sentinels: 1, replicas: 1 }),
      cluster({ primaries: 3, replicas: 0 }),
    ]);
  });
  afterAll(() => Promise.all([one.stop(), watched.stop(), member.stop()]));
  const of = (shape: RedisShape, name: string) => `${shape.server(name).address}:${shape.server(name).port}`;

  test.each([
    ['a server of a cluster as one server', () => `redis://${of(member, 'c1')}`, /redis\+cluster:\/\/HOST/],
    [
      'a sentinel as one server',
      () => `redis://${of(watched, 's1')}`,
      /it is a sentinel; write redis\+sentinel/,
    ],
    [
      'a replica as one server',
      () => `redis://${of(watched, 'r2')}`,
      /a replica of 127\..*; name its primary/,
    ],
    [
      'one server as a cluster',
      () => `redis+cluster://${of(one, 'r1')}`,
      /it is no server of a cluster; write redis:\/\//,
    ],
    ['one server as a sentinel', () => `redis+sentinel://${of(one, 'r1')}/mooring`, /it is no sentinel/],
    [
      'a primary by another name',
      () => `redis+sentinel://${of(watched, 's1')}/other`,
      /no primary of the name other/,
    ],
  ])('%s', async (_what, url, words) => {
    expect((await refusal({ url: url() })).message).toMatch(words);
  });
});

describe('a server with TLS that is reached wrongly is not, and the message says what to do', () => {
  let shape: RedisShape;
  let other: RedisShape;
  let plain: RedisShape;
  beforeAll(async () => {
    [shape, other, plain] = await Promise.all([
      standalone({ tls: true, user: USER }),
      standalone({ tls: true }),
      standalone(),
    ]);
  });
  afterAll(() => Promise.all([shape.stop(), other.stop(), plain.stop()]));

  test('with another authority', async () => {
    const place = placeOf(shape);
    const error = await refusal({ ...place, redis: { ...place.redis, caFile: other.tls?.caFile } } as never);
    expect(error.message).toMatch(/certificate is not of the authority in .*correct redis\.caFile/);
  });

  test('without naming a private authority', async () => {
    const error = await refusal({ url: shape.url });
    expect(error.message).toMatch(/name that authority in redis\.caFile/);
  });

  test('without the client certificate that it wants', async () => {
    const { url, redis } = placeOf(shape);
    const { certFile: _c, keyFile: _k, ...files } = redis as Record<string, string>;
    const error = await refusal({ url, redis: files } as never);
    expect(error.message).toMatch(/wants a client certificate.*redis\.certFile and redis\.keyFile/);
  });

  test('with TLS to a port that has none', async () => {
    const error = await refusal({ url: plain.url.replace('redis:', 'rediss:') });
    expect(error.message).toMatch(/runs with TLS on this port \(its tls-port; otherwise write redis…\)/);
  });

  test('with a wrong password, which is in no message and no cause', async () => {
    const error = await refusal(placeOf(shape, 'battery-staple'));
    expect(error.code).toBe('ERR_MOORING_REGISTRY_UNAVAILABLE');
    expect(error.temporary).toBe(false);
    expect(error.message).toMatch(/refuses the password of user mooring; correct redis\.passwordFile/);
    const everything = (one: unknown): string =>
      one instanceof Error
        ? `${one.message} ${one.stack} ${JSON.stringify(one)} ${everything(one.cause)}`
        : String(one);
    expect(everything(error)).not.toContain('battery-staple');
  });

  test('without a password', async () => {
    const { url, redis } = placeOf(shape);
    const { passwordFile: _p, ...files } = redis as Record<string, string>;
    const error = await refusal({ url: url.replace('mooring@', ''), redis: files } as never);
    expect(error.message).toMatch(
      /wants a password for user default; name a file with it in redis\.passwordFile/,
    );
  });

  test('with a password file that is not there', async () => {
    const { url } = placeOf(shape);
    const error = await refusal({ url, redis: { passwordFile: '/nowhere/password' } } as never);
    expect(error.message).toMatch(
      /redis\.passwordFile is \/nowhere\/password, which cannot be read \(ENOENT\)/,
    );
  });
});
