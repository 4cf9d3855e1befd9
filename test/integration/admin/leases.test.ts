import { afterAll, beforeAll, expect, test } from 'vitest';
import { parsePool } from '../../../src/config/pools.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { type AdminBed, BOOT, startAdminBed } from './admin-bed.ts';

let bed: AdminBed;
beforeAll(async () => {
  bed = await startAdminBed();
});
afterAll(() => bed?.close());

const leasesOf = async (query: string, as: 'root' | 'acme' = 'root'): Promise<Lease[]> =>
  (await bed.ask('GET', `/v1/leases?${query}`, { as })).body.leases;

test('who has this address, this port of it, this SPI', async () => {
  const lease = await bed.grant('acme', 'finder');
  const other = await bed.grant('acme', 'neighbour');
  const [port, spi] = [(lease.ports?.first ?? 0) + 3, (lease.spis?.first ?? 0) + 1];
  const ids = (leases: readonly Lease[]) => leases.map(({ id }) => id);
  expect(ids(await leasesOf(`address=${lease.address}&port=${port}`))).toEqual([lease.id]);
  expect(ids(await leasesOf(`address=${lease.address}&spi=${spi}`))).toEqual([lease.id]);
  expect(ids(await leasesOf(`address=${lease.address}&port=1`))).toEqual([]);
  expect(ids(await leasesOf('address=192.0.2.1'))).toEqual([]);
  expect(ids(await leasesOf('tenant=acme&device=finder'))).toEqual([lease.id]);
  expect(ids(await leasesOf(`anchor=${other.anchor}`))).toContain(other.id);
  expect(ids(await leasesOf('pool=nowhere'))).toEqual([]);
  const shown = await bed.ask('GET', `/v1/leases/${lease.id}`);
  expect(shown.body).toMatchObject({ lease: { id: lease.id, state: 'active' }, path: null, relay: 'r1' });
});

test('where a device was last is shown to whoever looks at its lease', async () => {
  const lease = await bed.grant('acme', 'mover');
  const epoch = (await bed.registry.owner(lease.anchor))?.epoch ?? 0n;
  const hint = { session: lease.session, address: '192.0.2.77', port: 4500, generation: 1, deviceBoot: BOOT };
  await bed.registry.putHint(lease.anchor, epoch, lease.device, hint);
  expect((await bed.ask('GET', `/v1/leases/${lease.id}`)).body.path).toEqual({
    address: '192.0.2.77',
    port: 4500,
  });
});

test('what is revoked is ended for all, its relay is told, and it stays so after a takeover', async () => {
  const lease = await bed.grant('acme', 'gone');
  bed.relayCalls.length = 0;
  const first = await bed.ask('DELETE', `/v1/leases/${lease.id}`);
  expect(first.body).toMatchObject({ lease: { id: lease.id }, reason: 'revoked', stopped: true });
  expect(bed.relayCalls).toMatchObject([
    ['r1', 'apply', { anchor: lease.anchor, event: { type: 'ended', reason: 'revoked' } }],
  ]);
  const again = await bed.ask('DELETE', `/v1/leases/${lease.id}`);
  expect(again.body.lease.fence).toBe(first.body.lease.fence);
  const epoch = (await bed.registry.owner(lease.anchor))?.epoch ?? 0n;
  await bed.registry.transfer(lease.anchor, 'r1', epoch, 'r2', BOOT, 600_000);
  expect((await bed.ask('GET', `/v1/leases/${lease.id}`)).body).toMatchObject({
    status: 404,
    code: 'ERR_MOORING_NO_LEASE',
    rsip: 306,
    name: 'BAD_BIND_ID',
  });
  await bed.registry.transfer(lease.anchor, 'r2', epoch + 1n, 'r1', BOOT, 600_000);
});

test('a relay that cannot be told makes the answer say so, and the lease is ended all the same', async () => {
  const lease = await bed.grant('acme', 'silent');
  bed.relayFails = new Error('unreachable');
  const { body } = await bed.ask('DELETE', `/v1/leases/${lease.id}`);
  bed.relayFails = null;
  expect(body).toMatchObject({ reason: 'revoked', stopped: false });
  expect(await leasesOf('tenant=acme&device=silent')).toEqual([]);
});

test('an operator of one tenant neither sees nor ends what is another’s, nor learns that it is there', async () => {
  const theirs = await bed.grant('rival', 'd1');
  const ours = await bed.grant('acme', 'd1');
  expect((await leasesOf('', 'acme')).every(({ device }) => device.tenant === 'acme')).toBe(true);
  expect(await leasesOf('tenant=rival', 'acme')).toEqual([]);
  expect(await leasesOf(`address=${theirs.address}&port=${theirs.ports?.first}`, 'acme')).toEqual([]);
  expect((await leasesOf('device=d1', 'acme')).map(({ id }) => id)).toEqual([ours.id]);
  const none = `${theirs.anchor}.${'x'.repeat(22)}`;
  for (const method of ['GET', 'DELETE']) {
    const [foreign, missing] = await Promise.all(
      [theirs.id, none].map((id) => bed.ask(method, `/v1/leases/${id}`, { as: 'acme' })),
    );
    expect(foreign?.status).toBe(404);
    const said = ({ body }: { body: { detail: string } }, id: string) => body.detail.replace(id, 'X');
    expect(said(foreign!, theirs.id)).toBe(said(missing!, none));
  }
  expect(await leasesOf('tenant=rival&device=d1')).toHaveLength(1);
  expect((await bed.ask('DELETE', `/v1/leases/${ours.id}`, { as: 'acme' })).status).toBe(200);
});

test('ten thousand leases come page by page, each once, while others come and go', async () => {
  const anchors = [0, 1, 2].map((n) => ({
    id: `many-${n}`,
    home: 'r1',
    endpoints: [`203.0.113.${10 + n}`],
    prefixes: [`192.0.2.${n * 16}/29`],
  }));
  await bed.registry.declarePool(
    parsePool({ name: 'many', sharing: 'shared', portBlock: 64, anchors }),
    'operator',
  );
  for (const { id } of anchors) await bed.registry.claim(id, 'r1', BOOT, 600_000);
  const wanted = new Set<string>();
  const grantMany = async (from: number, count: number) => {
    const granted = Array.from({ length: count }, async (_, at) => {
      const { lease } = await bed.registry.grant({
        pool: 'many',
        device: { tenant: 'acme', id: `m${from + at}` },
        thumbprint: 'k'.repeat(43),
        kind: 'rsap-ip',
        leaseMs: 600_000,
        requestId: (from + at).toString(16).padStart(32, '0'),
        quota: 8,
      });
      return lease.id;
    });
    return Promise.all(granted);
  };
  for (let at = 0; at < 10_000; at += 200) for (const id of await grantMany(at, 200)) wanted.add(id);
  expect(wanted.size).toBe(10_000);

  const seen: string[] = [];
  let after = '';
  let pages = 0;
  do {
    const { body } = await bed.ask('GET', `/v1/leases?pool=many&limit=500${after}`);
    seen.push(...body.leases.map(({ id }: Lease) => id));
    after = body.next === null ? '' : `&after=${encodeURIComponent(body.next)}`;
    pages += 1;
    // Someone comes and goes between any two pages.
    const [passing = ''] = await grantMany(20_000 + pages, 1);
    await bed.registry.withdraw(passing);
  } while (after !== '');
  expect(pages).toBeGreaterThanOrEqual(20);
  expect(new Set(seen).size).toBe(seen.length);
  expect(seen.filter((id) => wanted.has(id))).toHaveLength(10_000);
});
