import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../clients/laptop/status.ts';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { eventually } from './fixture/eventually.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, POOLS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';
import { STANDBY_POOL } from './fixture/standby-pool.ts';

/** From the loss of a relay's host until packets flow through another one, milliseconds. */
const TAKEOVER_MS = 1_000;

const { anchor } = POOLS.shared;

describe.skipIf(missing('takeover'))('the loss of a relay with its host and its links', () => {
  let harbour: Harbour;
  let traffic: Traffic;
  let before: Map<string, AgentStatus>;
  let lostMs: number;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'takeover',
      pools: [STANDBY_POOL],
      devices: [
        { name: 'alice', pool: 'shared', kind: 'rsipsec', delayMs: 5 },
        { name: 'bob', pool: 'shared', kind: 'rsap-ip', delayMs: 5 },
      ],
    });
    traffic = await startTraffic(harbour.lab, [
      flowWithPeer(harbour, 'alice', 7_001),
      flowWithPeer(harbour, 'bob', 7_002, { receiveOnlyDevice: true }),
    ]);
    await traffic.start();
  }, 60_000);
  afterAll(() => harbour?.close());

  it('is prepared for: the other relay is the standby, and the claim is short', async () => {
    await eventually(
      'paired',
      claim,
      ({ owner, standby, remainingMs }) => owner === 'r1' && standby === 'r2' && remainingMs < 600,
      15_000,
    );
    // Held for a while without anybody else claiming.
    await delay(1_200);
    expect(await claim()).toMatchObject({ owner: 'r1', epoch: 1, standby: 'r2' });
    const window = { fromMs: monotonicMs() - 1_000, toMs: monotonicMs() - 200 };
    expect((await traffic.measure('alice', window)).both).toMatchObject({ lost: 0, duplicated: 0 });
  });

  it('is over within a second: the standby forwards for the same addresses', async () => {
    before = await bound();
    const r1 = harbour.fleet.relays.get('r1')!;
    lostMs = monotonicMs();
    await harbour.lab.ip(r1.host.namespace, [`link set ${r1.host.interface} down`]);
    await r1.crash();
    await delay(2_500);
    const window = { fromMs: lostMs, toMs: monotonicMs() - 100 };
    const alice = await traffic.measure('alice', window);
    const bob = await traffic.measure('bob', window);
    for (const [name, { gapMs }] of Object.entries({
      'from alice': alice.up,
      'to alice': alice.down,
      'to bob, who is silent': bob.down,
    })) {
      console.info(`loss of a relay host: ${name} nothing for ${Math.round(gapMs)} ms`);
      expect(gapMs, name).toBeLessThan(TAKEOVER_MS);
      expect(gapMs, name).toBeGreaterThan(200);
    }
    expect(await claim()).toMatchObject({ owner: 'r2', epoch: 2 });
  });

  it('leaves leases and sessions as they were, under the next epoch', async () => {
    for (const [name, { lease, tunnel, epoch }] of before) {
      const now = await harbour.devices[name]!.agent.until(
        (status) => status.path !== null && status.signalling.connected,
        'bound',
      );
      expect(now.lease).toMatchObject({ ...lease, remainingMs: expect.any(Number) });
      expect(now.tunnel).toEqual(tunnel);
      expect(BigInt(now.epoch!)).toBeGreaterThan(BigInt(epoch!));
    }
    const window = { fromMs: monotonicMs() - 700, toMs: monotonicMs() - 200 };
    for (const name of ['alice', 'bob']) {
      expect((await traffic.measure(name, window)).both).toMatchObject({ lost: 0, duplicated: 0 });
    }
  });

  it('is mended when the host comes back: it is the standby then, and claims nothing', async () => {
    const r1 = harbour.fleet.relays.get('r1')!;
    await harbour.lab.ip(r1.host.namespace, [
      `link set ${r1.host.interface} up`,
      'route replace default via 198.51.100.1',
    ]);
    await r1.restart();
    await eventually('paired again', claim, ({ standby }) => standby === 'r1', 15_000);
    expect(await claim()).toMatchObject({ owner: 'r2', epoch: 2 });
    const window = { fromMs: monotonicMs() - 700, toMs: monotonicMs() - 200 };
    expect((await traffic.measure('alice', window)).both).toMatchObject({ lost: 0, duplicated: 0 });
  });

  it('leaves an owner alone that hears nobody any more: it ceases by itself, though the network still reaches it', async () => {
    await eventually('paired', claim, ({ remainingMs }) => remainingMs < 600, 15_000);
    const r2 = harbour.fleet.relays.get('r2')!;
    const nft = (text: string) => harbour.lab.run(r2.host.namespace, ['nft', ...text.split(' ')]);
    await nft('add table ip mute');
    await nft('add chain ip mute out { type filter hook output priority 0 ; }');
    const cutMs = monotonicMs();
    await nft('add rule ip mute out meta l4proto tcp drop');
    await delay(2_500);
    const window = { fromMs: cutMs, toMs: monotonicMs() - 100 };
    for (const name of ['alice', 'bob']) {
      const { gapMs } = (await traffic.measure(name, window)).down;
      console.info(`loss of registry and standby: to ${name} nothing for ${Math.round(gapMs)} ms`);
      expect(gapMs, name).toBeLessThan(TAKEOVER_MS);
    }
    const settled = { fromMs: window.toMs - 500, toMs: window.toMs };
    expect((await traffic.measure('alice', settled)).both).toMatchObject({ lost: 0, duplicated: 0 });
    expect(await claim()).toMatchObject({ owner: 'r1', epoch: 3 });
    await nft('delete table ip mute');
    await eventually('paired again', claim, ({ standby }) => standby === 'r2', 15_000);
    const after = { fromMs: monotonicMs() - 700, toMs: monotonicMs() - 200 };
    expect((await traffic.measure('alice', after)).both).toMatchObject({ lost: 0, duplicated: 0 });
  });

  // --- the steps -------------------------------------------------------------------------------------

  async function bound(): Promise<Map<string, AgentStatus>> {
    const all = new Map<string, AgentStatus>();
    for (const { name, agent } of Object.values(harbour.devices)) {
      all.set(name, await agent.until((status) => status.state === 'bound' && status.path !== null, 'bound'));
    }
    return all;
  }

  /** What the registry says of the anchor's ownership. */
  async function claim() {
    const { lab, fleet } = harbour;
    const redis = (...command: string[]) =>
      lab.run(fleet.core.namespace, ['redis-cli', '-h', fleet.core.address, ...command]);
    const key = `mooring2:{a:${anchor}}:meta`;
    const { stdout } = await redis('hmget', key, 'owner', 'epoch', 'standby', 'untilMs');
    const [owner = '', epoch, standby = '', untilMs] = stdout.split('\n');
    const [seconds, micros] = (await redis('time')).stdout.split('\n');
    const nowMs = Number(seconds) * 1000 + Number(micros) / 1000;
    return { owner, epoch: Number(epoch), standby, remainingMs: Number(untilMs) - nowMs };
  }
});
