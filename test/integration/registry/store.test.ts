import { randomBytes } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import pino from 'pino';
import { Value } from 'typebox/value';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import type { MooringError } from '../../../src/protocol/errors.ts';
import { type Device, LeaseEvent } from '../../../src/protocol/lease.ts';
import { poolKey, wakeChannel } from '../../../src/registry/keys.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { AnchorDeclaration, GrantRequest, Registry } from '../../../src/registry/registry.ts';
import { cuttingProxy } from './cutting-proxy.ts';
import { type RealRedis, realRedis, silent, until } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;
const opened: Registry[] = [];
const open = async (url = server.socket) => {
  const one = await openRegistry({ url, log: silent });
  opened.push(one);
  return one;
};
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  registry = await open();
});
afterEach(async () => {
  for (const one of opened.splice(0)) await one.close();
});

const hex = () => randomBytes(16).toString('hex');
const device = (id: string): Device => ({ tenant: 'acme', id });
const declaration = (more: Partial<AnchorDeclaration> = {}): AnchorDeclaration => ({
  id: 'a1',
  pool: 'whole',
  sharing: 'whole',
  prefixes: ['192.0.2.8/30'],
  endpoints: ['198.51.100.1'],
  home: 'r1',
  ...more,
});
const wish = (of: string, more: Partial<GrantRequest> = {}): GrantRequest => ({
  pool: 'whole',
  device: device(of),
  thumbprint: 'k'.repeat(43),
  kind: 'rsa-ip',
  leaseMs: 60_000,
  requestId: hex(),
  quota: 10,
  ...more,
});
const serve = async (more: Partial<AnchorDeclaration> = {}) => {
  const anchor = await registry.declareAnchor(declaration(more));
  await registry.claim(anchor.id, 'r1', '00'.repeat(8), 60_000);
  return anchor;
};
const code = (error: MooringError) => error.code;
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => {
      throw new Error('it succeeded');
    },
    (error: MooringError) => error,
  );

describe('anchors', () => {
  test('declaring one again changes nothing, also with other defaults spelled out', async () => {
    const first = await registry.declareAnchor(declaration());
    const again = await registry.declareAnchor(
      declaration({ portBlock: 64, spiBlock: 64, coolingMs: 120_000 }),
    );
    expect(again).toEqual(first);
    expect(await registry.anchor('a1')).toEqual(first);
    expect(await registry.poolAnchors('whole')).toEqual(['a1']);
  });

  test('a change of sharing is refused while a lease is held or cooling, and made otherwise', async () => {
    await serve({ coolingMs: 50 });
    const changed = declaration({ sharing: 'shared', coolingMs: 50 });
    const { lease } = await registry.grant(wish('d1'));
    expect(code(await failure(registry.declareAnchor(changed)))).toBe('ERR_MOORING_ANCHOR_IN_USE');
    await registry.withdraw(lease.id);
    expect(code(await failure(registry.declareAnchor(changed)))).toBe('ERR_MOORING_ANCHOR_IN_USE');
    expect((await registry.anchor('a1'))?.sharing).toBe('whole');
    await until(() =>
      registry.declareAnchor(changed).then(
        () => true,
        () => false,
      ),
    );
    expect((await registry.grant(wish('d1', { kind: 'rsap-ip' }))).lease.ports?.count).toBe(64);
  });

  test('an anchor that moves to another pool leaves the former one', async () => {
    await registry.declareAnchor(declaration());
    await registry.declareAnchor(declaration({ pool: 'other' }));
    expect(await registry.poolAnchors('whole')).toEqual([]);
    expect(await registry.poolAnchors('other')).toEqual(['a1']);
  });

  test.each<[string, Partial<AnchorDeclaration>, RegExp]>([
    ['an endpoint inside a prefix', { endpoints: ['192.0.2.9'] }, /anchor\.endpoints\[0\].*192\.0\.2\.9/],
    ['overlapping prefixes', { prefixes: ['192.0.2.0/24', '192.0.2.8/30'] }, /anchor\.prefixes\[1\]/],
    ['host bits in a prefix', { prefixes: ['192.0.2.9/30'] }, /anchor\.prefixes\[0\]/],
    ['no prefix', { prefixes: [] }, /anchor\.prefixes/],
    ['a port block that is no power of two', { portBlock: 100 }, /anchor\.portBlock.*100/],
    ['an SPI block that is no power of two', { spiBlock: 3 }, /anchor\.spiBlock.*3/],
    ['two endpoints of one family', { endpoints: ['198.51.100.1', '198.51.100.2'] }, /anchor\.endpoints/],
    ['an id with a brace', { id: 'a}' }, /anchor\.id/],
  ])('%s is refused by name', async (_, more, message) => {
    const error = await failure(registry.declareAnchor(declaration(more)));
    expect(code(error)).toBe('ERR_MOORING_BAD_INPUT');
    expect(error.message).toMatch(message);
  });
});

