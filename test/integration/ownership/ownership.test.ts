import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { createOwnership, type Ownership, type OwnershipOptions } from '../../../src/ownership/ownership.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent, until } from '../registry/real-redis.ts';
import { turnedClock } from './turned-clock.ts';

const TTL_MS = 8000;
const OLD_BOOT = '0a'.repeat(8);
const BOOT = '0b'.repeat(8);

let server: RealRedis;
let registry: Registry;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());
beforeEach(async () => {
  await server.client().flushall();
  registry = createStore(commandConnection(server.client()), silent, async () => undefined);
  await registry.declareAnchor({
    id: 'a1',
    pool: 'p',
    sharing: 'whole',
    prefixes: ['192.0.2.8/30'],
    endpoints: ['198.51.100.1'],
    home: 'r1',
  });
});

type Told = readonly ['owned' | 'deadline' | 'lost', string, number];

function relay(
  id: string,
  boot: string,
  clock: ReturnType<typeof turnedClock>,
  over: Partial<Registry> = {},
  options: Pick<OwnershipOptions, 'standbyOf'> = {},
): { ownership: Ownership; told: Told[] } {
  const told: Told[] = [];
  const ownership = createOwnership({
    ...options,
    registry: { ...registry, ...over },
    relay: id,
    boot,
    ttlMs: TTL_MS,
    log: silent,
    timers: clock.timers,
    onOwned: (anchor, epoch, untilMs) => {
      told.push(['owned', `${anchor} ${epoch}`, untilMs]);
    },
    onDeadline: (anchor, untilMs) => {
      told.push(['deadline', anchor, untilMs]);
    },
    onLost: (anchor, epoch) => {
      told.push(['lost', `${anchor} ${epoch}`, clock.timers.nowMs()]);
    },
  });
  return { ownership, told };
}

const noSteps = {
  freeze: async () => 'state',
  deliver: async () => undefined,
  thaw: async () => undefined,
};

describe('a claim', () => {
  test('of a home anchor that nobody ever owned succeeds; of another’s home it is left alone', async () => {
    const clock = turnedClock();
    const other = relay('r2', BOOT, clock);
    await other.ownership.start(['a1']);
    expect(other.told).toEqual([]);
    const home = relay('r1', BOOT, clock);
    await home.ownership.start(['a1']);
    expect(home.told).toEqual([['owned', 'a1 1', 1000 + TTL_MS]]);
    expect(await registry.owner('a1')).toMatchObject({ relay: 'r1', boot: BOOT, epoch: 1n });
  });

  test('by the same relay’s next incarnation succeeds at once, under the next epoch', async () => {
    await registry.claim('a1', 'r1', OLD_BOOT, 600_000);
    const clock = turnedClock();
    const { ownership, told } = relay('r1', BOOT, clock);
    await ownership.start(['a1']);
    expect(told).toEqual([['owned', 'a1 2', 1000 + TTL_MS]]);
  });

  test('sent twice by one incarnation is one claim', async () => {
    expect(await registry.claim('a1', 'r1', BOOT, TTL_MS)).toEqual({ epoch: 1n });
    expect(await registry.claim('a1', 'r1', BOOT, TTL_MS)).toEqual({ epoch: 1n });
  });

  test('by another relay is refused while the owner’s claim lasts, and later without an operator’s word', async () => {
    await registry.claim('a1', 'r1', OLD_BOOT, 30);
    const { ownership } = relay('r2', BOOT, turnedClock());
    const refused = { code: 'ERR_MOORING_OWNED_BY_ANOTHER' };
    await expect(registry.claim('a1', 'r2', BOOT, TTL_MS, false)).rejects.toMatchObject(refused);
    await until(async () => (await registry.owner('a1'))!.remainingMs <= 0);
    await expect(ownership.claim('a1')).rejects.toMatchObject(refused);
    expect(await ownership.claim('a1', true)).toBe(2n);
  });

  test('of an anchor that was given up is its home relay’s', async () => {
    await registry.claim('a1', 'r1', OLD_BOOT, TTL_MS);
    await registry.release('a1', 'r1', 1n);
    expect(await registry.owner('a1')).toBeNull();
    await expect(registry.claim('a1', 'r2', BOOT, TTL_MS)).rejects.toMatchObject({
      code: 'ERR_MOORING_NOT_HOME',
    });
    expect(await registry.claim('a1', 'r1', BOOT, TTL_MS)).toEqual({ epoch: 2n });
  });

  test('goes on being asked for while the registry is away', async () => {
    const clock = turnedClock();
    let away = true;
    const { ownership, told } = relay('r1', BOOT, clock, {
      claim: async (...args) => {
        if (away) throw new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true });
        return registry.claim(...args);
      },
    });
    const started = ownership.start(['a1']);
    await until(() => clock.waiting() === 1);
    away = false;
    clock.turn(TTL_MS / 4);
    await started;
    expect(told).toEqual([['owned', 'a1 1', 1000 + TTL_MS / 4 + TTL_MS]]);
  });
});

