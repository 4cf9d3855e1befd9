import { expect } from 'vitest';
import { type RedisShape, until } from '../../../infra/lab/redis-shapes.ts';
import { anchorKeys } from '../../../src/registry/keys.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import type { OneRelay } from './one-relay.ts';

export const keyOf = (anchor: string) => anchorKeys(anchor)[0] as string;

/** Leases that the relay holds are in the registry, no address is held twice, and no fence was given twice. */
export async function expectNothingLostOrDoubled(registry: Registry, relay: OneRelay) {
  const { leases } = await relay.persist(() => registry.snapshot(relay.anchor));
  const held = new Set(leases.map((lease) => lease.id));
  expect([...relay.leases.keys()].filter((id) => !held.has(id))).toEqual([]);
  expect(new Set(leases.map((lease) => lease.address)).size).toBe(leases.length);
  expect(new Set(leases.map((lease) => lease.fence)).size).toBe(leases.length);
}

/** The primary of an anchor loses its replicas, grants once more, and another takes its place. */
export async function loseOneGrant(shape: RedisShape, relay: OneRelay, others: readonly string[]) {
  const former = await shape.primaryOf(keyOf(relay.anchor));
  const away = shape.servers.map(({ name }) => name).filter((name) => name !== former.name);
  await shape.cut([former.name], [...away, ...others]);
  const lost = await relay.lease('unlucky');
  await until(
    'another primary',
    async () => (await shape.primaryOf(keyOf(relay.anchor))).name !== former.name,
  );
  const ledger = await (await shape.primaryOf(keyOf(relay.anchor))).call(
    'HLEN',
    anchorKeys(relay.anchor)[1] as string,
  );
  return { former, lost, ledger };
}