describe('a grant', () => {
  test('leases that are activated at once are so in few scripts, and each hears what became of it', async () => {
    await serve({ prefixes: ['203.0.113.0/24'] });
    const leases = await Promise.all(
      Array.from({ length: 100 }, async (_, n) => (await registry.grant(wish(`d${n}`))).lease),
    );
    await registry.withdraw(leases[7]!.id);
    await server.client().config('RESETSTAT');
    const told = await Promise.all(
      leases.map(({ id }) => registry.activate('a1', id, 1n).then(({ id }) => id, code)),
    );
    const expected = leases.map(({ id }, n) => (n === 7 ? 'ERR_MOORING_WITHDRAWN' : id));
    expect(told).toEqual(expected);
    const stats = await server.client().info('commandstats');
    const scripts = [...stats.matchAll(/cmdstat_eval(?:sha)?:calls=(\d+)/g)].map(([, calls]) =>
      Number(calls),
    );
    // Two, and what it takes to tell a server a script that it does not know.
    expect(scripts.reduce((sum, calls) => sum + calls)).toBeLessThanOrEqual(4);
    expect(code(await failure(registry.activate('a1', leases[7]!.id, 2n)))).toBe('ERR_MOORING_STALE_EPOCH');
    expect((await registry.activate('a1', leases[8]!.id, 2n)).state).toBe('active');
  });

  test('is pending, then active, then extended, then free, and the stream tells it all', async () => {
    await serve();
    const { lease, session } = await registry.grant(wish('d1'));
    expect(lease).toMatchObject({
      state: 'pending',
      bindId: 1,
      ports: null,
      spis: null,
      session: session.id,
    });
    const active = await registry.activate('a1', lease.id, 1n);
    expect(active.state).toBe('active');
    const extended = await registry.extend({
      leaseId: lease.id,
      device: device('d1'),
      leaseMs: 90_000,
      requestId: hex(),
    });
    expect(extended.lease.remainingMs).toBe(90_000);
    const freed = await registry.free({ leaseId: lease.id, device: device('d1'), requestId: hex() });
    expect(freed.reason).toBe('freed');
    const page = await registry.events('a1', '0-0', 100);
    expect(page.reload).toBe(false);
    if (page.reload) return;
    for (const event of page.events) expect(Value.Errors(LeaseEvent, event)).toEqual([]);
    expect(page.events.map((event) => event.type)).toEqual([
      'owned',
      'granted',
      'activated',
      'extended',
      'ended',
    ]);
    expect(page.events.map((event) => event.fence)).toEqual(['1-1', '1-2', '1-3', '1-4', '1-5']);
    expect((await registry.snapshot('a1')).sessions).toEqual([]);
  });

  test('of the last block goes to exactly one of two clients that race for it', async () => {
    await serve({ prefixes: ['192.0.2.8/32'] });
    const other = await open();
    for (let round = 0; round < 20; round += 1) {
      const both = await Promise.allSettled([
        registry.grant(wish(`left${round}`)),
        other.grant(wish(`right${round}`)),
      ]);
      const [won, ...more] = both.filter((one) => one.status === 'fulfilled');
      expect(more).toEqual([]);
      const lost = both.find((one) => one.status === 'rejected');
      expect(lost?.reason).toMatchObject({ code: 'ERR_MOORING_EXHAUSTED', rsip: 308, temporary: false });
      await registry.withdraw(won!.value.lease.id);
      await server.client().del('mooring2:{a:a1}:cooling', 'mooring2:{a:a1}:former');
      await server.client().hset('mooring2:{a:a1}:meta', 'frontier', 0);
    }
  });

  test.each([0, 1, 2, 3, 4])(
    'whose answer is lost after it was applied (%i answers into it) is the first one when asked again',
    async (others) => {
      await serve();
      const proxy = await cuttingProxy(server.socket);
      const through = await open(proxy.socket);
      await through.grant(wish('d0'));
      proxy.cutAnswerAfter(others);
      const { lease } = await through.grant(wish('d1'));
      expect(proxy.cut).toBe(true);
      const { leases, lastId } = await registry.snapshot('a1');
      expect(leases.filter((one) => one.device.id === 'd1')).toHaveLength(1);
      expect(leases.some((one) => one.id === lease.id)).toBe(true);
      expect(lastId).toBe('1-3');
      expect(await registry.deviceLeases(device('d1'))).toHaveLength(1);
      proxy.stop();
    },
  );

  test('that a stopped server does not answer fails as temporary, and is applied only once when it goes on', async () => {
    await serve();
    const request = wish('d1');
    server.process.kill('SIGSTOP');
    const error = await failure(registry.grant(request)).finally(() => server.process.kill('SIGCONT'));
    expect(error).toMatchObject({ code: 'ERR_MOORING_REGISTRY_UNAVAILABLE', temporary: true });
    const { lease } = await registry.grant(request);
    expect((await registry.snapshot('a1')).leases.map((one) => one.id)).toEqual([lease.id]);
  });

  test('goes on when the server has forgotten its scripts', async () => {
    await serve();
    const first = await registry.grant(wish('d1'));
    await server.client().script('FLUSH');
    const second = await registry.grant(wish('d2'));
    expect(second.lease.address).not.toBe(first.lease.address);
    expect((await registry.snapshot('a1')).lastId).toBe('1-3');
  });

  test('to a device that comes with another key replaces its session, and says which', async () => {
    await serve();
    const first = await registry.grant(wish('d1'));
    const second = await registry.grant(wish('d1', { thumbprint: 'n'.repeat(43) }));
    expect(second.replaced).toBe(first.session.id);
    const page = await registry.events('a1', first.lease.fence, 10);
    expect(page).toMatchObject({
      events: [
        { type: 'session', replaces: first.session.id, session: second.session },
        {
          type: 'granted',
          session: second.session,
          lease: { id: second.lease.id, fence: second.lease.fence },
        },
      ],
    });
  });

  test('with a request id that was granted is that lease, from whatever node and how often it is asked', async () => {
    await serve();
    await serve({ id: 'a2', prefixes: ['192.0.2.16/30'], endpoints: ['198.51.100.2'] });
    const nodes = [registry, await open(), await open(), await open()];
    const request = wish('d1');
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, at) => nodes[at % nodes.length]!.grant(request)),
    );
    expect(new Set(answers.map(({ lease }) => lease.id)).size).toBe(1);
    expect(await registry.deviceLeases(device('d1'))).toHaveLength(1);
  });

  test('that its relay never installs is withdrawn, and a retry may get it from another anchor', async () => {
    await serve();
    const request = wish('d1');
    const first = await registry.grant(request);
    await registry.withdraw(first.lease.id);
    await registry.release('a1', 'r1', 1n);
    await serve({ id: 'a2', prefixes: ['192.0.2.16/30'], endpoints: ['198.51.100.2'] });
    const second = await registry.grant(request);
    expect(second.lease.anchor).toBe('a2');
    expect((await registry.grant(request)).lease.id).toBe(second.lease.id);
    expect(await registry.deviceLeases(device('d1'))).toHaveLength(1);
  });

  test('whose lease has ended is not granted a second time', async () => {
    await serve();
    const request = wish('d1');
    const { lease } = await registry.grant(request);
    await registry.free({ leaseId: lease.id, device: device('d1'), requestId: hex() });
    expect(await failure(registry.grant(request))).toMatchObject({
      code: 'ERR_MOORING_REQUEST_ENDED',
      rsip: 306,
    });
  });

  test('goes to the device’s former anchor and, while it rests, to its former address', async () => {
    await serve();
    await serve({ id: 'a2', prefixes: ['192.0.2.128/25'], endpoints: ['198.51.100.2'] });
    const first = await registry.grant(wish('d1', { anchor: 'a1' }));
    await registry.activate('a1', first.lease.id, 1n);
    await registry.free({ leaseId: first.lease.id, device: device('d1'), requestId: hex() });
    const second = await registry.grant(wish('d1'));
    expect(second.lease.address).toBe(first.lease.address);
    const stranger = await registry.grant(wish('d2'));
    expect(stranger.lease.anchor).toBe('a2');
  });

  test('is temporary while no relay owns the anchor, and asks the next one', async () => {
    await registry.declareAnchor(declaration());
    expect(await failure(registry.grant(wish('d1')))).toMatchObject({
      code: 'ERR_MOORING_NO_OWNER',
      temporary: true,
    });
    await serve({ id: 'a2', prefixes: ['192.0.2.16/32'], endpoints: ['198.51.100.2'] });
    expect((await registry.grant(wish('d1'))).lease.anchor).toBe('a2');
  });

  test('from more anchors than one request asks is refused for good when none has anything, and not before', async () => {
    const ids = Array.from({ length: 20 }, (_, at) => `a${at}`);
    for (const [at, id] of ids.entries())
      await serve({ id, prefixes: [`192.0.2.${at}/32`], endpoints: [`198.51.100.${at}`] });
    for (const id of ids.slice(1)) await registry.grant(wish(`on-${id}`, { anchor: id }));
    // A hint that is long past: all but one are full, and that one comes last.
    const hint = server.client();
    await hint.zadd(poolKey('whole'), ...ids.flatMap((id) => [id === 'a0' ? 1 : 9, id]));
    expect(await failure(registry.grant(wish('d1')))).toMatchObject({
      code: 'ERR_MOORING_EXHAUSTED',
      temporary: true,
    });
    expect((await registry.grant(wish('d1'))).lease.anchor).toBe('a0');
    await failure(registry.grant(wish('d2')));
    expect(await failure(registry.grant(wish('d2')))).toMatchObject({
      code: 'ERR_MOORING_EXHAUSTED',
      rsip: 308,
      temporary: false,
    });
  });

  test('of a kind that the pool does not offer is refused', async () => {
    await serve();
    expect(code(await failure(registry.grant(wish('d1', { kind: 'rsipsec' }))))).toBe(
      'ERR_MOORING_KIND_NOT_OFFERED',
    );
    expect(code(await failure(registry.grant(wish('d1', { pool: 'nowhere' }))))).toBe(
      'ERR_MOORING_UNKNOWN_POOL',
    );
  });

  test('beyond the quota is refused, and a lease that ended unseen does not count', async () => {
    await serve();
    const { lease } = await registry.grant(wish('d1', { quota: 1, leaseMs: 1000 }));
    expect(await failure(registry.grant(wish('d1', { quota: 1 })))).toMatchObject({
      code: 'ERR_MOORING_QUOTA',
    });
    expect((await registry.grant(wish('d2', { quota: 1 }))).lease.bindId).toBe(1);
    await until(async () =>
      (await registry.sweep('a1', 1n, 10)).ended.some((one) => one.lease.id === lease.id),
    );
    expect((await registry.grant(wish('d1', { quota: 1 }))).lease.bindId).toBe(2);
  });
});

