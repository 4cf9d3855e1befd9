import { afterAll, beforeAll, expect, test } from 'vitest';
import { type RealRedis, realRedis } from '../../integration/registry/real-redis.ts';
import { play } from './play.ts';
import { realProduct } from './product.ts';
import type { Schedule } from './schedule.ts';
import { simulatedCommands } from './scripts.ts';
import { REDIS_SETTINGS, type Stage, stage } from './series.ts';
import { Wire } from './wire.ts';

let server: RealRedis;
let on: Stage;
beforeAll(async () => {
  Error.stackTraceLimit = 0;
  server = await realRedis(...REDIS_SETTINGS);
  on = await stage(new Wire(server.socket), await realProduct(), simulatedCommands());
});
afterAll(() => server.stop());

/** The owner is away when the first request is granted, and the device asks for another lease before it asks again. */
const schedule: Schedule = {
  shape: {
    ...{ seed: 0, relays: 2, anchors: 2, devices: 3, sharing: 'whole', cluster: false },
    ...{ weather: { lost: 0, late: 0, twice: 0 }, rates: [1, 1, 1] },
  },
  steps: [
    { afterMs: 0, what: { act: 'lease', device: 0, leaseMs: 60_000, both: false } },
    { afterMs: 0, what: { act: 'restart', relay: 2, pinned: false } },
    { afterMs: 0, what: { act: 'lose', relay: 0, withDisk: false } },
    { afterMs: 709, what: { act: 'pause', host: 2, forMs: 787 } },
    { afterMs: 1, what: { act: 'lease', device: 0, leaseMs: 60_000, both: false } },
    { afterMs: 0, what: { act: 'lose', relay: 0, withDisk: false } },
    { afterMs: 635, what: { act: 'extend', device: 0, which: 0 } },
  ],
};

test('a request whose grant was withdrawn has no place in the quota any more that another request has taken', async () => {
  await expect(play({ ...on, first: 0 }, schedule)).resolves.toMatchObject({ withdrawn: 1 });
});
