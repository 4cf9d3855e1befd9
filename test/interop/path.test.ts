import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { LAN } from '../../infra/lab/access-network.ts';
import { PUBLIC_ROUTER } from '../../infra/lab/topology.ts';
import { eventually } from '../e2e/fixture/eventually.ts';
import {
  type Harbour,
  type MooredDevice,
  PEER_ADDRESS,
  POOLS,
  startHarbour,
} from '../e2e/fixture/harbour.ts';
import { missing } from '../e2e/fixture/requirements.ts';
import { ENGINES, relaySettings, switchEngine } from './fixture/engines.ts';
import { addFarHost, FAR_HOST, FAR_ROUTER } from './fixture/far-host.ts';
import {
  type End,
  type Hop,
  type IcmpError,
  type Prober,
  startProber,
  type TraceStyle,
} from './fixture/prober.ts';

const INNER_MTU = 1280;
/** Of the link behind the relay, and of the access link in front of it. */
const SMALL_BEHIND = 1100;
const SMALL_IN_FRONT = 1200;
const ECHO = 9_000;
const TCP = 9_001;
/** Addresses that the relay's host may speak from. */
const RELAY = ['198.51.100.11', POOLS.shared.endpoint, POOLS.whole.endpoint];
const TCP_OCTETS = 200_000;

