import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Capture, startCapture } from '../../infra/lab/capture.ts';
import { startTraffic, type Traffic } from '../../infra/lab/traffic.ts';
import { packed } from '../../src/registry/records.ts';
import { monotonicMs } from '../../src/telemetry/clock.ts';
import { DATA, TUNNEL_PORT } from '../../src/tunnel/wire.ts';
import { eventually } from './fixture/eventually.ts';
import { flowWithPeer } from './fixture/flow.ts';
import { type Harbour, type MooredDevice, POOLS, startHarbour } from './fixture/harbour.ts';
import { type Injector, startInjector } from './fixture/injector.ts';
import {
  associate,
  BEHIND,
  deviceEnd,
  type IpsecEnd,
  type IpsecEnds,
  peerEnd,
} from './fixture/ipsec-ends.ts';
import { missing } from './fixture/requirements.ts';
import { registryHash, sessionOf } from './fixture/session-roots.ts';
import { type TunnelDatagram, tunnelDatagrams } from './fixture/tunnel-trace.ts';
import type { UdpEnd, UdpSocket } from './fixture/udp-post.ts';

const ENDPOINT = { address: POOLS.shared.endpoint, port: TUNNEL_PORT };
const IPV4_HEADER = 20;

describe.skipIf(missing('attacks with captured datagrams', 'scapy', 'uml'))(
  'a captured uplink datagram',
  () => {
    let harbour: Harbour;
    /** ESP by a kernel behind her. */
    let alice: MooredDevice;
    /** Plain UDP by programs on it. */
    let bob: MooredDevice;
    let mallory: MooredDevice;
    let ends: IpsecEnds;
    /** On the public segment, behind every access network. */
    let injector: Injector;
    /** Datagrams as they leave the device, whatever becomes of them. */
    let leaving: Readonly<Record<'alice' | 'bob', Capture>>;

    beforeAll(async () => {
      let aliceEnd: IpsecEnd | undefined;
      let peerKernelEnd: IpsecEnd | undefined;
      harbour = await startHarbour({
        name: 'captured',
        relays: ['r1'],
        devices: [
          {
            name: 'alice',
            pool: 'shared',
            kind: 'rsipsec',
            links: { wifi0: 'home' },
            agent: { behind: BEHIND },
            async prepare(lab, device, net) {
              [aliceEnd, peerKernelEnd] = await Promise.all([deviceEnd(lab, device), peerEnd(lab, net)]);
            },
          },
          { name: 'bob', pool: 'shared', kind: 'rsap-ip' },
          { name: 'mallory', pool: 'shared', kind: 'rsap-ip', links: { wifi0: 'home' } },
        ],
      });
      const { lab, net, devices } = harbour;
      [alice, bob, mallory] = [devices.alice!, devices.bob!, devices.mallory!];
      const capture = (device: MooredDevice) =>
        startCapture(lab, {
          namespace: device.namespace,
          interface: 'wifi0',
          name: `leaving-${device.name}`,
          filter: `udp dst port ${TUNNEL_PORT}`,
        });
      const [associated, started, aliceCapture, bobCapture] = await Promise.all([
        associate(alice, aliceEnd!, peerKernelEnd!),
        startInjector(lab, net.namespace),
        capture(alice),
        capture(bob),
      ]);
      ends = associated;
      injector = started;
      leaving = { alice: aliceCapture, bob: bobCapture };
    });
    afterAll(() => harbour?.close());

    const observed = async (device: MooredDevice): Promise<UdpEnd> => {
      const { path } = await device.agent.status();
      const [address, port] = path!.observed!.split('|');
      return { address: address!, port: Number(port) };
    };
    const silence = (device: MooredDevice, dead: boolean) =>
      Promise.all(Object.values(device.links).map((link) => link.shape({ dead })));
    const data = (capture: Capture, kind: 'data' | 'data-full') =>
      tunnelDatagrams(capture.frames()).filter((datagram) => datagram.class === kind);

    /** What leaves `device` while `send` runs and nothing of it reaches the relay; then the link works again after `attack`. */
    async function intercept(
      device: 'alice' | 'bob',
      kind: 'data' | 'data-full',
      count: number,
      send: () => Promise<void>,
      attack: (caught: readonly TunnelDatagram[], from: UdpEnd) => Promise<void>,
    ): Promise<void> {
      const from = await observed(harbour.devices[device]!);
      const before = data(leaving[device], kind).length;
      await silence(harbour.devices[device]!, true);
      try {
        await send();
        const caught = await eventually(
          `${count} datagrams leaving ${device}`,
          () => data(leaving[device], kind).slice(before),
          (seen) => seen.length >= count,
        );
        await attack(caught.slice(0, count), from);
      } finally {
        await silence(harbour.devices[device]!, false);
      }
    }

    const altered = (octets: Uint8Array, at: number): Buffer => {
      const copy = Buffer.from(octets);
      copy[at < 0 ? copy.length + at : at]! ^= 0x01;
      return copy;
    };
    const refusals = (uplink: Readonly<Record<string, number>>) =>
      ['bad-tag', 'bad-inner', 'class-mismatch', 'bad-header', 'unknown-phase', 'too-short', 'replayed']
        .map((reason) => uplink[reason] ?? 0)
        .reduce((sum, count) => sum + count, 0);

    it('of plain UDP is refused when any octet of it was altered, and passes unaltered', async () => {
      const [peer, socket] = await Promise.all([harbour.peer.udp(7_000), bob.udp()]);
      const text = 'pay 10 crowns to carol';
      await intercept(
        'bob',
        'data-full',
        1,
        () => socket.send(peer, text),
        async ([caught], from) => {
          const { octets } = caught!;
          expect(octets.toString('latin1')).toContain(text);
          const payloadAt = octets.indexOf(text);
          const forgeries = [
            // The sum and the payee; then every octet of the inner packet, then longer and shorter ones.
            Buffer.from(octets.toString('latin1').replace('10 crowns', '90 crowns'), 'latin1'),
            Buffer.from(octets.toString('latin1').replace('carol', 'mallo'), 'latin1'),
            ...Array.from({ length: octets.length - DATA.inner }, (_, i) => altered(octets, DATA.inner + i)),
            ...Array.from({ length: 8 }, (_, i) => altered(octets, DATA.tag + i)),
            Buffer.concat([octets, Buffer.from('!')]),
            octets.subarray(0, -1),
          ];
          const before = (await harbour.packets()).uplink;
          await injector.spoof(from, ENDPOINT, forgeries);
          const after = await eventually(
            'all refused',
            async () => (await harbour.packets()).uplink,
            (uplink) => refusals(uplink) >= refusals(before) + forgeries.length,
          );
          const inPayload = 2 + (octets.length - payloadAt);
          expect((after['bad-tag'] ?? 0) - (before['bad-tag'] ?? 0)).toBeGreaterThanOrEqual(inPayload);
          expect(after.forwarded).toBe(before.forwarded);
          expect(await peer.received()).toEqual([]);

          await injector.spoof(from, ENDPOINT, [octets]);
          const [arrived] = await peer.until((all) => all.length > 0, 'the unaltered datagram');
          expect(arrived!.payload.toString()).toBe(text);
        },
      );
      await socket.send(peer, 'bob goes on');
      await peer.until((all) => all.some(({ payload }) => payload.toString() === 'bob goes on'), 'bob');
      expect(await peer.received()).toHaveLength(2);
    });

    it('of ESP is refused by the relay when its first octets were altered, by the peer kernel when later ones were', async () => {
      const [app, peerApp] = await Promise.all([
        (await harbour.post(ends.device.namespace)).open(ends.device.address, 7_001),
        (await harbour.post(ends.peer.namespace)).open(ends.peer.address, 7_002),
      ]);
      const before = await ends.atPeer();
      const send = (text: string) => () => app.send(peerApp, `${text} one`, `${text} two`, `${text} three`);
      await intercept('alice', 'data', 3, send('from alice'), async ([first, second, third], from) => {
        const packets = (await harbour.packets()).uplink;
        const tagged = DATA.inner + IPV4_HEADER + 16;
        // Refused by the relay: inner header (but for the fields by which it knows the packet's form), SPI, sequence, IV.
        const heads = Array.from({ length: tagged - DATA.inner }, (_, i) =>
          altered(first!.octets, DATA.inner + i),
        );
        await injector.spoof(from, ENDPOINT, heads);
        const refused = await eventually(
          'all heads refused',
          async () => (await harbour.packets()).uplink,
          (uplink) => refusals(uplink) >= refusals(packets) + heads.length,
        );
        expect((refused['bad-tag'] ?? 0) - (packets['bad-tag'] ?? 0)).toBeGreaterThanOrEqual(16);
        expect(refused.forwarded).toBe(packets.forwarded);
        expect(await ends.atPeer()).toMatchObject({ packets: before.packets, refused: before.refused });

        // Past the relay, whose tag ends there; refused by the peer's kernel: ciphertext, and the integrity value itself.
        await injector.spoof(from, ENDPOINT, [altered(first!.octets, tagged), altered(second!.octets, -1)]);
        const after = await eventually(
          'two integrity failures in the peer kernel',
          () => ends.atPeer(),
          (association) => association.refused.integrity >= before.refused.integrity + 2,
        );
        expect(after.packets).toBe(before.packets);
        expect((await harbour.packets()).uplink.forwarded).toBe((packets.forwarded ?? 0) + 2);
        expect(await peerApp.received()).toEqual([]);

        await injector.spoof(from, ENDPOINT, [third!.octets]);
        const [arrived] = await peerApp.until((all) => all.length > 0, 'the unaltered packet');
        expect(arrived!.payload.toString()).toBe('from alice three');
      });
      await app.send(peerApp, 'alice goes on');
      await peerApp.until(
        (all) => all.some(({ payload }) => payload.toString() === 'alice goes on'),
        'alice',
      );
      const last = await ends.atPeer();
      expect(last.packets).toBe(before.packets + 2);
      expect(last.refused).toEqual({ ...before.refused, integrity: before.refused.integrity + 2 });
    });

    describe('sent again', () => {
      let traffic: Traffic;
      /** Everything that bob ever sent, with older incarnations and other paths. */
      let sent: readonly TunnelDatagram[];
      let fromMallory: UdpSocket;

      beforeAll(async () => {
        const flow = flowWithPeer(harbour, 'bob', 7_009, { packetsPerSecond: 100, offset: 9 });
        traffic = await startTraffic(harbour.lab, [flow]);
        await traffic.start();
        const on = (link: string) => bob.agent.until(({ path }) => path?.link === link, `on ${link}`);
        for (const link of ['cell0', 'wifi0', 'cell0']) {
          await bob.agent.use(link);
          await on(link);
        }
        await bob.agent.crash();
        await bob.agent.restart();
        await on('wifi0');
        await bob.agent.use('cell0');
        await on('cell0');
        await bob.agent.use('wifi0');
        await on('wifi0');
        const { index } = await sessionOf(harbour, 'bob');
        sent = tunnelDatagrams(harbour.wire.r1!.frames()).filter(
          (datagram) => datagram.direction === 'to-relay' && datagram.index === index,
        );
        fromMallory = await (await harbour.post(mallory.namespace)).open('0.0.0.0', 0);
      });

      /** Replays from mallory's own address, as it was sent, from where bob is now and from an address of nobody. */
      async function replay(datagrams: readonly TunnelDatagram[]): Promise<void> {
        const now = await observed(bob);
        const end = (remote: string): UdpEnd => {
          const [address, port] = remote.split('|');
          return { address: address!, port: Number(port) };
        };
        const all = datagrams.map(({ octets }) => octets);
        await fromMallory.send(ENDPOINT, ...all);
        for (const remote of new Set(datagrams.map((datagram) => datagram.remote))) {
          const there = datagrams.filter((datagram) => datagram.remote === remote);
          await injector.spoof(
            end(remote),
            ENDPOINT,
            there.map(({ octets }) => octets),
          );
        }
        await injector.spoof(now, ENDPOINT, all);
        await injector.spoof({ address: '198.51.100.77', port: 4_711 }, ENDPOINT, all);
      }

      /** What stands while `attack` runs, and a second of traffic with it. */
      async function changesNothing(attack: () => Promise<void>): Promise<void> {
        const { index } = await sessionOf(harbour, 'bob');
        const path = (await bob.agent.status()).path!;
        const hint = async () =>
          (await registryHash(harbour, POOLS.shared.anchor, 'hints')).filter((text) =>
            text.startsWith(packed(bob.lease.session)),
          );
        const hintBefore = await hint();
        const fromMs = monotonicMs();
        const wireBefore = harbour.wire.r1!.frames().length;
        await attack();
        const attackedMs = monotonicMs();
        await eventually(
          'a second later',
          () => monotonicMs() - attackedMs,
          (passedMs) => passedMs > 1_000,
        );
        const toMs = monotonicMs();
        await eventually(
          'in the probes',
          () => monotonicMs() - toMs,
          (passedMs) => passedMs > 300,
        );

        const { up, down } = await traffic.measure('bob', { fromMs, toMs });
        expect({ up: up.duplicated, down: down.duplicated }).toEqual({ up: 0, down: 0 });
        expect({ up: up.lost, down: down.lost }).toEqual({ up: 0, down: 0 });
        expect(up.sent).toBeGreaterThan(80);
        expect((await bob.agent.status()).path).toEqual({ ...path, rttMs: expect.any(Number) });
        expect(await hint()).toEqual(hintBefore);

        const during = tunnelDatagrams(harbour.wire.r1!.frames().slice(wireBefore)).filter(
          (datagram) => datagram.index === index,
        );
        const downlink = during.filter(
          ({ direction, class: kind }) => direction === 'to-device' && kind !== 'control',
        );
        expect(new Set(downlink.map(({ remote }) => remote))).toEqual(new Set([path.observed]));
        // To every other address at most as much went as came from it.
        const octets = (direction: string, remote: string) =>
          during
            .filter((datagram) => datagram.direction === direction && datagram.remote === remote)
            .reduce((sum, datagram) => sum + datagram.octets.length, 0);
        for (const remote of new Set(during.map((datagram) => datagram.remote))) {
          if (remote === path.observed) continue;
          expect(octets('to-device', remote), remote).toBeLessThanOrEqual(octets('to-relay', remote));
        }
      }

      it('for the first time, as a BIND that never arrived, brings the address that sends it nothing', async () => {
        const before = await bob.agent.status();
        const { index } = await sessionOf(harbour, 'bob');
        const cellular = await startCapture(harbour.lab, {
          namespace: bob.namespace,
          interface: 'cell0',
          name: 'leaving-bob-cell0',
          filter: `udp dst port ${TUNNEL_PORT}`,
        });
        const wireBefore = harbour.wire.r1!.frames().length;
        await bob.links.cell0!.shape({ dead: true });
        bob.agent.use('cell0').catch(() => {});
        const binds = await eventually(
          'a BIND leaving bob',
          () => tunnelDatagrams(cellular.frames()).filter(({ class: kind }) => kind === 'control'),
          (seen) => seen.length >= 2,
        );
        const here = await (await harbour.post(mallory.namespace)).open('0.0.0.0', 0);
        await here.send(ENDPOINT, ...binds.map(({ octets }) => octets));
        // The relay asks who is there; all that mallory can do is to send the question back.
        const questions = await here.until((all) => all.length > 0, 'a challenge');
        await here.send(ENDPOINT, ...questions.map(({ payload }) => payload));
        const askedMs = monotonicMs();
        await eventually(
          'a second and a half later',
          () => monotonicMs() - askedMs,
          (passed) => passed > 1_500,
        );

        const during = tunnelDatagrams(harbour.wire.r1!.frames().slice(wireBefore)).filter(
          (datagram) => datagram.index === index && datagram.direction === 'to-device',
        );
        const data = during.filter(({ class: kind }) => kind !== 'control');
        expect(data.length).toBeGreaterThan(50);
        expect(new Set(data.map(({ remote }) => remote))).toEqual(new Set([before.path!.observed]));
        expect((await here.received()).length).toBeLessThanOrEqual(binds.length);

        await bob.links.cell0!.shape({ dead: false });
        await bob.agent.use('wifi0');
        await bob.agent.until(({ path }) => path?.link === 'wifi0', 'on wifi0');
        await cellular.stop();
      });

      it('as DATA from the same, another or a forged address changes nothing', async () => {
        const latest = sent.filter(({ class: kind }) => kind !== 'control').slice(-100);
        expect(latest.length).toBeGreaterThanOrEqual(40);
        const before = (await harbour.packets()).uplink;
        await changesNothing(() => replay(latest));
        const after = (await harbour.packets()).uplink;
        const replayed = (after.replayed ?? 0) - (before.replayed ?? 0);
        // Four times each; a capture's last datagrams may still have been on their way to the relay.
        expect(replayed).toBeGreaterThanOrEqual(4 * latest.length);
      });

      it('as BIND, PROOF or any CONTROL, of this or an older incarnation, changes nothing', async () => {
        const control = sent.filter(({ class: kind }) => kind === 'control');
        const boots = new Set(control.map(({ octets }) => octets.readBigUInt64BE(4)));
        expect(boots.size).toBeGreaterThanOrEqual(2);
        expect(new Set(control.map(({ remote }) => remote)).size).toBeGreaterThanOrEqual(3);
        const before = (await harbour.packets()).control;
        await changesNothing(() => replay(control));
        const after = (await harbour.packets()).control;
        expect((after.replayed ?? 0) - (before.replayed ?? 0)).toBeGreaterThan(0);
      });
    });
  },
);
