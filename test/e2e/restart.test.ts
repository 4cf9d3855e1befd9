import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AgentStatus } from '../../clients/laptop/status.ts';
import { type Capture, startCapture } from '../../infra/lab/capture.ts';
import { ipPacketOf } from '../../infra/lab/pcap.ts';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { openRegistry } from '../../src/registry/open.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { createLog } from '../../src/telemetry/log.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, POOLS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';

/** From the moment the server serves again until packets flow again, milliseconds. */
const RESUME_MS = 1_500;

describe.skipIf(missing('restart'))('a server killed by kill -9', () => {
  let harbour: Harbour;
  let traffic: Traffic;
  /** What a host that answers for a leased address would send to the peer. */
  let refusals: Capture;

  beforeAll(async () => {
    harbour = await startHarbour({
      name: 'restart',
      allInOne: true,
      devices: [
        { name: 'alice', pool: 'shared', kind: 'rsipsec', delayMs: 5 },
        { name: 'bob', pool: 'shared', kind: 'rsap-ip', delayMs: 5 },
      ],
    });
    const { lab, peer } = harbour;
    traffic = await startTraffic(lab, [
      flowWithPeer(harbour, 'alice', 7_001),
      flowWithPeer(harbour, 'bob', 7_002, { receiveOnlyDevice: true }),
    ]);
    refusals = await startCapture(lab, {
      namespace: peer.namespace,
      interface: peer.interface,
      name: 'refusals',
      filter: `dst host ${peer.address} and (icmp or tcp[tcpflags] & tcp-rst != 0)`,
    });
    await traffic.start();
  }, 60_000);
  afterAll(() => harbour?.close());

  it('comes back to its leases and sessions, and the devices to it without being told', async () => {
    const { before, registryBefore } = await begin();
    const diedMs = await crashed();
    await whileDead();
    const start = await started();
    await resumed(diedMs, start, 'kill -9 of the server');
    await unchanged(before, registryBefore);
  });

  it('comes back to them when its registry is killed with it', async () => {
    const { before, registryBefore } = await begin();
    const registryPid = await privateRedis();
    const diedMs = await crashed();
    process.kill(registryPid, 'SIGKILL');
    await whileDead();
    const start = await started();
    expect(await privateRedis()).not.toBe(registryPid);
    await resumed(diedMs, start, 'kill -9 of server and registry');
    await unchanged(before, registryBefore);
  });

  it('finds a device that went to another network meanwhile', async () => {
    const { before, registryBefore } = await begin();
    const { alice, bob } = harbour.devices;
    const diedMs = await crashed();
    await Promise.all([alice!.links.wifi0!.cut(), bob!.links.wifi0!.cut()]);
    await whileDead();
    const start = await started();
    await resumed(diedMs, start, 'kill -9 of the server and a move');
    await unchanged(before, registryBefore, 'cell0');
    await Promise.all([alice!.links.wifi0!.up(), bob!.links.wifi0!.up()]);
    for (const device of [alice!, bob!]) {
      await device.agent.until((status) => status.path?.link === 'wifi0', 'back on wifi0');
    }
  });

  it('was missed in silence: nobody answered for a leased address', async () => {
    const answered = () =>
      refusals
        .frames()
        .map(ipPacketOf)
        .map((packet) => packet?.source);
    expect(answered()).toEqual([]);
    // The capture would have shown it: an address that a host does answer for.
    const { address } = harbour.fleet.signalling.host;
    expect(await connect(address, 9)).toBe('refused');
    expect(answered()).toEqual([address]);
  });

  // --- the steps -------------------------------------------------------------------------------------

  async function begin() {
    await delay(300);
    const { devices } = harbour;
    const before = new Map<string, AgentStatus>();
    for (const device of Object.values(devices)) {
      before.set(
        device.name,
        await device.agent.until((status) => status.state === 'bound' && status.path !== null, 'bound'),
      );
    }
    return { before, registryBefore: await held() };
  }

  async function crashed(): Promise<number> {
    const diedMs = monotonicMs();
    await harbour.fleet.signalling.crash();
    return diedMs;
  }

  /** The peer asks at a leased address: long enough that every device has noticed too. */
  async function whileDead(): Promise<void> {
    const { lease, port } = harbour.devices.alice!;
    expect(await connect(lease.address, port())).toBe('silence');
  }

  async function connect(address: string, port: number): Promise<'connected' | 'refused' | 'silence'> {
    const { lab, peer } = harbour;
    const attempt = ['timeout', '1.5', 'bash', '-c', `exec 3<>/dev/tcp/${address}/${port}`];
    return lab.run(peer.namespace, attempt).then(
      () => 'connected',
      (error: Error) => (error.message.includes('refused') ? 'refused' : 'silence'),
    );
  }

  /** Starts the server again; resolves when it says that it serves. */
  async function started(): Promise<{ launchedMs: number; upMs: number }> {
    const launchedMs = monotonicMs();
    await harbour.fleet.signalling.restart();
    return { launchedMs, upMs: monotonicMs() };
  }

  async function resumed(
    diedMs: number,
    { launchedMs, upMs }: { launchedMs: number; upMs: number },
    what: string,
  ): Promise<void> {
    await delay(RESUME_MS + 500);
    const window = { fromMs: diedMs, toMs: monotonicMs() - 100 };
    const alice = await traffic.measure('alice', window);
    const bob = await traffic.measure('bob', window);
    const ends = { up: alice.up, down: alice.down, 'receive-only': bob.down };
    for (const [flow, { gapMs, gapEndedMs }] of Object.entries(ends)) {
      console.info(
        `${what}: ${flow} again ${Math.round(gapEndedMs - launchedMs)} ms after the start (it said "up" after ${Math.round(upMs - launchedMs)} ms), silent for ${Math.round(gapMs)} ms`,
      );
      expect(gapMs, flow).toBeGreaterThan(launchedMs - diedMs - 100);
      expect(gapEndedMs - upMs, flow).toBeLessThan(RESUME_MS);
    }
    // And it stays so.
    const settled = { fromMs: window.toMs - 400, toMs: window.toMs };
    for (const flow of ['alice', 'bob']) {
      const { both } = await traffic.measure(flow, settled);
      expect(both).toMatchObject({ lost: 0, duplicated: 0 });
      expect(both.received).toBeGreaterThan(0);
    }
  }

  async function unchanged(
    before: ReadonlyMap<string, AgentStatus>,
    registryBefore: Awaited<ReturnType<typeof held>>,
    link = 'wifi0',
  ): Promise<void> {
    expect(await held()).toEqual(registryBefore);
    for (const [name, { lease, epoch, tunnel }] of before) {
      const { agent } = harbour.devices[name]!;
      const now = await agent.until(
        (status) => status.path?.link === link && status.signalling.connected,
        `bound on ${link} and connected again`,
      );
      expect(now.lease).toMatchObject({ ...lease, remainingMs: expect.any(Number) });
      expect(now.tunnel).toEqual(tunnel);
      // By one, or by far after a restart of the registry, which may have lost an epoch.
      expect(BigInt(now.epoch!)).toBeGreaterThan(BigInt(epoch!));
    }
  }

  /** Leases and sessions as the registry has them, without what time alone changes. */
  async function held() {
    const log = createLog('silent', 'test');
    const registry = await openRegistry({ url: socket(), log });
    try {
      const { leases, sessions } = await registry.snapshot(POOLS.shared.anchor);
      return {
        leases: leases.map(({ remainingMs: _, ...lease }) => lease).toSorted(byId),
        sessions: sessions.toSorted(byId),
      };
    } finally {
      await registry.close();
    }
  }

  function socket(): string {
    return `${harbour.fleet.signalling.dataDir}/registry/redis.sock`;
  }

  async function privateRedis(): Promise<number> {
    const { lab, fleet } = harbour;
    const { stdout } = await lab.run(fleet.signalling.host.namespace, [
      ...['redis-cli', '-s', socket(), 'info', 'server'],
    ]);
    return Number(/process_id:(\d+)/.exec(stdout)![1]);
  }
});

function byId(a: { readonly id: string }, b: { readonly id: string }): number {
  return a.id < b.id ? -1 : 1;
}
