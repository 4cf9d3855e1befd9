import { setTimeout as wait } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RedisShape } from '../../infra/lab/redis-shapes.ts';
import type { Lease } from '../../src/protocol/lease.ts';
import { check } from './checker.ts';
import { reportOf, textOf } from './report.ts';
import { believed, fencesAt, inStep, type Puppet, promoted, puppets, reinforce, rejoin } from './scripts.ts';
import { soon, startWorld, type World } from './world.ts';

/**
 * Histories that surely lose what the registry had answered. Each says that it was lost, else it shows nothing; and after
 * all of them nothing that was promised has been broken.
 */
export function tellHistories(name: string, start: () => Promise<RedisShape>): void {
  let shape: RedisShape;
  let world: World;
  let actors: Awaited<ReturnType<typeof puppets>>;
  let broken = true;

  beforeAll(async () => {
    shape = await start();
    world = await startWorld(shape, { leaseMs: 120_000 });
    actors = await puppets(world);
  });
  afterAll(async () => {
    await actors?.close();
    await world?.stop(broken);
    await shape?.stop();
  });

  const counter = (fence: string) => Number(fence.slice(fence.indexOf('-') + 1));
  const names = (all: readonly { readonly name: string }[]) => all.map(({ name }) => name);

  /** The registry holds it again with all that it was. */
  async function comesBack(lost: Lease): Promise<void> {
    const found = (await believed(world, lost.anchor)).find(({ id }) => id === lost.id);
    const { address, ports, spis, ikeSpis, device } = lost;
    expect(found, `the lease ${lost.id}`).toMatchObject({
      address,
      ports,
      spis,
      ikeSpis,
      device,
      state: 'active',
    });
  }

  /** Also where all that is free rests still, because the fail-over before may have lost it. */
  async function leasesOnceRested(holder: Puppet): Promise<Lease> {
    let lease: Lease | undefined;
    await soon('what a fail-over left to rest is free', async () => {
      lease = await holder.leases();
      return true;
    });
    return lease!;
  }

  describe('a fail-over behind a cut replication', () => {
    const lost: Partial<Record<'whole' | 'shared', Lease>> = {};
    const extended: Lease[] = [];
    let stranger: Puppet;
    let far: Puppet;
    let kept: Lease;

    beforeAll(async () => {
      [stranger, far] = await Promise.all([actors.device('stranger'), actors.device('far')]);
      kept = await far.leases('shared');
      const whole = await actors.near(kept.anchor, 'whole');
      const shared = await actors.near(kept.anchor, 'shared');
      const { primary, replicas } = await inStep(shape, kept.anchor);
      world.fault('fail-over', primary.name);
      await shape.cut([primary.name], names(replicas));
      [lost.whole, lost.shared] = await Promise.all([whole.leases('whole'), shared.leases('shared')]);
      for (let at = 0; at < 5; at += 1) extended.push(await far.extends(kept));
      await primary.kill();
      const next = await promoted(world, kept.anchor, primary);
      for (const one of [lost.whole, lost.shared, ...extended])
        expect(await fencesAt(next, one.anchor), 'what must be lost').not.toContain(one.fence);
      await shape.heal();
      await rejoin(shape, next);
    });

    test.each(['whole', 'shared'] as const)('gives nobody else what was granted there (%s)', async (pool) => {
      const one = lost[pool] as Lease;
      await comesBack(one);
      const other = await stranger.leases(pool);
      expect([other.address, other.ports?.first]).not.toEqual([one.address, one.ports?.first]);
    });

    test('misses no event though the relay has read further than the new primary', async () => {
      await comesBack(kept);
      const ahead = Math.max(...extended.map(({ fence }) => counter(fence)));
      expect(counter((await far.extends(kept)).fence)).toBeGreaterThan(ahead);
    });
  });

  test('a fail-over that forgets a claim leaves one owner', async () => {
    const kept = await leasesOnceRested(await actors.device('claimed'));
    const { anchor } = kept;
    await soon(
      `${anchor} has a standby`,
      async () => (await world.registry.owner(anchor))?.standby !== undefined,
    );
    const former = (await world.registry.owner(anchor))?.relay;
    const owner = world.relays.find(({ id }) => id === former)!;
    const { primary, replicas } = await inStep(shape, anchor);
    world.fault('stopped', owner.id);
    owner.pause();
    await wait(150);
    world.fault('fail-over', primary.name);
    await shape.cut([primary.name], names(replicas));
    let claimed = '';
    await soon('the standby has claimed', async () => {
      const now = await world.registry.owner(anchor);
      if (now !== null && now.relay !== owner.id) claimed = String(now.epoch);
      return claimed !== '';
    });
    await primary.kill();
    const next = await promoted(world, anchor, primary);
    const epochs = (await fencesAt(next, anchor)).map((fence) => fence.split('-')[0]);
    expect(epochs, 'epochs that the new primary knows').not.toContain(claimed);
    owner.resume();
    world.fault('continued', owner.id);
    await shape.heal();
    await rejoin(shape, next);
    await comesBack(kept);
    expect((await world.registry.owner(anchor))!.epoch).toBeGreaterThan(BigInt(claimed));
  });

  test('what an owner alone knew comes back with it, after its standby has taken over', async () => {
    const holder = await actors.device('away');
    const probe = await leasesOnceRested(holder);
    const { anchor } = probe;
    await soon(
      `${anchor} has a standby`,
      async () => (await world.registry.owner(anchor))?.standby !== undefined,
    );
    const former = (await world.registry.owner(anchor))?.relay;
    const owner = world.relays.find(({ id }) => id === former)!;
    const standby = world.relays.find(({ id }) => id !== former)!;
    world.fault('partitioned', standby.id);
    standby.hear({ registry: 'none' });
    // What it has followed is to come back no more than what it has not.
    await holder.frees(probe);
    const { primary, replicas } = await inStep(shape, anchor);
    world.fault('fail-over', primary.name);
    await shape.cut([primary.name], names(replicas));
    const lost = await holder.leases();
    world.fault('stopped', owner.id);
    owner.pause();
    await primary.kill();
    const next = await promoted(world, anchor, primary);
    expect(await fencesAt(next, anchor), 'what must be lost').not.toContain(lost.fence);
    standby.hear({ registry: 'both' });
    world.fault('healed', standby.id);
    await soon(
      'the standby has taken over',
      async () => (await world.registry.owner(anchor))?.relay === standby.id,
    );
    const ids = async () => (await believed(world, anchor)).map(({ id }) => id);
    expect(await ids()).not.toContain(lost.id);
    owner.resume();
    world.fault('continued', owner.id);
    await shape.heal();
    await rejoin(shape, next);
    await soon(`${lost.id} is back`, async () => (await ids()).includes(lost.id));
    await comesBack(lost);
  });

  test('a fail-over to the replica that did not hear, while the one that did is gone', async () => {
    const holder = await actors.device('one-of-two');
    const probe = await leasesOnceRested(holder);
    const { anchor } = probe;
    await holder.frees(probe);
    await reinforce(shape, anchor);
    const { primary, replicas } = await inStep(shape, anchor, 2);
    const [deaf, witness] = replicas as [(typeof replicas)[number], (typeof replicas)[number]];
    world.fault('fail-over', primary.name);
    await shape.cut([primary.name], [deaf.name]);
    const lost = await holder.leases();
    await soon('one replica has it', async () => (await fencesAt(witness, anchor)).includes(lost.fence));
    await witness.kill();
    await primary.kill();
    const next = await promoted(world, anchor, primary);
    expect(next.name).toBe(deaf.name);
    expect(await fencesAt(next, anchor), 'what must be lost').not.toContain(lost.fence);
    await shape.heal();
    await rejoin(shape, next);
    await comesBack(lost);
  });

  test('and none of this has broken a promise', async () => {
    await world.conclude();
    await world.audit();
    const history = world.history();
    const { coolingMs } = world.scene;
    const checked = check(history, { coolingMs, lateMs: 1_000, outageLateMs: 60_000 });
    const report = reportOf(history, checked);
    process.stderr.write(`scripted fail-overs on ${name}: ${textOf(report, checked)}\n`);
    expect(checked.violations, `history in ${world.scene.folder}`).toEqual([]);
    expect(report.losingFailOvers).toBe(4);
    broken = false;
  });
}
