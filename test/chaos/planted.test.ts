import { setTimeout as wait } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { standalone } from '../../infra/lab/redis-shapes.ts';
import { check, type Rule } from './checker.ts';
import type { PlantedFault } from './planted.ts';
import { type Puppet, puppets } from './scripts.ts';
import { soon, startWorld, type World } from './world.ts';

type Actors = { device(name: string): Promise<Puppet> };

/** More devices than there are addresses lease and free, one after the other. */
async function leaseAllInTurn(_: World, actors: Actors): Promise<void> {
  for (let at = 0; at < 36; at += 1) {
    const device = await actors.device(`turn-${at}`);
    const one = await device.leases().catch(() => null);
    if (one === null) return;
    await device.frees(one);
  }
}

/** An owner hangs until its standby has taken over, and comes back. */
async function hangOwner(world: World): Promise<void> {
  const ownerOf = async () => (await world.registry.owner('w1'))?.relay;
  await soon('w1 has a standby', async () => (await world.registry.owner('w1'))?.standby !== undefined);
  const former = await ownerOf();
  const relay = world.relays.find(({ id }) => id === former)!;
  relay.pause();
  await soon('the standby has taken over', async () => (await ownerOf()) !== former);
  relay.resume();
  await wait(1_500);
}

test.each<[PlantedFault, (world: World, actors: Actors) => Promise<void>, Rule]>([
  ['no rest', leaseAllInTurn, 'a resource rests before another device has it'],
  ['any epoch renews', hangOwner, 'an anchor is forwarded by one relay'],
])('a run with a planted fault is found out: %s', async (planted, play, rule) => {
  const shape = await standalone();
  try {
    const world = await startWorld(shape, { planted, coolingMs: 60_000, leaseMs: 120_000 });
    const actors = await puppets(world);
    try {
      await play(world, actors);
      const { violations } = check(world.history(), {
        coolingMs: 60_000,
        lateMs: 1_000,
        outageLateMs: 60_000,
      });
      expect(violations.map((violation) => violation.rule)).toContain(rule);
    } finally {
      await actors.close();
      await world.stop();
    }
  } finally {
    await shape.stop();
  }
});