describe.skipIf(missing('the path through a relay'))('the path through a relay', () => {
  let harbour: Harbour;
  let at: Record<'alice' | 'bob' | 'carol' | 'peer' | 'far', Prober>;
  let alice: MooredDevice;
  let bob: MooredDevice;
  let carol: MooredDevice;
  const on = (device: MooredDevice) => at[device.name as 'alice' | 'bob' | 'carol'];
  const end = (device: MooredDevice, offset: number): End => [device.lease.address, device.port(offset)];

  beforeAll(async () => {
    let far = '';
    harbour = await startHarbour({
      name: 'path',
      allInOne: true,
      relaySettings: relaySettings(ENGINES[0]),
      networks: { home: 'nat-preserving', small: 'plain' },
      devices: (['alice', 'bob', 'carol'] as const).map((name) => ({
        name,
        ...(name === 'carol'
          ? ({ pool: 'whole', kind: 'rsa-ip' } as const)
          : ({ pool: 'shared', kind: 'rsipsec' } as const)),
        links: { wifi0: 'home', small0: 'small' },
        linkMtu: { small0: SMALL_IN_FRONT },
      })),
      async prepare(lab, net) {
        far = await addFarHost(lab, net, SMALL_BEHIND);
      },
    });
    const { lab, peer, networks, devices } = harbour;
    ({ alice, bob, carol } = devices as Record<string, MooredDevice> as Record<
      'alice' | 'bob' | 'carol',
      MooredDevice
    >);
    await lab.ip(networks.small!.namespace, [`link set ${LAN} mtu ${SMALL_IN_FRONT}`]);
    const namespaces = [alice.namespace, bob.namespace, carol.namespace, peer.namespace, far];
    const [a, b, c, p, f] = await Promise.all(namespaces.map((namespace) => startProber(lab, namespace)));
    at = { alice: a!, bob: b!, carol: c!, peer: p!, far: f! };
    for (const device of [alice, bob, carol]) {
      await on(device).echo(end(device, 1));
      await on(device).serve(end(device, 2));
      await on(device).watch(device.lease.address);
    }
    for (const [name, address] of [
      ['peer', PEER_ADDRESS],
      ['far', FAR_HOST.v4],
    ] as const) {
      await at[name].echo([address, ECHO]);
      await at[name].serve([address, TCP]);
    }
  }, 90_000);
  afterAll(() => harbour?.close());

  describe.each(ENGINES)('and its %s engine', (engine) => {
    beforeAll(() => switchEngine(harbour, engine));

    describe.each(['alice', 'carol'] as const)('of %s', (name) => {
      const device = () => harbour.devices[name]!;

      it(`R41: teaches a device the MTU of a smaller link behind the relay (${engine})`, async () => {
        expect(await on(device()).discover(end(device(), 3), [FAR_HOST.v4, ECHO], INNER_MTU)).toBe(
          SMALL_BEHIND,
        );
        expect(await on(device()).ask(end(device(), 3), [FAR_HOST.v4, ECHO], SMALL_BEHIND, true)).toBe(true);
      });

      it(`R41: teaches a peer the MTU of the tunnel (${engine})`, async () => {
        expect(await at.peer.discover([PEER_ADDRESS, 0], end(device(), 1), 1_500)).toBe(INNER_MTU);
        expect(await at.peer.ask([PEER_ADDRESS, 0], end(device(), 1), INNER_MTU, true)).toBe(true);
      });

      it(`R39, R41: brings what may be fragmented in fragments, both ways (${engine})`, async () => {
        expect(await at.peer.ask([PEER_ADDRESS, 0], end(device(), 1), 4_000, false)).toBe(true);
        expect(await at.far.ask([FAR_HOST.v4, 0], end(device(), 1), 4_000, false)).toBe(true);
        expect(await on(device()).ask(end(device(), 3), [FAR_HOST.v4, ECHO], 4_000, false)).toBe(true);
      });

      it(`R41: lets TCP find its size through the smaller link, from either side (${engine})`, async () => {
        const out = await on(device()).transfer(end(device(), 4), [FAR_HOST.v4, TCP], TCP_OCTETS);
        expect(out).toEqual({ octets: TCP_OCTETS, mtu: SMALL_BEHIND });
        const back = await at.peer.transfer([PEER_ADDRESS, 0], end(device(), 2), TCP_OCTETS);
        expect(back.octets).toBe(TCP_OCTETS);
      });

      it(`R41: carries packets of the full inner MTU over a smaller access link (${engine})`, async () => {
        const small = [device().namespace, harbour.networks.small!.namespace];
        const before = await Promise.all(small.map(fragmentsMade));
        await device().agent.use('small0');
        try {
          expect(await on(device()).ask(end(device(), 3), [PEER_ADDRESS, ECHO], INNER_MTU, true)).toBe(true);
          expect(await at.peer.ask([PEER_ADDRESS, 0], end(device(), 1), INNER_MTU, true)).toBe(true);
          const out = await on(device()).transfer(end(device(), 5), [PEER_ADDRESS, TCP], TCP_OCTETS);
          expect(out).toEqual({ octets: TCP_OCTETS, mtu: INNER_MTU });
        } finally {
          await device().agent.use('wifi0');
        }
        // The outer packets were cut, by the device and by the access network's router: the inner ones never.
        const after = await Promise.all(small.map(fragmentsMade));
        for (const i of [0, 1]) expect(after[i]).toBeGreaterThan(before[i]!);
      });

      it.each<TraceStyle>(['udp', 'icmp', 'tcp'])(
        `R42: shows a device its way out hop by hop (%s, ${engine})`,
        async (style) => {
          const target: End = [FAR_HOST.v4, style === 'tcp' ? TCP : 33_434];
          const path = await on(device()).trace(style, end(device(), 10), target);
          expect(path).toHaveLength(4);
          expect(RELAY).toContain(path[0]![0]);
          expect(path.slice(1)).toEqual([
            [PUBLIC_ROUTER, 'hop'],
            [FAR_ROUTER.v4, 'hop'],
            [FAR_HOST.v4, 'target'],
          ]);
        },
      );

      it.each<TraceStyle>(['udp', 'icmp', 'tcp'])(
        `R42: shows a far host its way in hop by hop (%s, ${engine})`,
        async (style) => {
          const { address } = device().lease;
          const target: End = style === 'tcp' ? end(device(), 2) : end(device(), 20);
          const path = await at.far.trace(style, [FAR_HOST.v4, 40_000], target);
          expect(path.map((hop: Hop) => hop?.[1])).toEqual(['hop', 'hop', 'target']);
          expect(path[0]![0]).toBe('192.0.2.1');
          expect(RELAY).toContain(path[1]![0]);
          expect(path[2]![0]).toBe(address);
        },
      );
    });

    it(`R42: brings errors about UDP to the device on a shared address that sent it (${engine})`, async () => {
      const before = await received();
      expect(await at.alice.refused(end(alice, 30), [PEER_ADDRESS, 7])).toBe('ECONNREFUSED');
      expect(await at.bob.refused(end(bob, 30), [PEER_ADDRESS, 7])).toBe('ECONNREFUSED');
      for (const name of ['alice', 'bob'] as const) {
        const port = harbour.devices[name]!.port(30).toString(16).padStart(4, '0');
        await eventually(
          `told ${name} about its own`,
          // About a datagram to that port: what a traceroute was told last may still come.
          async () =>
            (await received())[name]
              .slice(before[name].length)
              .filter(([, , protocol, quote]) => protocol === 17 && quote.slice(4, 8) === '0007'),
          (fresh) =>
            fresh.length === 1 && fresh[0]!.slice(0, 3).join() === '3,3,17' && fresh[0]![3].startsWith(port),
        );
      }
    });

    it(`R42: brings errors about ESP to the device that uses that SPI towards that peer (${engine})`, async () => {
      const before = await received();
      const spis = { alice: '0a0a0a0a', bob: '0b0b0b0b' };
      for (const name of ['alice', 'bob'] as const) {
        const { address } = harbour.devices[name]!.lease;
        let sent = 0;
        await eventually(
          `told about ${spis[name]}`,
          async () => {
            // The peer's kernel has no ESP: it says that it does not know the protocol, to one address ever more seldom.
            await at[name].raw(address, PEER_ADDRESS, 50, `${spis[name]}00000001${'00'.repeat(40)}`);
            sent += 1;
            await delay(200);
            return aboutEsp((await received())[name].slice(before[name].length));
          },
          (fresh) => fresh.length > 0,
        );
        if (sent > 1) console.info(`${engine}: ${name} was told of the ${sent}th packet only`);
      }
      const after = await received();
      for (const name of ['alice', 'bob'] as const) {
        for (const [type, , protocol, octets] of aboutEsp(after[name].slice(before[name].length))) {
          expect([type, protocol, octets.slice(0, 8)], name).toEqual([3, 50, spis[name]]);
        }
      }
    });

    it(`R43: answers pings of two devices with the same identifier to different hosts, and refuses the second to one host (${engine})`, async () => {
      const id = 0x4200 + ENGINES.indexOf(engine);
      expect(await at.alice.ping(alice.lease.address, PEER_ADDRESS, id, 3)).toBe(3);
      expect(await at.bob.ping(bob.lease.address, FAR_HOST.v4, id, 3)).toBe(3);
      expect(await at.bob.ping(bob.lease.address, PEER_ADDRESS, id, 1, 400)).toBe(0);
      expect(await at.alice.ping(alice.lease.address, PEER_ADDRESS, id, 1)).toBe(1);
      expect(await at.bob.ping(bob.lease.address, PEER_ADDRESS, id + 0x100, 3)).toBe(3);
    });

    it(`R43: answers pings from outside: of a shared address the relay, of a whole one its device (${engine})`, async () => {
      expect(await at.peer.ping(PEER_ADDRESS, alice.lease.address, 0x77, 3)).toBe(3);
      expect(await at.peer.ping(PEER_ADDRESS, carol.lease.address, 0x78, 3)).toBe(3);
    });
  });

  /** Fragments that a host's IPv4 has made so far. */
  async function fragmentsMade(namespace: string): Promise<number> {
    const { stdout } = await harbour.lab.run(namespace, ['cat', '/proc/net/snmp']);
    const [names, values] = stdout.split('\n').filter((line) => line.startsWith('Ip: '));
    return Number(values!.split(' ')[names!.split(' ').indexOf('FragCreates')]);
  }

  function aboutEsp(errors: readonly IcmpError[]): IcmpError[] {
    return errors.filter(([, , protocol]) => protocol === 50);
  }

  async function received() {
    return { alice: await at.alice.watched(), bob: await at.bob.watched() };
  }
});
