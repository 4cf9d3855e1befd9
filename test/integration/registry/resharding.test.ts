import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { cluster, type RedisShape, until } from '../../../infra/lab/redis-shapes.ts';
import { deviceKeys } from '../../../src/registry/keys.ts';
import { openRegistry } from '../../../src/registry/open.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { expectNothingLostOrDoubled, keyOf } from './lost-grant.ts';
import { type OneRelay, oneRelay, requestId } from './one-relay.ts';
import { silent } from './real-redis.ts';

const run = promisify(execFile);
/** Of the first primary, whose slots are moved from the lowest on. */
const MOVED_SLOTS = 250;
const LEASES_A_DEVICE = 10;
const EXTENSIONS_A_LEASE = 20;

test('a cluster is resharded by redis-cli while devices lease: every request ends with one lease, and relays are woken after', async () => {
  const shape = await cluster({ replicas: 0 });
  const registry = await openRegistry({ url: shape.url, log: silent });
  try {
    const slotOf = async (key: string) => Number(await shape.server('c1').call('CLUSTER', 'KEYSLOT', key));
    const moved = (prefix: string, key: (name: string) => string, count: number) =>
      namesOf(count, prefix, async (name) => (await slotOf(key(name))) < MOVED_SLOTS);
    const [anchors, devices] = await Promise.all([
      moved('anchor', keyOf, 2),
      moved('device', (id) => deviceKeys({ tenant: 'acme', id })[0]!, 4),
    ]);
    const relays = await Promise.all(
      anchors.map((anchor, at) => oneRelay(registry, anchor, `10.0.${at}.0/24`)),
    );
    const woken = new Map<string, number>();
    for (const { anchor } of relays) {
      await registry.watch(anchor, () => woken.set(anchor, (woken.get(anchor) ?? 0) + 1));
    }
    let goesOn = true;
    const leasing = relays.map((relay) => leaseOn(registry, relay, devices, () => goesOn));
    await reshard(shape, 'c1', 'c2');
    await reshard(shape, 'c2', 'c3');
    for (const { anchor } of relays) {
      expect((await shape.primaryOf(keyOf(anchor))).name).toBe('c3');
    }
    goesOn = false;
    const counts = await Promise.all(leasing);
    for (const [at, relay] of relays.entries()) {
      expect(counts[at]!.extended).toBeGreaterThan(0);
      await expectNothingLostOrDoubled(registry, relay);
      const before = woken.get(relay.anchor) ?? 0;
      await relay.persist(() => relay.lease('last'));
      await until('it is woken', async () => (woken.get(relay.anchor) ?? 0) > before);
    }
  } finally {
    await registry.close();
    await shape.stop();
  }
});

/** Names of which it holds. */
async function namesOf(count: number, prefix: string, holds: (name: string) => Promise<boolean>) {
  const found: string[] = [];
  for (let at = 0; found.length < count; at += 1) {
    if (await holds(`${prefix}${at}`)) found.push(`${prefix}${at}`);
  }
  return found;
}

/** Leases, and extends what it has, each request said again until it is answered. */
async function leaseOn(
  registry: Registry,
  relay: OneRelay,
  devices: readonly string[],
  goesOn: () => boolean,
): Promise<{ readonly leased: number; readonly extended: number }> {
  const counts = { leased: 0, extended: 0 };
  for (; goesOn(); ) {
    const device = devices[counts.leased % devices.length]!;
    const id = requestId();
    if (
      counts.extended >= EXTENSIONS_A_LEASE * counts.leased &&
      counts.leased < LEASES_A_DEVICE * devices.length
    ) {
      await relay.persist(() => relay.lease(device, id));
      counts.leased += 1;
    } else {
      const [held] = relay.leases.values();
      const extension = { leaseId: held!.id, device: held!.device, leaseMs: 600_000, requestId: id };
      await relay.persist(() => registry.extend(extension));
      counts.extended += 1;
    }
  }
  return counts;
}

async function reshard(shape: RedisShape, from: string, to: string): Promise<void> {
  const { address, port } = shape.server(from);
  const idOf = async (name: string) => String(await shape.server(name).call('CLUSTER', 'MYID'));
  const words = ['--cluster', 'reshard', `${address}:${port}`, '--cluster-slots', String(MOVED_SLOTS)];
  words.push('--cluster-from', await idOf(from), '--cluster-to', await idOf(to), '--cluster-yes');
  await run('redis-cli', words);
}
