import { afterAll, beforeAll, expect, test } from 'vitest';
import { MAX_LEASES } from '../../../src/registry/plan.ts';
import { fullPool } from './full-pool.ts';
import { type RealRedis, realRedis } from './real-redis.ts';

const MOST_MS = 10;

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

test('nothing that happens to a full anchor keeps Redis from others for 10 ms', async () => {
  const pool = fullPool(server);
  await pool.fill(0);
  const whole = await pool.start(0);
  expect(whole.leases).toHaveLength(MAX_LEASES);
  await pool.stretch(0, whole);
  await pool.change(0);
  await pool.loseAndReport(0, whole);
  const back = await pool.start(0);
  expect(back.leases.map(({ id }) => id).sort()).toEqual(whole.leases.map(({ id }) => id).sort());
  expect(back.sessions).toHaveLength(MAX_LEASES);
  expect(await pool.sweep(0)).toBe(MAX_LEASES);
  await pool.stop(0);
  const longest = [...pool.longest].sort(([, one], [, other]) => other - one);
  console.log(longest.map(([command, ms]) => `${command} ${ms.toFixed(1)} ms`).join(', '));
  for (const [command, ms] of longest) expect(ms, command).toBeLessThan(MOST_MS);
});
