import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { watchPools } from '../../../src/cli/pool-watch.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { Roster } from '../../../src/registry/pools.ts';

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

const rosterOf = (revision: number, ...names: string[]): Roster => ({
  revision,
  policies: names.map((name) => ({ name }) as Roster['policies'][number]),
  anchors: [],
});

/** A registry as a watch sees it: `now` is what it knows, `refuse` why it takes nothing back yet. */
function forgetful() {
  const world = {
    now: rosterOf(7, 'filed', 'added'),
    refuse: null as MooringError | null,
    /** What the file's pools are refused for. */
    refuseFile: null as MooringError | null,
    declared: 0,
    restored: [] as Roster[],
    registry: {
      declareFile: async () => {
        world.declared += 1;
        if (world.refuseFile !== null) throw world.refuseFile;
      },
      roster: async (known?: number) => (known === world.now.revision ? null : world.now),
      restore: async (seen: Roster) => {
        if (world.refuse !== null) throw world.refuse;
        world.restored.push(seen);
        world.now = { ...seen, revision: 3 };
      },
    },
  };
  return world;
}

async function watched(world: ReturnType<typeof forgetful>) {
  const watch = await watchPools([], world.registry, pino({ level: 'silent' }));
  const heard: string[][] = [];
  watch.onChange(({ policies }) => heard.push(policies.map(({ name }) => name)));
  return { watch, heard };
}
const aLook = () => vi.advanceTimersByTimeAsync(2_000);

test('a registry that has forgotten its pools is told what they were last, as soon as it takes that', async () => {
  const world = forgetful();
  const { watch, heard } = await watched(world);
  world.now = rosterOf(0);
  world.refuse = new MooringError('ERR_MOORING_QUARANTINED', 'not yet', { temporary: true });
  await aLook();
  // Somebody else has declared something meanwhile.
  world.now = rosterOf(9, 'filed');
  await aLook();
  expect(heard).toEqual([['filed', 'added']]);
  world.refuse = null;
  await aLook();
  expect(world.restored.map(({ revision }) => revision)).toEqual([7]);
  expect(heard).toEqual([
    ['filed', 'added'],
    ['filed', 'added'],
  ]);
  await aLook();
  expect(world.restored).toHaveLength(1);
  watch.close();
});

test('what cannot be again for good is not tried for ever', async () => {
  const world = forgetful();
  const { watch, heard } = await watched(world);
  world.now = rosterOf(1, 'filed');
  world.refuse = new MooringError('ERR_MOORING_OVERLAP', 'another has it');
  await aLook();
  expect(heard.at(-1)).toEqual(['filed']);
  world.now = rosterOf(2, 'filed', 'new');
  await aLook();
  expect(heard.at(-1)).toEqual(['filed', 'new']);
  watch.close();
});

describe('a pool of the file that is refused', () => {
  const overlap = new MooringError('ERR_MOORING_OVERLAP', 'an operator has declared its addresses');
  const quarantined = new MooringError('ERR_MOORING_QUARANTINED', 'not now', { temporary: true });

  test.each([
    ['seldom where it stands against it', overlap, 16],
    ['at every look where that passes', quarantined, 1],
  ])('leaves the others served, and is declared again, %s', async (_, refusal, looks) => {
    const world = forgetful();
    world.refuseFile = refusal;
    const { watch, heard } = await watched(world);
    expect(heard).toEqual([['filed', 'added']]);
    for (let at = 1; at < looks; at += 1) await aLook();
    expect(world.declared).toBe(1);
    world.refuseFile = null;
    world.now = rosterOf(8, 'filed', 'added', 'clashed');
    await aLook();
    expect(world.declared).toBe(2);
    expect(heard.at(-1)).toContain('clashed');
    await aLook();
    expect(world.declared).toBe(2);
    watch.close();
  });

  test('is no start at all where there is no other, nor where nobody answers', async () => {
    const world = forgetful();
    world.now = rosterOf(0);
    world.refuseFile = overlap;
    await expect(watched(world)).rejects.toBe(overlap);
    world.now = rosterOf(7, 'filed');
    world.refuseFile = new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'gone', { temporary: true });
    await expect(watched(world)).rejects.toBe(world.refuseFile);
  });
});
