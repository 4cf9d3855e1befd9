import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { commandConnection } from '../../../src/registry/connection.ts';
import { commandsWithFault, commandsWithTestClock } from '../../oracle/registry-run.ts';
import { BEGINNING_MS, PAIRED_MS, World, type WorldOptions } from '../../oracle/takeover-run.ts';
import { type RealRedis, realRedis } from '../registry/real-redis.ts';

let server: RealRedis;
let world: World;
let worlds = 0;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
afterEach(() => world.stop());

/** Relays that have just found each other: r1 owns, r2 stands by. */
async function begun(
  ids: readonly string[] = ['r1', 'r2'],
  options: WorldOptions = {},
  commands = commandsWithTestClock(),
): Promise<World> {
  worlds += 1;
  const connection = commandConnection(server.client(), commands);
  world = new World(connection, `a${worlds}`, options);
  await world.begin(ids);
  await world.until(() => world.nodes.get('r1')!.pairing.standbyOf(world.anchor) !== undefined, 5_000);
  return world;
}

/** The same, when the claim of the beginning has run down. */
async function paired(...args: Parameters<typeof begun>): Promise<World> {
  await begun(...args);
  await world.advance(BEGINNING_MS);
  expect(world.forwarders()).toEqual(['r1']);
  return world;
}

describe('a standby', () => {
  test('takes over within 0.7 s of the loss of the owner', async () => {
    await paired();
    world.lose('r1');
    const tookMs = await world.until(() => world.forwarders().includes('r2'), 2_000);
    expect(tookMs).toBeGreaterThan(PAIRED_MS);
    expect(tookMs).toBeLessThan(700);
  });

  test('takes over soon from an owner that had only just begun', async () => {
    await begun();
    await world.advance(300);
    world.lose('r1');
    await world.until(() => world.forwarders().includes('r2'), BEGINNING_MS + PAIRED_MS);
  });

  test('lets the owner go on that only the registry has lost', async () => {
    await paired();
    world.cuts.add('r1 registry');
    await world.advance(20_000);
    expect(world.forwarders()).toEqual(['r1']);
  });

  test('does not take over while the registry is away for both', async () => {
    await paired();
    world.cuts.add('r1 registry').add('r2 registry');
    await world.advance(20_000);
    expect(world.forwarders()).toEqual(['r1']);
  });

  test('does not take over while the owner renews, though they do not hear each other', async () => {
    await paired();
    world.cuts.add('r1 r2');
    await world.advance(5_000);
    expect(world.forwarders()).toEqual(['r1']);
  });

  test('takes over from an owner that hears neither it nor the registry, which stops before', async () => {
    await paired();
    world.cuts.add('r1 r2').add('r1 registry');
    await world.until(() => world.forwarders().length === 0, PAIRED_MS + 100);
    await world.until(() => world.forwarders().includes('r2'), 300);
    world.cuts.clear();
    await world.advance(3_000);
    expect(world.forwarders()).toEqual(['r2']);
    expect(world.nodes.get('r2')!.pairing.standbyOf(world.anchor)?.id).toBe('r1');
  });

  test('hangs, and the owner goes on; comes back, and promises again', async () => {
    await paired();
    world.pause('r2', true);
    await world.advance(3_000);
    world.pause('r2', false);
    await world.advance(1_000);
    world.cuts.add('r1 registry');
    await world.advance(3_000);
    expect(world.forwarders()).toEqual(['r1']);
  });

  test('that has just started neither promises nor claims before a former promise can have run out', async () => {
    await paired();
    world.cuts.add('r1 registry');
    await world.advance(2_000);
    world.cuts.add('r1 r2');
    world.start('r2');
    await world.advance(3_000);
    expect(world.forwarders()).not.toContain('r1');
  });

  test('that has just started is nobody’s standby, whatever its former incarnation was', async () => {
    await paired(['r1', 'r2'], { forgetful: true });
    world.cuts.add('r1 registry');
    await world.advance(1_000);
    world.cuts.add('r1 r2');
    world.start('r2');
    await world.advance(2_000);
    expect(world.forwarders()).toEqual([]);
  });

  test('of three takes over, and the third becomes its standby', async () => {
    await paired(['r1', 'r2', 'r3']);
    const second = world.nodes.get('r1')!.pairing.standbyOf(world.anchor)!.id;
    const third = second === 'r2' ? 'r3' : 'r2';
    world.lose('r1');
    world.nodes.delete('r1');
    await world.until(() => world.forwarders().includes(second), 2_000);
    await world.until(() => world.nodes.get(second)!.pairing.standbyOf(world.anchor)?.id === third, 3_000);
    await world.advance(BEGINNING_MS);
    world.lose(second);
    await world.until(() => world.forwarders().includes(third), 2_000);
  });
});

describe('two forwarders are prevented', () => {
  test.each([
    ['the owner’s clock slow', { r1: 0.9905 }],
    ['the standby’s clock fast', { r2: 1.0095 }],
  ])('with %s', async (_, rates) => {
    await paired(['r1', 'r2'], { rates });
    world.cuts.add('r1 r2').add('r1 registry');
    await world.until(() => world.forwarders().includes('r2'), 1_000);
  });

  test('and the check sees them: a promise shorter than the owner counts on', async () => {
    await paired(['r1', 'r2'], { promiseMs: 200 });
    world.cuts.add('r1 registry');
    await world.advance(1_000);
    world.cuts.add('r1 r2');
    await expect(world.advance(2_000)).rejects.toThrow(/r1 and r2 forward at once/);
  });

  test('and the check sees them: a renewal of what another has taken over', async () => {
    const faulty = commandsWithFault(
      'current.relay ~= ARGV[1] or current.epoch ~= ARGV[2]',
      'false',
      'renew',
    );
    await paired(['r1', 'r2'], {}, faulty);
    world.cuts.add('r1 r2').add('r1 registry');
    await world.until(() => world.forwarders().includes('r2'), 1_000);
    world.cuts.clear();
    await expect(world.advance(3_000)).rejects.toThrow(/forward at once/);
  });
});
