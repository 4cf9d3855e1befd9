import { expect, test } from 'vitest';
import { standalone } from '../../infra/lab/redis-shapes.ts';
import { check } from './checker.ts';
import { believed, puppets } from './scripts.ts';
import { startWorld } from './world.ts';

test('a registry that was emptied gets its leases back from the relays that forward for them', async () => {
  const shape = await standalone();
  try {
    const world = await startWorld(shape, { leaseMs: 120_000 });
    const actors = await puppets(world);
    try {
      const [one, two, stranger] = await Promise.all(['one', 'two', 'stranger'].map(actors.device));
      const held = [await one!.leases('whole'), await two!.leases('shared')];
      const [server] = shape.servers;
      world.fault('emptied', server!.name);
      await server!.kill();
      await server!.restart({ empty: true });
      for (const lease of held) {
        const { id, address, ports, device } = lease;
        const found = (await believed(world, lease.anchor)).find((other) => other.id === id);
        expect(found).toMatchObject({ address, ports, device, state: 'active' });
      }
      const others = [await stranger!.leases('whole'), await stranger!.leases('shared')];
      const places = [...held, ...others].map(({ address, ports }) => `${address} ${ports?.first}`);
      expect(new Set(places).size).toBe(4);
      const terms = { coolingMs: world.scene.coolingMs, lateMs: 1_000, outageLateMs: 3_600_000 };
      expect(check(world.history(), terms).violations).toEqual([]);
    } finally {
      await actors.close();
      await world.stop();
    }
  } finally {
    await shape.stop();
  }
});
