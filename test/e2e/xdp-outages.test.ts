import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileXdp } from '../../infra/build/xdp.ts';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { DATA } from '../../src/tunnel/wire.ts';
import { installCopy, replaceXdpObject } from './fixture/another-build.ts';
import { type Counter, countIngress, type Flood, linkDrops, startFlood } from './fixture/flood.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, POOLS, startHarbour } from './fixture/harbour.ts';
import { missing } from './fixture/requirements.ts';
import { restarted, type ServerStatus, serverStatus } from './fixture/server-process.ts';

const PACKETS_PER_SECOND = 130_000;
/** So long that no other packet of the test has its length. */
const FLOOD_OCTETS = 200;
const IPV4_UDP = 28;
/** From the moment the process serves again until a device that moved meanwhile is reached again, milliseconds. */
const RESUME_MS = 1_500;

describe.skipIf(missing('outages of an XDP relay', 'xdp'))(
  'while 100,000 packets a second pass through XDP',
  () => {
    let harbour: Harbour;
    let traffic: Traffic;
    let arrived: Counter;
    /** What reaches the peer of refusals: it is to notice nothing. */
    let refusals: Readonly<Record<string, Counter>>;

    beforeAll(async () => {
      harbour = await startHarbour({
        name: 'xdp-outages',
        relays: ['r1'],
        relaySettings: { engine: 'xdp', xdpSessions: 64 },
        relayProgram: installCopy,
        devices: [
          // Stays where it is.
          { name: 'still', pool: 'shared', kind: 'rsipsec', links: { wifi0: 'home' }, delayMs: 5 },
          // Goes to another network in every outage.
          { name: 'rover', pool: 'shared', kind: 'rsap-ip', delayMs: 5 },
        ],
      });
      const { lab, peer, networks } = harbour;
      traffic = await startTraffic(lab, [
        flowWithPeer(harbour, 'still', 7_001),
        flowWithPeer(harbour, 'rover', 7_002),
      ]);
      const length = IPV4_UDP + DATA.inner + IPV4_UDP + FLOOD_OCTETS;
      const flood = `ip saddr ${POOLS.shared.endpoint} udp sport 4556 ip length ${length}`;
      ({ flood: arrived } = (await countIngress(
        lab,
        networks.home!.namespace,
        'wan0',
        { flood },
        'drop',
      )) as { flood: Counter });
      // Not a capture: that would look at every packet of the flood.
      const kinds = { unreachable: 'icmp type destination-unreachable', reset: 'tcp flags rst' };
      refusals = await countIngress(lab, peer.namespace, peer.interface, kinds, 'accept');
      await traffic.start();
    }, 60_000);
    afterAll(() => harbour?.close());

    it('forwards in XDP, natively', async () => {
      const status = await serverStatus(harbour);
      expect(status.relay).toMatchObject({ engine: 'xdp', interfaces: [{ name: 'pub0', mode: 'native' }] });
    });

    it('kill -9 of the relay process loses nothing of a device that stays', async () => {
      await outage('kill -9', (pid) => process.kill(pid, 'SIGKILL'));
    });

    it('SIGSTOP of the relay process loses nothing of a device that stays', async () => {
      await outage('SIGSTOP', (pid) => process.kill(pid, 'SIGSTOP'));
    });

    it('an upgrade to a build with another layout of its maps loses nothing', async () => {
      replaceXdpObject(harbour.lab, compileXdp(['MOORING_NEXT_LAYOUT']));
      const after = await outage('upgrade', (_pid, supervisor) => process.kill(supervisor, 'SIGHUP'));
      expect(after.relay.notes.join()).toContain('layout 2');
    });

    it('was noticed by no peer: no reset and no unreachable came', async () => {
      for (const [kind, counter] of Object.entries(refusals)) expect(await counter.count(), kind).toBe(0);
      // The counters would have shown it: a port of an address that a host does answer for.
      const { lab, peer, fleet } = harbour;
      const attempt = ['timeout', '2', 'bash', '-c', `exec 3<>/dev/tcp/${fleet.core.address}/9`];
      await lab.run(peer.namespace, attempt).catch(() => undefined);
      expect(await refusals.reset!.count()).toBe(1);
    });

    // --- the steps -------------------------------------------------------------------------------------

    /** Ends the process under load while the rover moves, and judges what became of the packets. */
    async function outage(
      what: string,
      end: (pid: number, supervisor: number) => void,
    ): Promise<ServerStatus> {
      const { rover, still } = harbour.devices;
      await rover!.links.wifi0!.up();
      for (const device of [rover!, still!]) {
        await device.agent.until((status) => status.path?.link === 'wifi0', 'on wifi0', 10_000);
      }
      const before = await serverStatus(harbour);
      const [arrivedBefore, dropsBefore] = [await arrived.count(), await drops()];
      const fromMs = monotonicMs();
      const load = await startedFlood();
      await new Promise((resolve) => setTimeout(resolve, 500));
      const diedMs = monotonicMs();
      end(before.process.pid, before.process.supervisor);
      await rover!.links.wifi0!.cut();
      await restarted(harbour, before.process.restarts + 1, 30_000);
      const upMs = monotonicMs();
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      const { sent, seconds } = await load.stop();
      await new Promise((resolve) => setTimeout(resolve, 300));
      const toMs = monotonicMs() - 100;
      const got = (await arrived.count()) - arrivedBefore;
      const dropped = (await drops()) - dropsBefore;
      const [stay, move] = [
        await traffic.measure('still', { fromMs, toMs }),
        await traffic.measure('rover', { fromMs: diedMs, toMs }),
      ];
      const later = await serverStatus(harbour);
      console.info(
        [
          `${what}: ${Math.round(sent / seconds)} packets/s for ${seconds.toFixed(1)} s, ${sent} sent, ${got} arrived`,
          `${dropped} dropped between the lab's hosts`,
          `served again after ${Math.round(upMs - diedMs)} ms`,
          `the one that stayed lost ${stay.both.lost} of ${stay.both.sent}, was silent for ${Math.round(stay.both.gapMs)} ms`,
          `the one that moved was reached again ${Math.round(move.down.gapEndedMs - upMs)} ms after that, and heard with a gap of ${Math.round(move.up.gapMs)} ms`,
        ].join('; '),
      );
      expect(sent / seconds).toBeGreaterThan(100_000);
      // Exact: what did not arrive lies in full rings of the lab's own links, which are counted.
      expect(sent + stay.both.sent - got - stay.both.received - dropped, 'lost').toBeLessThanOrEqual(0);
      expect(stay.both.duplicated).toBe(0);
      if (dropped === 0) expect(stay.both.lost).toBe(0);
      expect(move.down.gapEndedMs - upMs).toBeLessThan(RESUME_MS);
      // Counters go on where they were; what is counted while an upgrade copies them may be missing.
      const counted = later.packets.downlink.forwarded! - before.packets.downlink.forwarded!;
      expect(counted).toBeGreaterThanOrEqual(what === 'upgrade' ? got * 0.9 : got);
      for (const { id, epoch } of before.anchors) {
        const now = later.anchors.find((anchor) => anchor.id === id);
        expect(BigInt(now!.epoch), id).toBe(BigInt(epoch) + 1n);
      }
      await rover!.agent.until((status) => status.path?.link === 'cell0', 'on the other network', 5_000);
      return later;
    }

    function startedFlood(): Promise<Flood> {
      const { lab, peer, devices } = harbour;
      const { lease, port } = devices.still!;
      return startFlood(lab, {
        from: { namespace: peer.namespace, address: peer.address, port: 7_900 },
        to: { address: lease.address, port: port(1) },
        payloadOctets: FLOOD_OCTETS,
        packetsPerSecond: PACKETS_PER_SECOND,
        mostSeconds: 20,
      });
    }

    async function drops(): Promise<number> {
      const { lab, net, peer, networks, fleet } = harbour;
      const places = [
        net.namespace,
        peer.namespace,
        networks.home!.namespace,
        fleet.relays.get('r1')!.host.namespace,
      ];
      let sum = 0;
      for (const place of places) sum += await linkDrops(lab, place, /^(pub0|wan0|br0|p\d+)$/);
      return sum;
    }
  },
);
