import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { contains, formatAddress, parseAddress, parsePrefix } from '../../../src/protocol/address.ts';
import type { Lease, Remote } from '../../../src/protocol/lease.ts';
import { commandConnection, isRefused } from '../../../src/registry/connection.ts';
import { anchorKeys } from '../../../src/registry/keys.ts';
import { hex128 } from '../../../src/registry/leases.ts';
import { leaseFrom } from '../../../src/registry/records.ts';
import type { AnchorDeclaration, Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;
let connection: ReturnType<typeof commandConnection>;
beforeAll(async () => {
  server = await realRedis();
  connection = commandConnection(server.client());
  registry = createStore(connection, silent, async () => undefined);
});
afterAll(() => server.stop());

let anchors = 0;

/** Everything that an anchor can lease, each lease to another device, until it says exhausted. */
async function leaseAll(
  declaration: Pick<AnchorDeclaration, 'sharing' | 'prefixes'> & Partial<AnchorDeclaration>,
): Promise<Lease[]> {
  anchors += 1;
  const id = `all${anchors}`;
  const { capacity } = await registry.declareAnchor({
    id,
    pool: 'p',
    endpoints: ['198.51.100.1'],
    home: 'r',
    ...declaration,
  });
  await registry.claim(id, 'r', '00'.repeat(8), 600_000);
  const kind = declaration.sharing === 'whole' ? 'rsa-ip' : 'rsipsec';
  const grant = (at: number) =>
    connection.run('grant', anchorKeys(id), [
      ...['', `${id}.${String(at).padStart(22, '0')}`, 't', `d${at}`, 'k'.repeat(43), kind],
      ...[600_000, 1, hex128(), hex128(), id, 'p'],
    ]);
  const answers = await Promise.all(Array.from({ length: capacity }, (_, at) => grant(at)));
  const beyond = await grant(capacity);
  expect(isRefused(beyond) && beyond.refused).toBe('EXHAUSTED');
  return answers.map((answer) => leaseFrom((answer as [number, string])[1], 0));
}

test.each([
  ['192.0.2.77/32', 1],
  ['192.0.2.76/31', 2],
  ['192.0.2.0/24', 256],
  ['10.16.0.0/20', 4096],
  ['2001:db8::1/128', 1],
  ['2001:db8::ab00/120', 256],
  ['2001:db8:0:0:1::/116', 4096],
])('every address of %s is leased once, the first and the last too', async (prefix, count) => {
  const leases = await leaseAll({ sharing: 'whole', prefixes: [prefix] });
  const inside = parsePrefix(prefix);
  expect(leases).toHaveLength(count);
  expect(new Set(leases.map(({ address }) => address)).size).toBe(count);
  for (const { address } of leases) {
    expect(address).toBe(formatAddress(parseAddress(address)));
    expect(contains(inside, parseAddress(address))).toBe(true);
  }
});

test.each(['2001:db8:1::/64', '2001:db8::/32', '10.0.0.0/8'])(
  'a lease of %s may be anywhere in it, and no two are the same',
  async (prefix) => {
    const leases = await leaseAll({ sharing: 'whole', prefixes: [prefix] });
    expect(new Set(leases.map(({ address }) => address)).size).toBe(4096);
    expect(leases.every(({ address }) => contains(parsePrefix(prefix), parseAddress(address)))).toBe(true);
    // Low octets alone would be 4,096 consecutive addresses.
    const upper = new Set(leases.map(({ address }) => parseAddress(address).slice(0, -1).join()));
    expect(upper.size).toBeGreaterThan(3000);
  },
);

test('prefixes of both families on one anchor are all leased', async () => {
  const leases = await leaseAll({ sharing: 'whole', prefixes: ['192.0.2.4/31', '2001:db8::/127'] });
  expect(leases.map(({ address }) => address).sort()).toEqual([
    '192.0.2.4',
    '192.0.2.5',
    '2001:db8::',
    '2001:db8::1',
  ]);
});

test.each([
  [['192.0.2.8/32'], 64, 64, 1008],
  [['192.0.2.8/30'], 1024, 256, 252],
  [['192.0.2.8/32'], 8192, 65_536, 7],
  [['192.0.2.8/31'], 16, 1, 4096],
  [['192.0.2.8/32'], 2048, 2, 31],
])(
  'shared %s in blocks of %i ports and %i SPIs makes %s leases that never meet',
  async (prefixes, portBlock, spiBlock, count) => {
    const leases = await leaseAll({ sharing: 'shared', prefixes, portBlock, spiBlock });
    expect(leases).toHaveLength(count);
    const tuples = new Set<string>();
    for (const { address, ports, spis, ikeSpis } of leases) {
      expect(ports?.count).toBe(portBlock);
      expect(ports!.first % portBlock).toBe(0);
      expect(ports!.first).toBeGreaterThanOrEqual(1024);
      expect(ports!.first + portBlock).toBeLessThanOrEqual(65_536);
      expect(spis?.count).toBe(spiBlock);
      expect(spis!.first % spiBlock).toBe(0);
      expect(spis!.first).toBeGreaterThanOrEqual(256);
      expect(spis!.first + spiBlock).toBeLessThanOrEqual(2 ** 32);
      expect(ikeSpis?.count).toBe(0x1_0000);
      expect(ikeSpis!.first % 0x1_0000).toBe(0);
      expect(ikeSpis!.first).toBeGreaterThan(0);
      expect(ikeSpis!.first).toBeLessThan(2 ** 32);
      tuples.add(`${address} port ${ports!.first}`).add(`${address} spi ${spis!.first}`);
      tuples.add(`${address} IKE ${ikeSpis!.first}`);
    }
    expect(tuples.size).toBe(3 * count);
  },
);

test('another anchor draws its SPIs and IKE SPIs in another order', async () => {
  const layout = { sharing: 'shared' as const, prefixes: ['192.0.2.8/32'], portBlock: 8192 };
  const [one, other] = [await leaseAll(layout), await leaseAll(layout)];
  for (const kind of ['spis', 'ikeSpis'] as const) {
    expect(one.map((lease) => lease[kind]?.first)).not.toEqual(other.map((lease) => lease[kind]?.first));
  }
});

test('a lease of ports alone carries no SPIs', async () => {
  await registry.declareAnchor({
    id: 'ports',
    pool: 'ports',
    sharing: 'shared',
    prefixes: ['192.0.2.8/32'],
    endpoints: ['198.51.100.1'],
    home: 'r',
  });
  await registry.claim('ports', 'r', '00'.repeat(8), 60_000);
  const { lease } = await registry.grant({
    pool: 'ports',
    device: { tenant: 't', id: 'd' },
    thumbprint: 'k'.repeat(43),
    kind: 'rsap-ip',
    leaseMs: 60_000,
    requestId: hex128(),
    quota: 1,
  });
  expect(lease).toMatchObject({ ports: { count: 64 }, spis: null, ikeSpis: null, remote: null });
});

describe('a lease for one remote', () => {
  const grant = async (pool: string, remote: Remote | null) => {
    const { lease } = await registry.grant({
      pool,
      device: { tenant: 't', id: 'd' },
      thumbprint: 'k'.repeat(43),
      kind: 'rsipsec',
      leaseMs: 60_000,
      requestId: hex128(),
      quota: 4,
      remote,
    });
    return lease;
  };

  beforeAll(async () => {
    await registry.declareAnchor({
      id: 'remote',
      pool: 'remote',
      sharing: 'shared',
      prefixes: ['192.0.2.8/32'],
      endpoints: ['198.51.100.1'],
      home: 'r',
    });
    await registry.claim('remote', 'r', '00'.repeat(8), 60_000);
  });

  test.each([
    { address: '198.51.100.9', port: null },
    { address: '198.51.100.9', port: 53 },
  ])('R28: names it in every record of it (%o)', async (remote) => {
    const lease = await grant('remote', remote);
    expect(lease.remote).toEqual(remote);
    const { leases } = await registry.snapshot('remote');
    expect(leases.find(({ id }) => id === lease.id)?.remote).toEqual(remote);
    const page = await registry.events('remote', '0-0', 512);
    if (page.reload) throw new Error('the stream begins at its beginning');
    const granted = page.events.find((event) => event.type === 'granted' && event.lease.id === lease.id);
    expect(granted).toMatchObject({ lease: { remote } });
  });

  test('R28: is refused for a remote of another family, as the address that is free cannot reach it', async () => {
    await expect(grant('remote', { address: '2001:db8::9', port: null })).rejects.toMatchObject({
      code: 'ERR_MOORING_REMOTE_FAMILY',
      rsip: 314,
    });
  });

  test('R49: comes with ports, SPIs and IKE SPIs of one address in one answer', async () => {
    const { address, ports, spis, ikeSpis } = await grant('remote', null);
    expect({ address, ports: ports?.count, spis: spis?.count, ikeSpis: ikeSpis?.count }).toEqual({
      address: '192.0.2.8',
      ports: 64,
      spis: 64,
      ikeSpis: 65_536,
    });
  });
});

test('a port below those that are leased is nobody’s, also on an anchor that has grown', async () => {
  const anchor = {
    id: 'grown',
    pool: 'grown',
    sharing: 'shared',
    endpoints: ['198.51.100.1'],
    home: 'r',
  } as const;
  await registry.declareAnchor({ ...anchor, prefixes: ['192.0.2.16/32'] });
  await registry.claim('grown', 'r', '00'.repeat(8), 60_000);
  await registry.declareAnchor({ ...anchor, prefixes: ['192.0.2.16/32', '192.0.2.17/32'] });
  const wished = (port: number) =>
    registry.grant({
      ...{ pool: 'grown', device: { tenant: 't', id: 'd' }, thumbprint: 'k'.repeat(43), kind: 'rsap-ip' },
      ...{ leaseMs: 60_000, requestId: hex128(), quota: 4, local: { port } },
    });
  await expect(wished(80)).rejects.toMatchObject({ code: 'ERR_MOORING_PORTS_UNALLOWED', rsip: 313 });
  expect((await wished(1_024)).lease.ports?.first).toBe(1_024);
});
