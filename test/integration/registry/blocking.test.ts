import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAX_LEASES } from '../../../src/registry/plan.ts';
import { fullPool, type Longest } from './full-pool.ts';
import { type RealRedis, realRedis } from './real-redis.ts';

const MOST_MS = 10;
/** Beside other tests some of their load shows in Redis' account too: what it does itself takes as long on every anchor. */
const ANCHORS = 3;

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

test('nothing that happens to a full anchor keeps Redis from others for 10 ms', async () => {
  const pool = fullPool(server);
  const least: Longest = new Map();
  const tooLong = () => [...least].filter(([, ms]) => ms >= MOST_MS);
  for (let at = 0; at === 0 || (at < ANCHORS && tooLong().length > 0); at += 1) {
    pool.longest.clear();
    await pool.fill(at);
    const whole = await pool.start(at);
    expect(whole.leases).toHaveLength(MAX_LEASES);
    await pool.stretch(at, whole);
    await pool.change(at);
    await pool.loseAndReport(at, whole);
    const back = await pool.start(at);
    expect(back.leases.map(({ id }) => id).sort()).toEqual(whole.leases.map(({ id }) => id).sort());
    expect(back.sessions).toHaveLength(MAX_LEASES);
    expect(await pool.sweep(at)).toBe(MAX_LEASES);
    await pool.stop(at);
    for (const [command, ms] of pool.longest) least.set(command, Math.min(ms, least.get(command) ?? ms));
  }
  const longest = [...least].sort(([, one], [, other]) => other - one);
  console.log(longest.map(([command, ms]) => `${command} ${ms.toFixed(1)} ms`).join(', '));
  expect(tooLong()).toEqual([]);
});
