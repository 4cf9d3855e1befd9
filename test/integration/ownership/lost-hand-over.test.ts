import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { createOwnership, type Ownership } from '../../../src/ownership/ownership.ts';
import { createPairing } from '../../../src/ownership/pair.ts';
import { createStandby, type Standby } from '../../../src/ownership/standby.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { holdMs } from '../../../src/registry/hold.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent, until } from '../registry/real-redis.ts';

const TTL_MS = 400;
const GIVER = { id: 'r1', boot: '0a'.repeat(8) };
const TAKER = { id: 'r2', boot: '0b'.repeat(8) };

let server: RealRedis;
let registry: Registry;
const stops: (() => void)[] = [];
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

/** A relay of a pool without standbys, whose promises of before have run out. */
function relay({ id, boot }: typeof GIVER): {
  ownership: Ownership;
  standby: Standby;
  review(): Promise<void>;
} {
  const standby = createStandby({
    ...{ registry, relay: id, boot, promiseMs: holdMs(TTL_MS), log: silent },
    startedMs: Number.NEGATIVE_INFINITY,
    owns: (anchor) => ownership.owned().has(anchor),
    claim: (anchor) => ownership.claim(anchor),
    onFollow: () => undefined,
    onUnfollow: () => undefined,
  });
  const pairing = createPairing({
    ...{ registry, relay: id, log: silent, askEveryMs: 50 },
    ownership: { owned: () => ownership.owned(), extend: () => undefined },
    wants: () => false,
    candidates: async () => [],
    reach: () => Promise.reject(new Error('nobody is asked')),
    ttlMs: { paired: TTL_MS, alone: TTL_MS, beginning: TTL_MS },
  });
  const ownership = createOwnership({
    ...{ registry, relay: id, boot, ttlMs: TTL_MS, log: silent },
    onAdopted: pairing.adopted,
    onOwned: () => undefined,
    onDeadline: () => undefined,
    onLost: () => undefined,
  });
  stops.push(() => {
    ownership.stop();
    standby.stop();
    pairing.stop();
  });
  return { ownership, standby, review: pairing.review };
}

async function begin(): Promise<ReturnType<typeof relay>> {
  await server.client().flushall();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
  await registry.declareAnchor({
    ...{ id: 'a1', pool: 'p', sharing: 'whole', home: 'r1' },
    ...{ prefixes: ['192.0.2.8/30'], endpoints: ['198.51.100.1'] },
  });
  const giver = relay(GIVER);
  await giver.ownership.start(['a1']);
  return giver;
}

const steps = (deliver: (epoch: bigint) => Promise<void>) => ({
  freeze: async () => 'state',
  thaw: async () => undefined,
  deliver,
});

test('an anchor whose next owner dies before it takes it up comes back to the relay that gave it', async () => {
  const giver = await begin();
  const dies = () => Promise.reject(new Error('the other relay is gone'));
  await expect(giver.ownership.handOver('a1', TAKER, steps(dies))).rejects.toThrow(/is gone/);
  expect(await registry.owner('a1')).toMatchObject({ relay: 'r2', epoch: 2n, standby: GIVER });
  await giver.standby.look('a1');
  expect(giver.ownership.owned().has('a1')).toBe(false);
  await until(() => giver.ownership.owned().has('a1'));
  expect(await registry.owner('a1')).toMatchObject({ relay: 'r1', epoch: 3n });
});

test('while the next owner lives nothing comes back, and it stands by no longer', async () => {
  const giver = await begin();
  const taker = relay(TAKER);
  await giver.ownership.handOver(
    'a1',
    TAKER,
    steps((epoch) => taker.ownership.adopt('a1', epoch)),
  );
  await giver.standby.look('a1');
  await new Promise((resolve) => setTimeout(resolve, 2 * TTL_MS));
  expect(taker.ownership.owned().has('a1')).toBe(true);
  expect(giver.ownership.owned().has('a1')).toBe(false);
  await taker.review();
  expect((await registry.owner('a1'))?.standby).toBeUndefined();
  taker.ownership.stop();
  await until(async () => ((await registry.owner('a1'))?.remainingMs ?? 1) <= 0);
  await new Promise((resolve) => setTimeout(resolve, 500));
  expect(giver.ownership.owned().has('a1')).toBe(false);
});