describe('the deadline', () => {
  test('counts from when the renewal was sent, however late its answer comes', async () => {
    const clock = turnedClock();
    let answer: (() => void) | undefined;
    const { ownership, told } = relay('r1', BOOT, clock, {
      renew: async (...args) => {
        const renewed = await registry.renew(...args);
        await new Promise<void>((resolve) => {
          answer = resolve;
        });
        return renewed;
      },
    });
    await ownership.start(['a1']);
    clock.turn(2000);
    const sentMs = clock.timers.nowMs();
    await until(() => answer !== undefined);
    clock.turn(1500);
    answer?.();
    await until(() => told.length === 2);
    expect(told[1]).toEqual(['deadline', 'a1', sentMs + TTL_MS]);
    expect(ownership.owned().get('a1')).toEqual({ epoch: 1n, untilMs: sentMs + TTL_MS });
  });

  test('is renewed four times a time to live, and the registry never counts to an earlier one', async () => {
    const clock = turnedClock();
    const { ownership, told } = relay('r1', BOOT, clock);
    await ownership.start(['a1']);
    for (let renewal = 1; renewal <= 8; renewal += 1) {
      clock.turn(TTL_MS / 4);
      await until(() => told.length === 1 + renewal && clock.waiting() === 1);
      expect(told.at(-1)).toEqual(['deadline', 'a1', clock.timers.nowMs() + TTL_MS]);
    }
    ownership.stop();
    expect(clock.waiting()).toBe(0);
  });

  test('stands where it was while the registry is away, and moves again when it is back', async () => {
    const clock = turnedClock();
    let away = true;
    const { ownership, told } = relay('r1', BOOT, clock, {
      renew: async (...args) => {
        if (away) throw new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true });
        return registry.renew(...args);
      },
    });
    await ownership.start(['a1']);
    for (let lost = 0; lost < 5; lost += 1) {
      clock.turn(TTL_MS / 4);
      await until(() => clock.waiting() === 1);
    }
    expect(told).toEqual([['owned', 'a1 1', 1000 + TTL_MS]]);
    away = false;
    clock.turn(TTL_MS / 4);
    await until(() => told.length === 2);
    expect(told[1]).toEqual(['deadline', 'a1', clock.timers.nowMs() + TTL_MS]);
  });
});

test('an owner that hears nothing until its deadline says so, and again when it is the owner after all', async () => {
  const clock = turnedClock();
  let away = false;
  const lapses: [boolean, number][] = [];
  const ownership = createOwnership({
    registry: {
      ...registry,
      renew: async (...args) => {
        if (away) throw new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true });
        return registry.renew(...args);
      },
    },
    relay: 'r1',
    boot: BOOT,
    ttlMs: TTL_MS,
    log: silent,
    timers: clock.timers,
    onOwned: () => undefined,
    onDeadline: () => undefined,
    onLapsed: (_, lapsed) => lapses.push([lapsed, clock.timers.nowMs()]),
    onLost: () => undefined,
  });
  await ownership.start(['a1']);
  away = true;
  for (let turns = 0; turns < 4; turns += 1) {
    clock.turn(TTL_MS / 4);
    await until(() => clock.waiting() === 2);
  }
  expect(lapses).toEqual([]);
  clock.turn(50);
  expect(lapses).toEqual([[true, 1000 + TTL_MS + 50]]);
  away = false;
  clock.turn(TTL_MS / 4);
  await until(() => lapses.length === 2);
  expect(lapses[1]?.[0]).toBe(false);
  ownership.stop();
  expect(clock.waiting()).toBe(0);
});

