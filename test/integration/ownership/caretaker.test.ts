import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type Caretaker, type Claim, createCaretaker } from '../../../src/ownership/caretaker.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import { commandConnection } from '../../../src/registry/connection.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createStore } from '../../../src/registry/store.ts';
import { type RealRedis, realRedis, silent, until } from '../registry/real-redis.ts';
import { turnedClock } from './turned-clock.ts';

const TTL_MS = 8_000;
const GRACE_MS = 10_000;
const BOOT = '0a'.repeat(8);
const NEXT_BOOT = '0b'.repeat(8);
const HEIR = { id: 'r2', boot: '0c'.repeat(8), planeUrl: 'wss://r2', site: 's' };

describe('the caretaker of an absent relay process', () => {
  let server: RealRedis;
  let registry: Registry;
  let clock: ReturnType<typeof turnedClock>;
  let deadlines: [string, number][];
  let letGo: string[];
  let running: Caretaker[];

  beforeAll(async () => {
    server = await realRedis();
  });
  afterAll(() => server.stop());
  beforeEach(async () => {
    for (const caretaker of running ?? []) caretaker.end();
    [deadlines, letGo, running] = [[], [], []];
    clock = turnedClock();
    await server.client().flushall();
    registry = createStore(commandConnection(server.client()), silent, async () => undefined);
    for (const id of ['a1', 'a2']) {
      await registry.declareAnchor({
        id,
        pool: 'p',
        sharing: 'whole',
        prefixes: [id === 'a1' ? '192.0.2.8/30' : '192.0.2.16/30'],
        endpoints: [id === 'a1' ? '198.51.100.1' : '198.51.100.2'],
        home: 'r1',
      });
    }
  });

  const caretaker = (over: Partial<Registry> = {}): Caretaker => {
    const made = createCaretaker({
      registry: { ...registry, ...over },
      relay: 'r1',
      graceMs: GRACE_MS,
      log: silent,
      timers: clock.timers,
      onDeadline: ({ anchor }, untilMs) => deadlines.push([anchor, untilMs]),
      onLetGo: async ({ anchor }) => void letGo.push(anchor),
    });
    running.push(made);
    return made;
  };

  /** What relay r1 held when it was last heard of. */
  async function claimed(anchor: string, successor: string | null = null): Promise<Claim> {
    const { epoch } = await registry.claim(anchor, 'r1', BOOT, TTL_MS);
    return { anchor, epoch, untilMs: clock.timers.nowMs() + TTL_MS, ttlMs: TTL_MS, successor };
  }

  const owner = async (anchor = 'a1') => (await registry.owner(anchor))!;

  it('keeps every claim, in the registry and in the data path, and under the epoch it had', async () => {
    const claims = [await claimed('a1'), await claimed('a2')];
    clock.turn(1_000);
    caretaker().begin(claims);
    await until(() => deadlines.length === 2);
    const untilMs = clock.timers.nowMs() + TTL_MS;
    expect(deadlines.toSorted()).toEqual([
      ['a1', untilMs],
      ['a2', untilMs],
    ]);
    expect(await owner()).toMatchObject({ relay: 'r1', boot: BOOT, epoch: claims[0]!.epoch });
  });

  it('renews as often as the relay did, and never beyond its grace', async () => {
    const startedMs = clock.timers.nowMs();
    const claim = await claimed('a1');
    caretaker().begin([claim]);
    for (let renewals = 1; renewals <= 5; renewals += 1) {
      await until(() => deadlines.length === renewals && clock.waiting() > 1);
      clock.turn(TTL_MS / 4);
    }
    // At the end of its grace there is nothing left to renew for.
    await until(() => clock.waiting() === 0);
    clock.turn(TTL_MS);
    expect(deadlines.map(([, untilMs]) => untilMs - startedMs)).toEqual([
      8_000, 10_000, 10_000, 10_000, 10_000,
    ]);
    expect(letGo).toEqual([]);
  });

  it('never brings a deadline forward that the relay itself had reached', async () => {
    const claim = { ...(await claimed('a1')), untilMs: clock.timers.nowMs() + 60_000 };
    caretaker().begin([claim]);
    await until(() => deadlines.length === 1);
    expect(deadlines).toEqual([['a1', claim.untilMs]]);
  });

  it('leaves an anchor alone as soon as the next incarnation has claimed it', async () => {
    const claims = [await claimed('a1'), await claimed('a2')];
    caretaker().begin(claims);
    await until(() => deadlines.length === 2 && clock.waiting() === 3);
    const { epoch } = await registry.claim('a1', 'r1', NEXT_BOOT, TTL_MS);
    clock.turn(TTL_MS / 4);
    await until(() => deadlines.length === 3);
    expect(deadlines[2]![0]).toBe('a2');
    expect(await owner()).toMatchObject({ boot: NEXT_BOOT, epoch });
  });

  it('asks again when the registry did not answer', async () => {
    let away = true;
    const unanswered = new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true });
    const care = caretaker({
      renew: (...args) => (away ? Promise.reject(unanswered) : registry.renew(...args)),
    });
    care.begin([await claimed('a1')]);
    await until(() => clock.waiting() === 2);
    expect(deadlines).toEqual([]);
    away = false;
    clock.turn(TTL_MS / 4);
    await until(() => deadlines.length === 1);
  });

  it('gives an anchor to its successor when its grace is over, having stopped forwarding before', async () => {
    await registry.announceRelay(HEIR, 60_000);
    const claim = await claimed('a1', 'r2');
    const order: string[] = [];
    const made = createCaretaker({
      registry: {
        ...registry,
        transfer: (...args) => {
          order.push('transfer');
          return registry.transfer(...args);
        },
      },
      relay: 'r1',
      graceMs: GRACE_MS,
      log: silent,
      timers: clock.timers,
      onDeadline: () => undefined,
      onLetGo: async () => void order.push('let go'),
    });
    running.push(made);
    made.begin([claim]);
    await until(() => clock.waiting() === 2);
    clock.turn(GRACE_MS);
    await until(async () => (await owner()).relay === 'r2');
    expect(await owner()).toMatchObject({ boot: HEIR.boot, epoch: claim.epoch + 1n });
    expect(order).toEqual(['let go', 'transfer']);
  });

  it('lets a claim run out whose successor is not running', async () => {
    const claim = await claimed('a1', 'r2');
    const asked: string[] = [];
    const care = caretaker({
      relay: (id) => {
        asked.push(id);
        return registry.relay(id);
      },
    });
    care.begin([claim]);
    await until(() => clock.waiting() === 2);
    clock.turn(GRACE_MS);
    await until(() => asked.length === 1);
    expect(letGo).toEqual([]);
    expect(await owner()).toMatchObject({ relay: 'r1', epoch: claim.epoch });
  });

  it('does nothing any more once the process is back, whatever answers arrive', async () => {
    let answer = (): void => {};
    let isAnswered = false;
    const care = caretaker({
      renew: async (...args) => {
        await new Promise<void>((resolve) => {
          answer = resolve;
        });
        return registry.renew(...args).finally(() => {
          isAnswered = true;
        });
      },
    });
    care.begin([await claimed('a1')]);
    care.end();
    answer();
    await until(() => isAnswered);
    await new Promise((resolve) => setImmediate(resolve));
    expect(deadlines).toEqual([]);
    expect(clock.waiting()).toBe(0);
  });
});