describe('only its device', () => {
  test('may extend, free or attach a lease', async () => {
    await serve();
    const { lease } = await registry.grant(wish('d1'));
    await registry.activate('a1', lease.id, 1n);
    const by = { leaseId: lease.id, device: device('d2'), requestId: hex() };
    for (const attempt of [
      registry.extend({ ...by, leaseMs: 90_000 }),
      registry.free(by),
      registry.attach({ ...by, thumbprint: 'z'.repeat(43) }),
    ]) {
      expect(await failure(attempt)).toMatchObject({ code: 'ERR_MOORING_BAD_BIND', rsip: 306 });
    }
    expect((await registry.snapshot('a1')).leases[0]?.remainingMs).toBeLessThanOrEqual(60_000);
  });
});

describe('a session', () => {
  test('carries all leases of a device on an anchor, and is replaced with them when its key changes', async () => {
    await serve();
    const one = await registry.grant(wish('d1'));
    const two = await registry.grant(wish('d1'));
    expect(two.session).toEqual(one.session);
    const same = await registry.attach({
      leaseId: one.lease.id,
      device: device('d1'),
      thumbprint: 'k'.repeat(43),
    });
    expect(same.session).toEqual(one.session);
    expect(same.replaced).toBeUndefined();
    const other = await registry.attach({
      leaseId: one.lease.id,
      device: device('d1'),
      thumbprint: 'n'.repeat(43),
    });
    expect(other.replaced).toBe(one.session.id);
    expect(other.session.index).not.toBe(one.session.index);
    const { sessions, leases } = await registry.snapshot('a1');
    expect(sessions).toEqual([other.session]);
    expect(leases.map((lease) => lease.session)).toEqual([other.session.id, other.session.id]);
  });

  test('keeps the newest path hint, and only under the epoch that it was seen in', async () => {
    await serve();
    const { session } = await registry.grant(wish('d1'));
    const hint = {
      session: session.id,
      address: '203.0.113.9',
      port: 7,
      generation: 5,
      deviceBoot: 'ab'.repeat(8),
    };
    await registry.putHint('a1', 1n, session.device, hint);
    await registry.putHint('a1', 1n, session.device, { ...hint, generation: 4, port: 8 });
    expect((await registry.snapshot('a1')).hints).toEqual([hint]);
    expect(code(await failure(registry.putHint('a1', 2n, session.device, hint)))).toBe(
      'ERR_MOORING_STALE_EPOCH',
    );
    await registry.putHint('a1', 1n, session.device, { ...hint, session: hex() });
    expect((await registry.snapshot('a1')).hints).toEqual([hint]);
    expect(await registry.hints('a1', [hex(), session.id, hex()])).toEqual([hint]);
    expect(await registry.hints('a1', [])).toEqual([]);
  });
});

