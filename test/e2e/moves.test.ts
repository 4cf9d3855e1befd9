import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startStallMeter } from '../../infra/demo/stall-meter.ts';
import { startCapture } from '../../infra/lab/capture.ts';
import type { LabProcess } from '../../infra/lab/lab.ts';
import { nodeCommand } from '../../infra/lab/node-command.ts';
import { seededRandom } from '../../infra/lab/seeded-random.ts';
import { type FlowReport, startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { eventually } from './fixture/eventually.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, type MooredDevice, POOLS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';

const SEED = Number(process.env.MOVES_SEED ?? 20_260);
const ONE_WAY_MS = 10;
const PACKETS_PER_SECOND = 200;
/** A cut is over when downlink is back: two round trips of the new link, this, and what the machine stalled, milliseconds. */
const RESUME_SLACK_MS = 50;
/** NAT change and relay change, milliseconds of silence. */
const CHANGE_MS = 1_000;
const TOKEN_TTL_S = 5;
const TCP_TALK = fileURLToPath(new URL('fixture/tcp-talk-program.ts', import.meta.url));

describe.skipIf(missing('moves'))('a device that moves', () => {
  let harbour: Harbour;
  let traffic: Traffic;
  let alice: MooredDevice;
  let bob: MooredDevice;
  let dora: MooredDevice;

  beforeAll(async () => {
    const links = { wifi0: 'home', office0: 'office', cell0: 'cellular' };
    harbour = await startHarbour({
      name: 'moves',
      tokenTtlS: TOKEN_TTL_S,
      networks: { home: 'plain', office: 'nat-preserving', cellular: 'nat-symmetric' },
      devices: [
        { name: 'alice', pool: 'shared', kind: 'rsipsec', links, delayMs: ONE_WAY_MS },
        { name: 'bob', pool: 'shared', kind: 'rsap-ip', links, delayMs: ONE_WAY_MS },
        { name: 'dora', pool: 'whole', kind: 'rsa-ip', links, delayMs: ONE_WAY_MS },
      ],
    });
    ({ alice, bob, dora } = harbour.devices as Record<'alice' | 'bob' | 'dora', MooredDevice>);
    const flow = (name: string, port: number, receiveOnlyDevice = false) =>
      flowWithPeer(harbour, name, port, { packetsPerSecond: PACKETS_PER_SECOND, receiveOnlyDevice });
    traffic = await startTraffic(harbour.lab, [
      flow('alice', 7_001),
      flow('bob', 7_002, true),
      flow('dora', 7_003),
    ]);
    await traffic.start();
    await delay(500);
  }, 60_000);
  afterAll(() => harbour?.close());
  afterEach(async () => {
    harbour.fleet.issuer.kill('SIGCONT');
    for (const device of [alice, bob, dora]) {
      await allUp(device);
      await device.agent.use('wifi0');
    }
  });

  describe('with both links up', () => {
    it.each([
      ['from a plain network to one behind a port-preserving NAT', 'office0'],
      ['from a plain network to one behind a symmetric NAT that other devices are behind too', 'cell0'],
    ])('loses nothing %s, and back', async (_, link) => {
      for (const to of [link, 'wifi0']) {
        const moved = await watched(() =>
          Promise.all([alice, bob, dora].map((device) => device.agent.use(to))),
        );
        for (const device of [alice, bob, dora]) {
          expect((await moved(device.name)).both, device.name).toMatchObject({ lost: 0, duplicated: 0 });
          await isUnchanged(device, to);
        }
      }
    });

    it('takes what is still under way on the old path', async () => {
      const { lab, fleet } = harbour;
      await alice.links.wifi0!.shape({ delayMs: 80 });
      await delay(600);
      const relay = fleet.relays.get('r1')!.host;
      const old = alice.links.wifi0!;
      const [here, there] = await Promise.all([
        startCapture(lab, {
          ...{ namespace: alice.namespace, interface: 'wifi0', name: 'old-path-device' },
          filter: 'udp src port 4556',
        }),
        startCapture(lab, {
          ...{ namespace: relay.namespace, interface: relay.interface, name: 'old-path-relay' },
          filter: `udp dst port 4556 and src host ${old.address}`,
        }),
      ]);
      const moved = await watched(() => alice.agent.use('office0'));
      const { moves } = await alice.agent.status();
      const { atMs, bound } = moves.at(-1)!;
      const flippedMs = atMs + bound!.tookMs;
      const late = (frames: ReturnType<typeof here.frames>) =>
        frames.filter(({ timeMs }) => timeMs > flippedMs).length;
      const down = late(here.frames());
      const up = late(there.frames());
      console.info(
        `after the flip ${down} packets arrived on the old path at the device, ${up} at the relay`,
      );
      expect(down).toBeGreaterThan(5);
      expect(up).toBeGreaterThan(5);
      expect((await moved('alice')).both).toMatchObject({ lost: 0, duplicated: 0 });
      await Promise.all([here.stop(), there.stop(), old.shape({ delayMs: ONE_WAY_MS })]);
    });

    it('ends on the link it wanted last, however quickly it changes its mind', async () => {
      const moved = await watched(async () => {
        for (let i = 0; i < 4; i += 1) {
          void alice.agent.use('cell0').catch(() => {});
          await delay(ONE_WAY_MS);
          await alice.agent.use('wifi0');
        }
      });
      expect((await moved('alice')).both).toMatchObject({ lost: 0, duplicated: 0 });
      await isUnchanged(alice, 'wifi0');
    });
  });

  describe('whose only link is cut before another one comes up', () => {
    it.each([
      ['wifi0', 'office0'],
      ['office0', 'cell0'],
      ['cell0', 'wifi0'],
    ])('loses only what was on the cut link: %s → %s', async (from, to) => {
      await alone(alice, from);
      await cutThenUp(alice, from, to);
    });
  });

  describe('whose NAT changes its port', () => {
    it('is found again, also when it only receives', async () => {
      await Promise.all([alice, bob].map((device) => device.agent.use('office0')));
      const moved = await watched(() => harbour.networks.office!.remap(), CHANGE_MS + 300);
      for (const name of ['alice', 'bob']) await isBrief('port-preserving NAT', name, moved, CHANGE_MS);
    });

    it('is found again with its neighbour behind the same address', async () => {
      await Promise.all([alice, dora].map((device) => device.agent.use('cell0')));
      const moved = await watched(() => harbour.networks.cellular!.remap(), CHANGE_MS + 300);
      for (const name of ['alice', 'dora']) await isBrief('symmetric NAT', name, moved, CHANGE_MS);
    });
  });

  describe('without signalling', () => {
    it('moves by the datagrams alone, when its token has expired and the issuer is silent', async () => {
      harbour.fleet.issuer.kill('SIGSTOP');
      await delay(TOKEN_TTL_S * 1_000);
      const moved = await watched(() => alice.agent.use('office0'));
      expect((await moved('alice')).both).toMatchObject({ lost: 0, duplicated: 0 });
      await isUnchanged(alice, 'office0');
    });

    it('moves while no signalling node runs, also over a cut, and comes back to it', async () => {
      const { fleet } = harbour;
      await fleet.signalling.crash();
      await alice.agent.until(({ signalling }) => !signalling.connected, 'without signalling');
      const moved = await watched(() => alice.agent.use('cell0'));
      expect((await moved('alice')).both).toMatchObject({ lost: 0, duplicated: 0 });
      await alone(alice, 'cell0');
      await cutThenUp(alice, 'cell0', 'wifi0');
      fleet.issuer.kill('SIGCONT');
      await fleet.signalling.restart();
      await alice.agent.until(({ signalling }) => signalling.connected, 'connected again', 20_000);
      await isUnchanged(alice, 'wifi0');
    });
  });

  describe('whose anchor moves', () => {
    it('hardly notices, there and back', async () => {
      for (const [from, to] of [
        ['r1', 'r2'],
        ['r2', 'r1'],
      ] as const) {
        let tookMs = 0;
        const moved = await watched(async () => {
          ({ tookMs } = await harbour.fleet.moveAnchor(POOLS.shared.anchor, from, to));
        });
        console.info(`hand-over ${from} → ${to} took ${Math.round(tookMs)} ms`);
        for (const name of ['alice', 'bob'])
          await isBrief(`hand-over ${from} → ${to}`, name, moved, CHANGE_MS);
        // What arrives meanwhile waits for the next relay: most of it is late, not lost.
        const { up, down } = await moved('alice');
        for (const { lost, gapMs } of [up, down]) {
          expect(lost).toBeLessThan(4 + (gapMs * PACKETS_PER_SECOND) / 2_000);
        }
        expect((await moved('dora')).both).toMatchObject({ lost: 0 });
        await isUnchanged(alice, 'wifi0');
      }
    });

    it('stays where it is when the other relay is dead', async () => {
      const { fleet } = harbour;
      await fleet.relays.get('r2')!.crash();
      const before = await alice.agent.status();
      const moved = await watched(async () => {
        await expect(fleet.moveAnchor(POOLS.shared.anchor, 'r1', 'r2')).rejects.toThrow(/ERR_MOORING_/);
      });
      for (const name of ['alice', 'bob']) expect((await moved(name)).both, name).toMatchObject({ lost: 0 });
      await fleet.relays.get('r2')!.restart();
      expect((await alice.agent.status()).epoch).toBe(before.epoch);
    });
  });

  it('keeps its whole address, and a TCP session with it, over a move and a cut', async () => {
    const { lab, peer } = harbour;
    const server = await lab.spawn(peer.namespace, nodeCommand(TCP_TALK, 'listen', peer.address, '8001'), {
      label: 'tcp server',
    });
    await eventually('listening', server.output, (text) => text.includes('listening'));
    const client = await lab.spawn(
      dora.namespace,
      nodeCommand(TCP_TALK, 'talk', peer.address, '8001', dora.lease.address, '8000'),
      { label: 'tcp client' },
    );
    await talks(client);
    await dora.agent.use('cell0');
    await talks(client);
    await alone(dora, 'cell0');
    await dora.links.cell0!.cut();
    await dora.links.office0!.up();
    await talks(client);
    expect(client.output()).not.toContain('lost');
    await Promise.all([client.stop(), server.stop()]);
    await isUnchanged(dora);
  });

  it(`keeps address, ports and SPIs over 50 random moves (seed ${SEED})`, async () => {
    const random = seededRandom(SEED);
    const pick = <T>(all: readonly T[]) => all[Math.floor(random() * all.length)]!;
    const names = Object.keys(alice.links);
    const startedMs = monotonicMs();
    let last = (await alice.agent.status()).path!.link;
    for (let i = 0; i < 50; i += 1) {
      const next = pick(names.filter((name) => name !== last));
      switch (pick(['use', 'cut', 'remap'])) {
        case 'use':
          await alice.agent.use(next);
          last = next;
          break;
        case 'cut': {
          await alice.links[last]!.cut(pick(['down', 'carrier', 'address']));
          const { path } = await alice.agent.until(
            (status) => status.path !== null && status.path.link !== last && status.state === 'bound',
            `away from ${last}`,
          );
          await allUp(alice);
          last = path!.link;
          break;
        }
        default:
          await pick([harbour.networks.office!, harbour.networks.cellular!]).remap();
      }
    }
    console.info(`50 random moves in ${Math.round(monotonicMs() - startedMs)} ms`);
    await alice.agent.use('wifi0');
    const still = await watched(async () => {});
    expect((await still('alice')).both).toMatchObject({ lost: 0, duplicated: 0 });
    await isUnchanged(alice, 'wifi0');
    expect(await traffic.socketDrops()).toBe(0);
  }, 60_000);

  // --- the steps -------------------------------------------------------------------------------------

  type Moved = (flow: string) => Promise<FlowReport>;

  /** Lets traffic flow for a moment before and after `act`; resolves with how to measure that span. */
  async function watched(act: () => Promise<unknown>, afterMs = 500): Promise<Moved> {
    const fromMs = monotonicMs();
    await delay(200);
    await act();
    await delay(afterMs);
    const toMs = monotonicMs();
    await delay(150);
    return (flow) => traffic.measure(flow, { fromMs, toMs });
  }

  async function isBrief(what: string, name: string, moved: Moved, mostMs: number): Promise<void> {
    const { up, down } = await moved(name);
    console.info(
      `${what}: ${name} silent for ${Math.round(up.gapMs)} ms up, ${Math.round(down.gapMs)} ms down; lost ${up.lost} up, ${down.lost} down`,
    );
    expect(down.gapMs, name).toBeLessThan(mostMs);
    if (up.sent > 0) expect(up.gapMs, name).toBeLessThan(mostMs);
    expect(down.duplicated + up.duplicated, name).toBe(0);
  }

  /** The same lease, tunnel index and key number as at the start, on `link`. */
  async function isUnchanged(device: MooredDevice, link?: string): Promise<void> {
    const now = await device.agent.until(
      (status) => status.state === 'bound' && (link === undefined || status.path?.link === link),
      `bound on ${link ?? 'a link'}`,
    );
    expect(now.lease).toMatchObject({ ...device.lease, remainingMs: expect.any(Number) });
    expect(now.tunnel).toEqual(device.tunnel);
  }

  /** On `link`, and without any other one. */
  async function alone(device: MooredDevice, link: string): Promise<void> {
    await device.agent.use(link);
    for (const [name, other] of Object.entries(device.links)) if (name !== link) await other.cut();
    await delay(100);
  }

  async function allUp(device: MooredDevice): Promise<void> {
    await Promise.all(Object.values(device.links).map((link) => link.up()));
    await device.agent.until(({ links }) => links.length === Object.keys(device.links).length, 'all links');
  }

  /**
   * Only what was in flight on the cut link, or could not be sent, is lost: from a round trip before the cut until the
   * relay has heard from the new link.
   */
  async function cutThenUp(device: MooredDevice, from: string, to: string): Promise<void> {
    let cutMs = 0;
    let usableMs = 0;
    const meter = startStallMeter(monotonicMs);
    const fromMs = monotonicMs();
    await delay(300);
    cutMs = monotonicMs();
    await device.links[from]!.cut();
    await delay(100);
    await device.links[to]!.up();
    usableMs = monotonicMs();
    await delay(800);
    const toMs = monotonicMs();
    const slackMs = RESUME_SLACK_MS + meter.stop();
    await delay(150);
    const { path } = await device.agent.status();
    const roundTripMs = Math.max(2 * ONE_WAY_MS, path!.rttMs);
    const heardMs = usableMs + roundTripMs + slackMs;
    const before = await traffic.measure(device.name, { fromMs, toMs: cutMs - roundTripMs });
    const during = await traffic.measure(device.name, { fromMs: cutMs - roundTripMs, toMs: heardMs });
    const after = await traffic.measure(device.name, { fromMs: heardMs, toMs });
    const resumedMs = during.down.gapEndedMs - usableMs;
    console.info(
      `${device.name} ${from} → ${to}: downlink back ${Math.round(resumedMs)} ms after the link, uplink ${Math.round(during.up.gapEndedMs - usableMs)} ms, round trip ${Math.round(roundTripMs)} ms, slack ${Math.round(slackMs)} ms`,
    );
    for (const [when, { up, down }] of Object.entries({ before, after })) {
      expect(up, when).toMatchObject({ lost: 0, duplicated: 0 });
      expect(down, when).toMatchObject({ lost: 0, duplicated: 0 });
      expect(down.received, when).toBeGreaterThan(0);
    }
    expect(resumedMs).toBeLessThan(2 * roundTripMs + slackMs);
  }

  /** Half a second's worth of lines comes back from now on. */
  async function talks(client: LabProcess): Promise<void> {
    const echoed = () => (client.output().match(/^echoed/gm) ?? []).length;
    const before = echoed();
    await eventually('talking', echoed, (now) => now >= before + 50, 10_000);
  }
});
