import { afterAll, beforeAll, expect, test } from 'vitest';
import { fullPool } from '../integration/registry/full-pool.ts';
import { type RealRedis, realRedis } from '../integration/registry/real-redis.ts';

/** A million leases, on a machine that does nothing else: beside other load, some of that shows in Redis' account too. */
const ANCHORS = 245;
const MOST_MS = 10;

let server: RealRedis;
beforeAll(async () => {
  server = await realRedis();
});
afterAll(() => server.stop());

test('a pool of a million leases starts, is reported, swept and given up without keeping Redis from others for 10 ms', async () => {
  const pool = fullPool(server);
  for (let at = 0; at < ANCHORS; at += 1) await pool.fill(at);
  for (let at = 0; at < ANCHORS; at += 1) {
    const whole = await pool.start(at);
    await pool.stretch(at, whole);
    await pool.change(at);
    await pool.loseAndReport(at, whole);
    await pool.sweep(at);
    await pool.stop(at);
  }
  console.log([...pool.longest].map(([command, ms]) => `${command} ${ms.toFixed(1)} ms`).join(', '));
  for (const [command, ms] of pool.longest) expect(ms, command).toBeLessThan(MOST_MS);
});
