import { pino } from 'pino';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
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
    restored: [] as Roster[],
    registry: {
      declareFile: async () => undefined,
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
