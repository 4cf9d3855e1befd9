import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { parsePool } from '../../../src/config/pools.ts';
import type { PoolSettings } from '../../../src/config/schema.ts';
import type { MooringError } from '../../../src/protocol/errors.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import { anchorKeys, spaceKeys } from '../../../src/registry/keys.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent } from './real-redis.ts';

let server: RealRedis;
let registry: Registry;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
});

const pool = (name: string, anchor: string, ...prefixes: string[]): PoolSettings =>
  parsePool({
    name,
    sharing: 'whole',
    anchors: [{ id: anchor, home: 'r1', endpoints: [`203.0.113.${anchor.slice(1)}`], prefixes }],
  });
const operator = (settings: PoolSettings) => registry.declarePool(settings, 'operator');
const code = (promise: Promise<unknown>) =>
  promise.then(
    () => 'ok',
    (error: MooringError) => error.code,
  );
/** What is declared, without the revision. */
const declared = async () => {
  const { policies, anchors } = (await registry.roster())!;
  return { policies, anchors };
};

describe('pools that the registry has forgotten', () => {
  const ofFile = pool('filed', 'a1', '192.0.2.0/30');

  test('are what they were when a node says so that saw them, whoever had declared them', async () => {
    await registry.declareFile([ofFile]);
    await operator(pool('filed', 'a1', '192.0.2.0/29'));
    await operator(pool('added', 'a2', '198.51.100.0/30', '198.51.100.8/30'));
    await operator(pool('added', 'a2', '198.51.100.0/30'));
    const seen = (await registry.roster())!;
    const before = await declared();
    expect(before.anchors.map(({ draining }) => draining.length)).toEqual([1, 0]);
    await server.client().flushall();
    await registry.restore(seen, [ofFile]);
    expect(await declared()).toEqual(before);
    // Its file has not said anything else since.
    await registry.declareFile([ofFile]);
    expect(await declared()).toEqual(before);
    for (const taken of ['192.0.2.4/32', '198.51.100.8/32'])
      expect(await code(operator(pool('thief', 'a3', taken)))).toBe('ERR_MOORING_OVERLAP');
  });

  test('leave no address to another anchor once its owner has said that it has them', async () => {
    await operator(pool('added', 'a2', '198.51.100.0/30'));
    const known = (await registry.anchor('a2'))!;
    await server.client().flushall();
    await registry.redeclare(known);
    expect(await code(operator(pool('thief', 'a3', '198.51.100.0/32')))).toBe('ERR_MOORING_OVERLAP');
  });

  test('and nothing else of an anchor, are told of it by its owner', async () => {
    await operator(pool('added', 'a2', '198.51.100.0/30'));
    await server.client().del(...spaceKeys());
    await registry.enlist('a2');
    expect(await code(operator(pool('thief', 'a3', '198.51.100.0/32')))).toBe('ERR_MOORING_OVERLAP');
    const { revision } = (await registry.roster())!;
    await registry.enlist('a2');
    await registry.enlist('gone');
    expect(await registry.roster(revision)).toBeNull();
  });
});

test('an anchor is one pool’s: another that names it is refused and changes nothing', async () => {
  await operator(pool('one', 'a1', '192.0.2.0/30'));
  expect(await code(operator(pool('other', 'a1', '198.51.100.0/30')))).toBe('ERR_MOORING_ANCHOR_TAKEN');
  expect((await registry.pool('one'))?.anchors[0]?.prefixes).toEqual(['192.0.2.0/30']);
  expect(await registry.pool('other')).toBeNull();
});

describe('a pool that is retired', () => {
  test('goes at once when no anchor is left in it', async () => {
    await operator(pool('one', 'a1', '192.0.2.0/30'));
    await registry.retireAnchor('a1');
    await registry.finishDraining('a1');
    expect(await registry.anchor('a1')).toBeNull();
    expect((await registry.pools()).map(({ policy }) => policy.name)).toEqual(['one']);
    expect((await registry.retirePool('one')).retiring).toBe(true);
    expect(await registry.pools()).toEqual([]);
  });

  test.each([
    ['another pool asks for them', () => operator(pool('other', 'a2', '192.0.2.0/31'))],
    ['it is retired again', () => registry.retirePool('one')],
  ])('is forgotten although who removed its anchor was killed before it said so, when %s', async (_, act) => {
    await operator(pool('one', 'a1', '192.0.2.0/30'));
    await registry.retirePool('one');
    await server.client().hdel(anchorKeys('a1')[0]!, 'plan', 'declaration');
    expect(await registry.anchor('a1')).toBeNull();
    expect((await registry.pools()).map(({ policy }) => policy.name)).toEqual(['one']);
    await act();
    expect((await registry.pools()).map(({ policy }) => policy.name)).not.toContain('one');
    expect(await code(operator(pool('third', 'a3', '192.0.2.2/31')))).toBe('ok');
  });
});
