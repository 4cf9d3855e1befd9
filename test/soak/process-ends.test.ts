import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { eventually } from '../e2e/fixture/eventually.ts';
import { flowWithPeer } from '../e2e/fixture/flow.ts';
import { type Harbour, startHarbour } from '../e2e/fixture/harbour.ts';
import { missing } from '../e2e/fixture/requirements.ts';
import { restarted, serverStatus } from '../e2e/fixture/server-process.ts';
import { STANDBY_POOL } from '../e2e/fixture/standby-pool.ts';

/** From the loss of a relay until packets flow through another one, milliseconds. */
const TAKEOVER_MS = 1_000;
/** So long a supervisor keeps the claims of a process that is away and whose packets nobody forwards, milliseconds. */
const HOLD_MS = 1_000;

describe.skipIf(missing('the end of a userspace relay process'))(
  'the end of a relay process without XDP, its host and its supervisor still there',
  () => {
    let harbour: Harbour;
    let traffic: Traffic;

    beforeAll(async () => {
      harbour = await startHarbour({
        name: 'process-ends',
        pools: [STANDBY_POOL],
        relaySettings: { engine: 'userspace' },
        devices: [{ name: 'alice', pool: 'shared', kind: 'rsipsec', delayMs: 5 }],
      });
      traffic = await startTraffic(harbour.lab, [flowWithPeer(harbour, 'alice', 7_001)]);
      await traffic.start();
    }, 60_000);
    afterAll(() => harbour?.close());

    it.each(['SIGKILL', 'SIGSTOP', 'SIGKILL', 'SIGSTOP'] as const)(
      '%s costs the hold time and a takeover at most, whoever goes on',
      async (signal) => {
        const owner = await ready();
        const { process: seen } = await serverStatus(harbour, owner);
        const endedMs = monotonicMs();
        process.kill(seen.pid, signal);
        await delay(HOLD_MS + TAKEOVER_MS + 500);
        const { up, down } = await traffic.measure('alice', {
          fromMs: endedMs,
          toMs: monotonicMs() - 100,
        });
        console.info(
          `${signal} of ${owner}'s process: up nothing for ${Math.round(up.gapMs)} ms, down for ${Math.round(down.gapMs)} ms`,
        );
        expect(up.gapMs).toBeLessThan(HOLD_MS + TAKEOVER_MS);
        expect(down.gapMs).toBeLessThan(HOLD_MS + TAKEOVER_MS);
        await restarted(harbour, seen.restarts + 1, 20_000, owner);
        const { lease, agent } = harbour.devices.alice!;
        const now = await agent.until(({ path }) => path !== null, 'bound');
        expect(now.lease).toMatchObject({ ...lease, remainingMs: expect.any(Number) });
      },
      60_000,
    );

    /** Resolves with the owner when the other relay has the anchor ready, and the claim of the beginning has run down. */
    async function ready(): Promise<string> {
      const relays = ['r1', 'r2'];
      const all = await eventually(
        'one owns it, the other stands by',
        () => Promise.all(relays.map((relay) => serverStatus(harbour, relay))),
        (seen) =>
          seen.some(({ anchors }) => anchors.length === 1) &&
          seen.some(({ standsByFor }) => standsByFor.length === 1),
        30_000,
      );
      // Neighbours hold on for a second to what they were told last.
      await delay(4_000);
      return relays[all.findIndex(({ anchors }) => anchors.length === 1)]!;
    }
  },
);
