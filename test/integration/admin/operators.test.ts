import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { OPERATIONS } from '../../../src/admin/operations.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import { type AdminBed, BOOT, SHARED, startAdminBed } from './admin-bed.ts';

let bed: AdminBed;
beforeAll(async () => {
  bed = await startAdminBed();
  for (const id of ['r1', 'r2', 'r3']) {
    await bed.registry.announceRelay({ id, boot: BOOT, planeUrl: `wss://${id}.test`, site: 's1' }, 600_000);
  }
  await bed.registry.announceRelay(
    { id: 'far', boot: BOOT, planeUrl: 'wss://far.test', site: 's2' },
    600_000,
  );
});
afterAll(() => bed?.close());
beforeEach(() => {
  bed.relayCalls.length = 0;
  bed.relayFails = null;
});

const put = (body: object, revision: string, name = 'shared', as: 'root' | 'other-root' = 'root') =>
  bed.ask('PUT', `/v1/pools/${name}`, { as, body, headers: { 'if-match': `"${revision}"` } });
const anchorsWith = (prefix: string) =>
  SHARED.anchors.map((anchor) =>
    anchor.id === 'a1' ? { ...anchor, prefixes: [...anchor.prefixes, prefix] } : anchor,
  );

describe('pools', () => {
  test('are listed with how full they are, and shown with a revision', async () => {
    const { body } = await bed.ask('GET', '/v1/pools');
    expect(body.pools).toMatchObject([{ name: 'shared', sharing: 'shared', anchors: 2, held: 0 }]);
    const shown = await bed.ask('GET', '/v1/pools/shared');
    expect(shown.headers.get('etag')).toBe(`"${shown.body.revision}"`);
    expect(shown.body.anchors).toMatchObject([{ id: 'a1', owner: { relay: 'r1' } }, { id: 'a2' }]);
  });

  test('grow and shrink while leases live', async () => {
    const before = (await bed.ask('GET', '/v1/pools/shared')).body;
    const grown = await put({ ...SHARED, anchors: anchorsWith('198.51.100.32/30') }, before.revision);
    expect(grown.body.anchors[0]).toMatchObject({
      prefixes: ['198.51.100.0/30', '198.51.100.32/30'],
      capacity: 2 * before.anchors[0].capacity > 4096 ? 4096 : 2 * before.anchors[0].capacity,
    });
    expect(grown.body.revision).not.toBe(before.revision);
    const shrunk = await put(SHARED, grown.body.revision);
    expect(shrunk.body.anchors[0].prefixes).toEqual(['198.51.100.0/30']);
  });

  test('of two operators who have read the same, one changes the pool and the other is told', async () => {
    const { revision } = (await bed.ask('GET', '/v1/pools/shared')).body;
    const answers = await Promise.all([
      put({ ...SHARED, maxLeasesPerDevice: 7 }, revision, 'shared', 'root'),
      put({ ...SHARED, maxLeasesPerDevice: 9 }, revision, 'shared', 'other-root'),
    ]);
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 412]);
    const winner = answers.find(({ status }) => status === 200);
    const after = (await bed.ask('GET', '/v1/pools/shared')).body;
    expect(after.policy.maxLeasesPerDevice).toBe(winner?.body.policy.maxLeasesPerDevice);
    expect(after.revision).toBe(winner?.body.revision);
  });

  test('limit what a tenant may hold, from the next request on and until the limit is taken away', async () => {
    const lease = (requestId: string) =>
      bed.registry.grant({
        ...{ pool: 'shared', device: { tenant: 'acme', id: requestId }, thumbprint: 'k'.repeat(43) },
        ...{ kind: 'rsap-ip', leaseMs: 60_000, requestId: requestId.repeat(32), quota: 9 },
      });
    const { revision } = (await bed.ask('GET', '/v1/pools/shared')).body;
    const limited = await put({ ...SHARED, maxLeasesPerTenant: 1 }, revision);
    expect(limited.body.policy.maxLeasesPerTenant).toBe(1);
    const held = [(await lease('a')).lease];
    await expect(lease('b')).rejects.toMatchObject({ code: 'ERR_MOORING_TENANT_QUOTA' });
    const refused = await put({ ...SHARED, maxLeasesPerTenant: 0 }, limited.body.revision);
    expect(refused.body).toMatchObject({ status: 400, field: 'maxLeasesPerTenant' });
    const raised = await put({ ...SHARED, maxLeasesPerTenant: 2 }, limited.body.revision);
    held.push((await lease('c')).lease);
    await expect(lease('d')).rejects.toMatchObject({ data: { limit: 2 } });
    const freed = await put(SHARED, raised.body.revision);
    expect(freed.body.policy).not.toHaveProperty('maxLeasesPerTenant');
    held.push((await lease('e')).lease);
    for (const { id } of held) await bed.registry.withdraw(id);
  });

  test('do not change without a revision', async () => {
    const answer = await bed.ask('PUT', '/v1/pools/shared', { body: SHARED });
    expect(answer.body).toMatchObject({ status: 428, code: 'ERR_MOORING_REVISION_NEEDED' });
  });

  test('a new one is made once, and said again is the same', async () => {
    const pool = {
      name: 'fresh',
      sharing: 'whole',
      anchors: [{ id: 'f1', home: 'r1', endpoints: ['203.0.113.9'], prefixes: ['192.0.2.64/30'] }],
    };
    const made = await put(pool, 'none', 'fresh');
    expect(made.body).toMatchObject({ policy: { name: 'fresh', coolingMs: 120_000 }, retiring: false });
    expect((await put(pool, 'none', 'fresh')).status).toBe(412);
    expect((await put(pool, '*', 'fresh')).body.revision).toBe(made.body.revision);
    const retired = await bed.ask('DELETE', '/v1/pools/fresh', { headers: { 'if-match': '*' } });
    expect(retired.body.retiring).toBe(true);
  });

  test.each<[string, object, string]>([
    [
      'a prefix with host bits',
      { anchors: [{ ...SHARED.anchors[0], prefixes: ['198.51.100.1/30'] }] },
      'prefix',
    ],
    ['a block that is no power of two', { portBlock: 100 }, 'portBlock'],
    ['another name than the path’s', { name: 'other' }, 'name'],
    ['a setting that does not exist', { colour: 'red' }, 'colour'],
    [
      'private addresses as public ones',
      { anchors: [{ ...SHARED.anchors[0], prefixes: ['10.0.0.0/30'] }] },
      'realm',
    ],
  ])('%s is refused by name', async (_, more, named) => {
    const { body } = await put({ ...SHARED, ...more }, '*');
    expect(body.status).toBe(400);
    expect(body.detail).toContain(named);
  });

  test('an address is one anchor’s, also across pools', async () => {
    const thief = { id: 'thief', home: 'r1', endpoints: ['203.0.113.8'], prefixes: ['198.51.100.0/31'] };
    const { body } = await put({ name: 'second', sharing: 'whole', anchors: [thief] }, 'none', 'second');
    expect(body).toMatchObject({ status: 409, code: 'ERR_MOORING_OVERLAP' });
    expect(body.detail).toContain('a1');
  });

  test('none of the name is said so', async () => {
    const { body } = await bed.ask('GET', '/v1/pools/nowhere');
    expect(body).toMatchObject({ status: 404, code: 'ERR_MOORING_UNKNOWN_POOL' });
  });
});