test('an owner whose anchor was claimed by another says lost at its next renewal, once, and does not claim back', async () => {
  const clock = turnedClock();
  const { ownership, told } = relay('r1', OLD_BOOT, clock);
  await ownership.start(['a1']);
  await registry.claim('a1', 'r1', BOOT, TTL_MS);
  clock.turn(TTL_MS / 4);
  await until(() => told.length === 2);
  expect(told[1]).toEqual(['lost', 'a1 1', clock.timers.nowMs()]);
  expect(clock.waiting()).toBe(0);
  expect(ownership.owned().size).toBe(0);
  await expect(registry.renew('a1', 'r1', 1n, TTL_MS)).rejects.toMatchObject({
    code: 'ERR_MOORING_STALE_EPOCH',
  });
});

describe('a planned hand-over', () => {
  test('freezes, transfers, delivers, and then the giver drops the anchor', async () => {
    const clock = turnedClock();
    const giver = relay('r1', BOOT, clock);
    const taker = relay('r2', BOOT, clock);
    await giver.ownership.start(['a1']);
    const steps: string[] = [];
    const epoch = await giver.ownership.handOver(
      'a1',
      { id: 'r2', boot: BOOT },
      {
        freeze: async () => {
          steps.push('freeze');
          return 'windows';
        },
        deliver: async (of, state) => {
          steps.push(`deliver ${of} ${state}`);
          await taker.ownership.adopt('a1', of);
          await taker.ownership.adopt('a1', of);
        },
        thaw: async () => {
          steps.push('thaw');
        },
      },
    );
    expect(epoch).toBe(2n);
    expect(steps).toEqual(['freeze', 'deliver 2 windows']);
    expect(taker.told).toEqual([['owned', 'a1 2', 1000 + TTL_MS]]);
    expect(giver.told.map(([what]) => what)).toEqual(['owned', 'lost']);
    expect(clock.waiting()).toBe(1);
    expect(await registry.owner('a1')).toMatchObject({ relay: 'r2', boot: BOOT, epoch: 2n });
  });

  test('sent twice is one hand-over', async () => {
    await registry.claim('a1', 'r1', BOOT, TTL_MS);
    expect(await registry.transfer('a1', 'r1', 1n, 'r2', BOOT, TTL_MS)).toEqual({ epoch: 2n });
    expect(await registry.transfer('a1', 'r1', 1n, 'r2', BOOT, TTL_MS)).toEqual({ epoch: 2n });
    await expect(registry.transfer('a1', 'r1', 1n, 'r3', BOOT, TTL_MS)).rejects.toMatchObject({
      code: 'ERR_MOORING_STALE_EPOCH',
    });
  });

  test('is made by no registry that knows less than its giver', async () => {
    await expect(registry.transfer('a1', 'r1', 7n, 'r2', BOOT, TTL_MS)).rejects.toMatchObject({
      code: 'ERR_MOORING_QUARANTINED',
    });
    await expect(registry.transfer('forgotten', 'r1', 7n, 'r2', BOOT, TTL_MS)).rejects.toMatchObject({
      code: 'ERR_MOORING_UNKNOWN_ANCHOR',
    });
  });

  test('by an owner that has lost the anchor fails and thaws nothing', async () => {
    const clock = turnedClock();
    const { ownership, told } = relay('r1', OLD_BOOT, clock);
    await ownership.start(['a1']);
    await registry.claim('a1', 'r1', BOOT, TTL_MS);
    const thawed: string[] = [];
    const steps = { ...noSteps, thaw: async () => void thawed.push('thaw') };
    await expect(ownership.handOver('a1', { id: 'r2', boot: BOOT }, steps)).rejects.toMatchObject({
      code: 'ERR_MOORING_STALE_EPOCH',
    });
    expect(thawed).toEqual([]);
    expect(told.at(-1)?.[0]).toBe('lost');
  });

  test('that the registry does not answer until the deadline is called off where the successor stands by, and renewals go on', async () => {
    const clock = turnedClock();
    const to = { id: 'r2', boot: BOOT };
    const transfer = async () => {
      clock.turn(TTL_MS / 8);
      throw new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true });
    };
    const { ownership, told } = relay('r1', BOOT, clock, { transfer }, { standbyOf: () => to });
    await ownership.start(['a1']);
    const thawed: string[] = [];
    const steps = { ...noSteps, thaw: async (state: string) => void thawed.push(state) };
    await expect(ownership.handOver('a1', to, steps)).rejects.toMatchObject({
      code: 'ERR_MOORING_REGISTRY_UNAVAILABLE',
    });
    expect(thawed).toEqual(['state']);
    clock.turn(0);
    await until(() => told.at(-1)?.[0] === 'deadline');
  });

  test('renews nothing from before the state is taken', async () => {
    const clock = turnedClock();
    const { ownership, told } = relay('r1', BOOT, clock);
    await ownership.start(['a1']);
    const freeze = async () => {
      expect(clock.waiting()).toBe(0);
      clock.turn(TTL_MS / 2);
      return 'state';
    };
    await ownership.handOver('a1', { id: 'r2', boot: BOOT }, { ...noSteps, freeze });
    expect(told.map(([what]) => what)).toEqual(['owned', 'lost']);
  });

  test('whose state cannot be taken is called off, and renewals go on', async () => {
    const clock = turnedClock();
    const { ownership, told } = relay('r1', BOOT, clock);
    await ownership.start(['a1']);
    const freeze = async () => {
      throw new Error('no state');
    };
    const to = { id: 'r2', boot: BOOT };
    await expect(ownership.handOver('a1', to, { ...noSteps, freeze })).rejects.toThrow('no state');
    clock.turn(0);
    await until(() => told.at(-1)?.[0] === 'deadline');
    await ownership.handOver('a1', to, noSteps);
    expect(await registry.owner('a1')).toMatchObject({ relay: 'r2', epoch: 2n });
  });

  test('is one at a time', async () => {
    const { ownership } = relay('r1', BOOT, turnedClock());
    await ownership.start(['a1']);
    const to = { id: 'r2', boot: BOOT };
    const second: unknown[] = [];
    const freeze = async () => {
      await ownership.handOver('a1', to, noSteps).catch((error) => second.push(error.code));
      return 'state';
    };
    expect(await ownership.handOver('a1', to, { ...noSteps, freeze })).toBe(2n);
    expect(second).toEqual(['ERR_MOORING_HAND_OVER_RUNNING']);
  });

  test('that cannot be undone loses the anchor instead of keeping it unserved', async () => {
    const { ownership, told } = relay('r1', BOOT, turnedClock(), {
      transfer: async () => {
        throw new MooringError('ERR_MOORING_NO_RELAY', 'gone', {});
      },
    });
    await ownership.start(['a1']);
    const thaw = async () => {
      throw new Error('engine gone');
    };
    await expect(ownership.handOver('a1', { id: 'r2', boot: BOOT }, { ...noSteps, thaw })).rejects.toThrow(
      'engine gone',
    );
    expect(told.at(-1)?.[0]).toBe('lost');
    expect(ownership.owned().size).toBe(0);
  });

  test('of an anchor that is not owned is refused by name', async () => {
    const { ownership } = relay('r1', BOOT, turnedClock());
    await expect(ownership.handOver('a1', { id: 'r2', boot: BOOT }, noSteps)).rejects.toMatchObject({
      code: 'ERR_MOORING_NOT_OWNED',
    });
  });
});
