import { readFileSync } from 'node:fs';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { commandConnection } from '../../../src/registry/connection.ts';
import { anchorKeys } from '../../../src/registry/keys.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { requestId } from './one-relay.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** Scripts of layout 1, as version 0.1.0 had them. */
const OLD = JSON.parse(readFileSync(new URL('layout-1.json', import.meta.url), 'utf8')) as Record<
  'declare' | 'claim' | 'renew' | 'grant' | 'activate',
  { readonly keys: number; readonly lua: string }
>;
const OLD_PARTS = ['meta', 'leases', 'sessions', 'devices', 'indexes', 'expiries', 'cooling', 'former'];
const OLD_KEYS = [...OLD_PARTS, 'answers', 'answered', 'events', 'hints', 'wake'].map(
  (part) => `mooring1:{a:a1}:${part}`,
);
const ANCHOR = {
  ...({ id: 'a1', pool: 'p', sharing: 'whole', home: 'r1' } as const),
  ...{ prefixes: ['192.0.2.0/28'], endpoints: ['198.51.100.1'] },
};
const DEVICE = { tenant: 't', id: 'd1' };
const BOOT = 'b'.repeat(16);
const HOUR_MS = 3_600_000;

let server: RealRedis;
let redis: Redis;
let registry: Registry;
beforeAll(async () => {
  server = await realRedis();
  redis = server.client();
  registry = createStore(commandConnection(server.client(), undefined, 0), silent, async () => undefined);
});
afterAll(() => server.stop());

const old = (command: keyof typeof OLD, ...args: (string | number)[]) =>
  redis.eval(OLD[command].lua, OLD[command].keys, ...OLD_KEYS, ...args);
const code = (work: Promise<unknown>) =>
  work.then(
    () => 'no failure',
    (error: { code?: string; message: string }) => error.code ?? error.message,
  );
/** A plan is the same in both layouts. */
let plan = '';
const grantOld = async () => {
  const id = `a1.${'x'.repeat(22)}`;
  const rest = [600_000, 1, 'ab'.repeat(16), '00'.repeat(16), 'a1', 'p', ''];
  const answer = await old('grant', 'q1', id, 't', 'd1', 'k'.repeat(43), 'rsa-ip', ...rest);
  await old('activate', id, '1');
  return JSON.parse((answer as [number, string])[1]) as { id: string; address: string };
};

beforeEach(async () => {
  await registry.declareAnchor(ANCHOR);
  plan = await registry.plan('a1');
  await old('declare', '', plan, 1, '{"pool":"p"}', 'r1', 120_000, HOUR_MS, HOUR_MS, HOUR_MS, 0, 0);
  expect(await old('claim', 'r1', BOOT, 60_000, 0, 0)).toBe('1');
});
afterEach(() => redis.flushall());

test('both layouts side by side: who has an anchor in the old one keeps it, and nothing of it is granted in the new one', async () => {
  const { id } = await grantOld();
  expect(await code(registry.claim('a1', 'r2', BOOT, 60_000, true))).toBe('ERR_MOORING_OWNED_BY_ANOTHER');
  const wish = { pool: 'p', device: DEVICE, thumbprint: 'k'.repeat(43), kind: 'rsa-ip' } as const;
  const grant = registry.grant({ ...wish, leaseMs: 60_000, requestId: requestId(), quota: 4 });
  expect(await code(grant)).toBe('ERR_MOORING_NO_OWNER');
  expect(await old('renew', 'r1', '1', 60_000)).toBeGreaterThan(0);
  expect(await redis.hexists(OLD_KEYS[1]!, id)).toBe(1);
});

test('a relay that starts anew with this version takes its anchor and its leases over, and no old script touches it any more', async () => {
  const { id, address } = await grantOld();
  const { epoch, counter } = (await redis.hgetall(OLD_KEYS[0]!)) as Record<'epoch' | 'counter', string>;
  const boot = 'c'.repeat(16);
  expect(await code(registry.claim('a1', 'r1', boot, 60_000, false, BigInt(epoch)))).toBe(
    'ERR_MOORING_QUARANTINED',
  );
  for (const work of [
    old('renew', 'r1', '1', 60_000),
    old('claim', 'r2', BOOT, 60_000, 1, 0),
    old(
      'grant',
      'q2',
      `a1.${'y'.repeat(22)}`,
      't',
      'd2',
      'k'.repeat(43),
      'rsa-ip',
      1000,
      1,
      'x',
      'y',
      'a1',
      'p',
      '',
    ),
  ]) {
    expect(await code(work)).toMatch(/^.*WRONGTYPE/);
  }
  // As its journal has it.
  const lease = {
    ...({ id, anchor: 'a1', pool: 'p', device: DEVICE, bindId: 1, kind: 'rsa-ip', address } as const),
    ...({ ports: null, spis: null, ikeSpis: null, remote: null, session: 'ab'.repeat(16) } as const),
    ...({ state: 'active', remainingMs: 500_000, fence: `1-${counter}` } as const),
  };
  const session = {
    ...{ id: lease.session, index: 1, device: DEVICE, thumbprint: 'k'.repeat(43), salt: '00'.repeat(16) },
  };
  const said = { epoch: BigInt(epoch), counter: BigInt(counter), leases: [lease], sessions: [session], plan };
  const report = { relay: 'r1', boot, hasStandby: false, ...said };
  const settled = await registry.report('a1', report, 60_000);
  expect(settled.epoch).toBeGreaterThan(BigInt(epoch));
  const { leases } = await registry.snapshot('a1');
  expect(leases.map((one) => [one.id, one.address, one.state])).toEqual([[id, address, 'active']]);
  const extended = await registry.extend({ leaseId: id, device: DEVICE, leaseMs: 1, requestId: requestId() });
  expect(Number(extended.fence.split('-')[1])).toBeGreaterThan(Number(counter));
});

test('one that knows no more of it begins above all that was given away', async () => {
  await grantOld();
  const boot = 'c'.repeat(16);
  expect(await code(registry.claim('a1', 'r1', boot, 60_000))).toBe('ERR_MOORING_QUARANTINED');
  expect((await registry.claim('a1', 'r1', boot, 60_000)).epoch).toBeGreaterThan(1n);
});

test('data of a version that is not known yet are refused by name, and left alone', async () => {
  const [meta = ''] = anchorKeys('a1');
  await redis.hset(meta, 'schema', '3');
  const before = await redis.hgetall(meta);
  for (const work of [
    registry.snapshot('a1'),
    registry.claim('a1', 'r1', BOOT, 60_000),
    registry.declareAnchor(ANCHOR),
    registry.events('a1', '0-0', 1),
  ]) {
    await expect(work).rejects.toMatchObject({
      code: 'ERR_MOORING_SCHEMA',
      message: expect.stringMatching(/layout 3.*start that version here/),
    });
  }
  expect(await redis.hgetall(meta)).toEqual(before);
});