describe('anchors and relays', () => {
  test('a hand-over is the owner’s work, and done again it is done', async () => {
    const moved = await bed.ask('POST', '/v1/anchors/a1/handover', { body: { to: 'r2' } });
    expect(moved.body).toMatchObject({ anchor: 'a1', to: 'r2', epoch: '2' });
    expect(bed.relayCalls).toEqual([['r1', 'handOver', { anchor: 'a1', to: 'r2' }]]);
    const again = await bed.ask('POST', '/v1/anchors/a1/handover', { body: { to: 'r2' } });
    expect(again.body).toMatchObject({ epoch: '2', tookMs: 0 });
    expect(bed.relayCalls).toHaveLength(1);
  });

  test('what the owner says against it reaches the operator as it was said', async () => {
    bed.relayFails = new MooringError(
      'ERR_MOORING_HAND_OVER_RUNNING',
      'anchor a1 is being handed over already',
      {
        temporary: true,
        retryAfterMs: 1_500,
      },
    );
    const answer = await bed.ask('POST', '/v1/anchors/a1/handover', { body: { to: 'r3' } });
    expect(answer.body).toMatchObject({
      status: 503,
      code: 'ERR_MOORING_HAND_OVER_RUNNING',
      retryAfterMs: 1_500,
    });
    expect(answer.headers.get('retry-after')).toBe('2');
  });

  test('an anchor is not claimed from an owner that holds it', async () => {
    const { body } = await bed.ask('POST', '/v1/anchors/a1/claim', { body: { relay: 'r3' } });
    expect(body).toMatchObject({ status: 409, code: 'ERR_MOORING_OWNED_BY_ANOTHER' });
  });

  test('and is, when its owner is gone', async () => {
    const { epoch } = (await bed.registry.owner('a1'))!;
    await bed.registry.release('a1', 'r2', epoch);
    const { body } = await bed.ask('POST', '/v1/anchors/a1/claim', { body: { relay: 'r3' } });
    expect(body).toEqual({ anchor: 'a1', relay: 'r3', epoch: String(epoch + 1n) });
  });

  test('relays are listed with what they own, page by page', async () => {
    const first = (await bed.ask('GET', '/v1/relays?limit=2')).body;
    expect(first.relays.map(({ id }: { id: string }) => id)).toEqual(['far', 'r1']);
    const second = (await bed.ask('GET', `/v1/relays?limit=2&after=${first.next}`)).body;
    expect(second).toMatchObject({
      relays: [
        { id: 'r2', anchors: 0 },
        { id: 'r3', anchors: 1 },
      ],
      next: null,
    });
    const shown = await bed.ask('GET', '/v1/relays/r3');
    expect(shown.body).toMatchObject({ relay: { id: 'r3', site: 's1' }, owns: ['a1'] });
    const owned = (await bed.ask('GET', '/v1/anchors?relay=r3')).body.anchors;
    expect(owned).toMatchObject([{ id: 'a1', owner: { relay: 'r3', remainingMs: expect.any(Number) } }]);
  });

  test('a drained relay’s anchors go to its site, to the standby or to whoever owns fewest', async () => {
    const owner = (await bed.registry.owner('a1'))!;
    await bed.registry.appoint('a1', 'r3', owner.epoch, { id: 'r2', boot: BOOT }, 600_000);
    const { body } = await bed.ask('POST', '/v1/relays/r3/drain');
    expect(body).toMatchObject({
      relay: 'r3',
      moved: [{ anchor: 'a1', to: 'r2' }],
      failed: [],
      remaining: 0,
    });
    expect((await bed.ask('POST', '/v1/relays/r3/drain')).body).toMatchObject({ moved: [], remaining: 0 });
    const next = await bed.ask('POST', '/v1/relays/r1/drain');
    expect(next.body.moved).toMatchObject([{ anchor: 'a2', to: 'r3' }]);
  });

  test('a drain that cannot go on says what stays and why', async () => {
    bed.relayFails = new MooringError('ERR_MOORING_RELAY_UNREACHABLE', 'relay at r2: gone', {
      temporary: true,
    });
    const { body } = await bed.ask('POST', '/v1/relays/r2/drain');
    expect(body).toMatchObject({
      moved: [],
      failed: [{ anchor: 'a1', code: 'ERR_MOORING_RELAY_UNREACHABLE' }],
      remaining: 1,
    });
  });

  test('an anchor is retired when a change of its pool that is under way is through, not amid it', async () => {
    const order: string[] = [];
    let retired: Promise<unknown> = Promise.resolve();
    await bed.registry.changing('shared', async () => {
      retired = bed.ask('DELETE', '/v1/anchors/a2').then(() => order.push('retired'));
      // Long enough for an answer that waits for nothing.
      for (let at = 0; at < 20; at += 1) await bed.ask('GET', '/v1/anchors/a2');
      order.push('changed');
    });
    await retired;
    expect(order).toEqual(['changed', 'retired']);
  });

  test('a retired anchor grants no more', async () => {
    const { body } = await bed.ask('DELETE', '/v1/anchors/a2');
    expect(body).toMatchObject({ id: 'a2', retiring: true });
  });

  test.each(['anchors', 'relays', 'pools'])('none of the name in %s is said so', async (list) => {
    expect((await bed.ask('GET', `/v1/${list}/no-such`)).status).toBe(404);
  });
});