describe('events', () => {
  test('a reader that missed one is told to reload, one that is level is told nothing', async () => {
    await serve();
    const { lastId } = await registry.snapshot('a1');
    expect(await registry.events('a1', lastId, 10)).toEqual({ reload: false, events: [], lastId });
    const { lease } = await registry.grant(wish('d1'));
    await registry.grant(wish('d2'));
    await server.client().xdel('mooring2:{a:a1}:events', lease.fence);
    expect(await registry.events('a1', lastId, 10)).toEqual({ reload: true });
    expect(await registry.events('a1', '9-99', 10)).toEqual({ reload: true });
  });

  test('wake whoever watches the anchor', async () => {
    await serve();
    let wakes = 0;
    const stop = await registry.watch('a1', () => {
      wakes += 1;
    });
    await registry.grant(wish('d1'));
    await until(() => wakes === 1);
    await stop();
  });

  test('wake each of them at once, also where one comes right after another, while they watch', async () => {
    const woken = { one: 0, other: 0 };
    const stopOne = await registry.watch('a1', () => {
      woken.one += 1;
    });
    const stopOther = await registry.watch('a1', () => {
      woken.other += 1;
    });
    const publisher = server.client();
    const wake = () => publisher.spublish(wakeChannel('a1'), '');
    // No timer runs: what waits for one is not told.
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      const giveUpMs = performance.now() + 5_000;
      for (let times = 1; times <= 20; times += 1) {
        await wake();
        while ((woken.one < times || woken.other < times) && performance.now() < giveUpMs) await nextTurn();
      }
    } finally {
      vi.useRealTimers();
    }
    expect(woken).toEqual({ one: 20, other: 20 });
    await stopOne();
    await wake();
    await until(() => woken.other === 21);
    expect(woken.one).toBe(20);
    await stopOther();
  });
});

