import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { eventually } from './fixture/eventually.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, POOLS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';

const { anchor } = POOLS.shared;

describe.skipIf(missing('registry-away'))(
  'a relay that is killed and started again while it cannot reach the registry',
  () => {
    let harbour: Harbour;
    let traffic: Traffic;
    let restarted: Promise<void>;

    beforeAll(async () => {
      harbour = await startHarbour({
        name: 'registry-away',
        devices: [{ name: 'alice', pool: 'shared', kind: 'rsipsec', delayMs: 5 }],
      });
      traffic = await startTraffic(harbour.lab, [flowWithPeer(harbour, 'alice', 7_001)]);
      await traffic.start();
      await delay(500);
    }, 60_000);
    afterAll(() => harbour?.close());

    it('forwards again for the same addresses by its journal', async () => {
      const r1 = harbour.fleet.relays.get('r1')!;
      await nft('add table ip mute');
      await nft('add chain ip mute out { type filter hook output priority 0 ; }');
      await nft('add rule ip mute out tcp dport 6379 reject');
      await r1.crash();
      const startMs = monotonicMs();
      restarted = r1.restart();
      restarted.catch(() => undefined);
      await flows(startMs);
      console.info(
        `restart without the registry: packets again after ${Math.round(monotonicMs() - startMs)} ms`,
      );
      expect(await owner()).toMatchObject({ relay: 'r1', epoch: '1' });
      await delay(1_000);
      const window = { fromMs: monotonicMs() - 800, toMs: monotonicMs() - 200 };
      expect((await traffic.measure('alice', window)).both).toMatchObject({ lost: 0, duplicated: 0 });
    });

    it('claims its anchors again when it reaches the registry, and hands over to itself', async () => {
      await nft('delete table ip mute');
      await restarted;
      await eventually('claimed', owner, ({ epoch }) => Number(epoch) > 1, 10_000);
      expect((await owner()).relay).toBe('r1');
      await flows(monotonicMs());
      const status = await harbour.devices.alice!.agent.until(
        (now) => Number(now.epoch) > 1,
        'told the epoch',
      );
      expect(status.lease?.address).toBe(harbour.devices.alice!.lease.address);
      await delay(1_000);
      const window = { fromMs: monotonicMs() - 800, toMs: monotonicMs() - 200 };
      expect((await traffic.measure('alice', window)).both).toMatchObject({ lost: 0, duplicated: 0 });
    });

    // --- the steps -------------------------------------------------------------------------------------

    function nft(text: string) {
      const { host } = harbour.fleet.relays.get('r1')!;
      return harbour.lab.run(host.namespace, ['nft', ...text.split(' ')]);
    }

    /** Until packets that were sent since then go both ways. */
    async function flows(sinceMs: number): Promise<void> {
      await eventually(
        'packets',
        async () => {
          const nowMs = Math.max(monotonicMs(), sinceMs + 500);
          await delay(nowMs - monotonicMs());
          return (await traffic.measure('alice', { fromMs: nowMs - 400, toMs: nowMs - 100 })).both;
        },
        ({ lost }) => lost === 0,
        15_000,
      );
    }

    async function owner(): Promise<{ relay: string; epoch: string }> {
      const { lab, fleet } = harbour;
      const key = `mooring2:{a:${anchor}}:meta`;
      const argv = ['redis-cli', '-h', fleet.core.address, 'hmget', key, 'owner', 'epoch'];
      const { stdout } = await lab.run(fleet.core.namespace, argv);
      const [relay = '', epoch = ''] = stdout.split('\n');
      return { relay, epoch };
    }
  },
);
