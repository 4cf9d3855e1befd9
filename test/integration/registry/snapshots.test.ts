import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Connection, commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { requestId } from './one-relay.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

/** More than one page. */
const LEASES = 600;
const BOOT = 'b'.repeat(16);

let server: RealRedis;
/** What happens before the next page is read. */
let meanwhile: (() => Promise<unknown>)[] = [];
let pages = 0;
let registry: Registry;

beforeAll(async () => {
  server = await realRedis();
  const plain = commandConnection(server.client());
  const calm = createStore(plain, silent, async () => undefined);
  const interrupted: Connection = {
    ...plain,
    async run(command, keys, args) {
      const answer = await plain.run(command, keys, args);
      if (command !== 'snapshot') return answer;
      pages += 1;
      await meanwhile.shift()?.();
      return answer;
    },
  };
  registry = {
    ...calm,
    snapshot: createStore(interrupted, silent, async () => undefined).snapshot,
  };
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'whole', home: 'r1' },
    ...{ prefixes: ['10.0.0.0/22'], endpoints: ['198.51.100.1'] },
  });
  await registry.claim('a1', 'r1', BOOT, 600_000);
  const grants = Array.from({ length: LEASES }, (_, at) => grant(`d${at}`));
  await Promise.all(grants);
});
afterAll(() => server.stop());

const grant = async (device: string, key = 'k') => {
  const wish = { device: { tenant: 't', id: device }, thumbprint: key.repeat(43) };
  const rest = { kind: 'rsa-ip', leaseMs: 600_000, requestId: requestId(), quota: 4 } as const;
  return registry.grant({ pool: 'p', ...wish, ...rest });
};
const shown = async () => {
  const { leases, sessions, hints, lastId, epoch } = await registry.snapshot('a1');
  return {
    leases: leases.map((lease) => ({ ...lease, remainingMs: 0 })).sort(byId),
    sessions: [...sessions].sort(byId),
    ...{ hints, lastId, epoch },
  };
};
const byId = (one: { id: string }, other: { id: string }) => (one.id < other.id ? -1 : 1);

test('an anchor that changes while it is read is read as it was at one instant', async () => {
  const { leases } = await registry.snapshot('a1');
  const [freed, extended, activated, moved] = [leases[0]!, leases[590]!, leases[300]!, leases[10]!];
  const epoch = (await registry.owner('a1'))!.epoch;
  await registry.activate('a1', extended.id, epoch);
  pages = 0;
  meanwhile = [
    async () => {
      await registry.withdraw(freed.id);
      await grant('new');
      await registry.activate('a1', activated.id, epoch);
    },
    async () => {
      await registry.attach({ leaseId: moved.id, device: moved.device, thumbprint: 'z'.repeat(43) });
      const life = { leaseMs: 900_000, requestId: requestId() };
      await registry.extend({ leaseId: extended.id, device: extended.device, ...life });
    },
  ];
  const during = await shown();
  expect(pages).toBeGreaterThan(2);
  expect(during).toEqual(await shown());
  expect(during.leases).toHaveLength(LEASES);
  expect(during.leases.some(({ id }) => id === freed.id)).toBe(false);
});

test('one that changes its owner while it is read is read again', async () => {
  meanwhile = [() => registry.claim('a1', 'r1', 'c'.repeat(16), 600_000)];
  const during = await shown();
  expect(during.epoch).toBe((await registry.owner('a1'))!.epoch);
});

test('one whose stream is too short to tell what happened is read again', async () => {
  pages = 0;
  meanwhile = [
    async () => {
      await grant('last');
      await server.client().xtrim('mooring2:{a:a1}:events', 'MAXLEN', 0);
    },
  ];
  const during = await shown();
  expect(during.leases.some(({ device }) => device.id === 'last')).toBe(true);
});