describe('a sweep', () => {
  test('is the owner’s alone, is bounded, and ends each lease once', async () => {
    await serve();
    for (const of of ['d1', 'd2', 'd3']) {
      const { lease } = await registry.grant(wish(of, { leaseMs: 1000 }));
      await registry.activate('a1', lease.id, 1n);
    }
    expect(code(await failure(registry.sweep('a1', 7n, 10)))).toBe('ERR_MOORING_STALE_EPOCH');
    let ended = 0;
    await until(async () => {
      const swept = await registry.sweep('a1', 1n, 2);
      expect(swept.ended.length).toBeLessThanOrEqual(2);
      expect(swept.ended.every((one) => one.reason === 'expired')).toBe(true);
      ended += swept.ended.length;
      return ended === 3;
    });
    expect((await registry.sweep('a1', 1n, 2)).ended).toEqual([]);
  });
});

test('a relay is found while its announcement lasts', async () => {
  const announcement = { id: 'r1', boot: 'ab'.repeat(8), planeUrl: 'wss://r1.example:4557', site: 's' };
  await registry.announceRelay(announcement, 500);
  expect(await registry.relay('r1')).toEqual(announcement);
  await until(async () => (await registry.relay('r1')) === null);
});

describe('a server that is not fit', () => {
  test('is refused when it may evict leases, with the command that mends it', async () => {
    const evicting = await realRedis('--maxmemory-policy', 'allkeys-lru');
    const error = await failure(openRegistry({ url: evicting.socket, log: silent }));
    expect(code(error)).toBe('ERR_MOORING_REGISTRY_UNFIT');
    expect(error.message).toContain('CONFIG SET maxmemory-policy noeviction');
    await evicting.stop();
  });

  test('is named in the log when it becomes so later', async () => {
    const said: string[] = [];
    const log = pino({ level: 'error' }, { write: (line) => said.push(line) });
    const watching = await openRegistry({ url: server.socket, lookEveryMs: 20, log });
    try {
      await server.client().config('SET', 'maxmemory-policy', 'volatile-lru');
      await until(() => said.some((line) => line.includes('CONFIG SET maxmemory-policy noeviction')));
    } finally {
      await server.client().config('SET', 'maxmemory-policy', 'noeviction');
      await watching.close();
    }
  });

  test('that has no memory left takes nothing new and says what mends it; what there is goes on, and ends', async () => {
    await serve();
    const held = async (of: string, leaseMs = 60_000) =>
      registry.activate('a1', (await registry.grant(wish(of, { leaseMs }))).lease.id, 1n);
    const [kept, freed, passing] = [await held('d1'), await held('d2'), await held('d3', 1_000)];
    const before = await registry.snapshot('a1');
    const asked = wish('d4');
    const relay = { id: 'r1', boot: 'ab'.repeat(8), planeUrl: 'wss://r1.example:4557', site: 's' };
    await registry.announceRelay(relay, 60_000);
    await server.client().config('SET', 'maxmemory', '1');
    try {
      expect(await failure(registry.grant(asked))).toMatchObject({
        code: 'ERR_MOORING_REGISTRY_UNAVAILABLE',
        temporary: true,
        message: expect.stringMatching(/no memory left.*CONFIG SET maxmemory/),
      });
      expect((await registry.snapshot('a1')).lastId).toBe(before.lastId);
      const request = { leaseId: kept.id, device: kept.device, requestId: hex() };
      expect((await registry.extend({ ...request, leaseMs: 90_000 })).lease.remainingMs).toBeGreaterThan(
        60_000,
      );
      expect((await registry.renew('a1', 'r1', 1n, 60_000)).remainingMs).toBeGreaterThan(50_000);
      expect((await registry.free({ ...request, leaseId: freed.id, device: freed.device })).reason).toBe(
        'freed',
      );
      await until(async () =>
        (await registry.sweep('a1', 1n, 10)).ended.some(({ lease }) => lease.id === passing.id),
      );
      await registry.announceRelay(relay, 60_000);
    } finally {
      await server.client().config('SET', 'maxmemory', '0');
    }
    const next = await registry.grant(asked);
    expect((await registry.snapshot('a1')).leases.map(({ id }) => id).sort()).toEqual(
      [kept.id, next.lease.id].sort(),
    );
  });

  test('is refused when it is older than 7.0', async () => {
    const proxy = await cuttingProxy(server.socket, (text) =>
      text.replace(/redis_version:\d/, 'redis_version:6'),
    );
    const error = await failure(openRegistry({ url: proxy.socket, log: silent }));
    expect(code(error)).toBe('ERR_MOORING_REGISTRY_UNFIT');
    expect(error.message).toMatch(/version is 6\./);
    proxy.stop();
  });

  test('is named, without its password, when it is not there', async () => {
    const error = await failure(openRegistry({ url: 'redis://me:secret@127.0.0.1:1', log: silent }));
    expect(code(error)).toBe('ERR_MOORING_REGISTRY_UNAVAILABLE');
    expect(error.message).toContain('redis://me@127.0.0.1:1');
    expect(error.message).not.toContain('secret');
  });
});