describe('what no operator would send', () => {
  /** Deterministic: a failure names its seed by its place in the list. */
  function* noise(seed: number, count: number): Generator<string> {
    let state = seed;
    const next = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const pieces = [
      '..',
      '%00',
      '%2e%2e',
      '{',
      '}',
      ':',
      '*',
      'no-such',
      '\'"',
      '0',
      '-1',
      '1e9',
      'é',
      '\\',
      ' ',
      'x'.repeat(200),
    ];
    for (let at = 0; at < count; at += 1) {
      yield Array.from({ length: 1 + next(4) }, () => pieces[next(pieces.length)]).join('');
    }
  }

  test.each(OPERATIONS.map(({ id, method, path, body }) => ({ id, method, path, body })))(
    'is refused by $id, in path, query and body, without harm',
    async ({ method, path, body }) => {
      const answers = [];
      for (const text of noise(4556, 8)) {
        const odd = encodeURIComponent(text);
        const hit = path.replaceAll(/\{\w+\}/g, odd);
        const headers = { 'if-match': text.replaceAll(/[^\x20-\x7e]/g, '?') };
        if (hit !== path) {
          answers.push(await bed.ask(method, hit, { headers, ...(body === null ? {} : { raw: text }) }));
        }
        const known = path.replaceAll(/\{\w+\}/g, 'a1');
        answers.push(
          await bed.ask(
            method,
            `${known}?limit=${odd}&${odd}=1`,
            body === null ? {} : { body: { to: text, relay: text, name: text } },
          ),
        );
      }
      for (const { status } of answers) expect([400, 404, 428]).toContain(status);
    },
  );

  test.each<[string, { raw?: string; headers?: Record<string, string> }, number]>([
    ['a body that is no JSON', { raw: '{"to":' }, 400],
    ['a body of another type', { raw: 'to=r2', headers: { 'content-type': 'text/plain' } }, 415],
    ['a body without end', { raw: JSON.stringify({ to: 'x'.repeat(70_000) }) }, 413],
    ['a body that would change every object', { raw: '{"__proto__":{"to":"r2"}}' }, 400],
    ['a list where an object is due', { raw: '["r2"]' }, 400],
    ['nothing where an object is due', { raw: '' }, 400],
  ])('%s is refused', async (_, { raw, headers = {} }, status) => {
    const answer = await bed.ask('POST', '/v1/anchors/a1/handover', { raw: raw ?? '', headers });
    expect(answer.status).toBe(status);
    expect(answer.body.type).toMatch(/^urn:mooring:error:/);
  });

  test.each(['/v1', '/v1/', '/v2/pools', '/v1/pools/', '/v1/pools/a/b/c', '/status', '/%', '//v1/pools'])(
    '%s leads nowhere',
    async (path) => {
      const { status, headers } = await bed.ask('GET', path);
      expect([400, 404]).toContain(status);
      expect(headers.get('content-type')).toMatch(/^application\/problem\+json/);
    },
  );

  test('a filter said twice, or with nothing in it, is refused by name', async () => {
    expect((await bed.ask('GET', '/v1/leases?pool=a&pool=b')).body).toMatchObject({
      status: 400,
      field: 'pool',
    });
    expect((await bed.ask('GET', '/v1/leases?port=80')).body).toMatchObject({
      status: 400,
      field: 'address',
    });
    expect((await bed.ask('GET', '/v1/leases?address=')).body).toMatchObject({
      status: 400,
      field: 'address',
    });
    expect((await bed.ask('GET', '/v1/leases?address=999.1.1.1')).body).toMatchObject({ status: 400 });
    expect((await bed.ask('GET', '/v1/leases?limit=some')).body).toMatchObject({
      status: 400,
      field: 'limit',
    });
  });
});
