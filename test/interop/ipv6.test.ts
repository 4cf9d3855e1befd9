import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../e2e/fixture/eventually.ts';
import { type Harbour, type MooredDevice, startHarbour } from '../e2e/fixture/harbour.ts';
import { missing } from '../e2e/fixture/requirements.ts';
import { ENGINES, relaySettings, switchEngine } from './fixture/engines.ts';
import { deviceNames, FAMILY_PAIRS, type FamilyPair, familyPools, poolName } from './fixture/families.ts';
import {
  type AssociationPlan,
  type AssociationReport,
  type FarEnd,
  freshKeys,
  mirrored,
  named,
  startFarEnd,
  TRANSFORMS,
  withoutHop,
} from './fixture/far-end.ts';
import { addFarHost, FAR_HOST } from './fixture/far-host.ts';
import { type End, type Prober, startProber, type TraceStyle } from './fixture/prober.ts';

/** Larger than the least of IPv6, so that a link behind the relay can be smaller. */
const INNER_MTU = 1400;
const SMALL_BEHIND = 1300;
const ECHO = 9_000;
const TCP = 9_001;
const PACKETS = 8;
const INTERVAL_MS = 100;
/** Raw ESP and AH, transport and tunnel mode: what IPv6 knows without NAT. */
const CHOSEN = TRANSFORMS.filter(
  ({ udp, mode, algorithm }) => !udp && !(mode === 'tunnel' && algorithm === 'aes-gcm'),
);

describe.skipIf(missing('IPv6 inside and outside of tunnels', 'scapy'))('IPv6', () => {
  let harbour: Harbour;
  const probers = new Map<string, Prober>();
  const farEnds = new Map<string, FarEnd>();
  const at = (name: string) => probers.get(name)!;
  const peerAddress = ({ inner }: FamilyPair) =>
    inner === 4 ? harbour.peer.address : harbour.peer.address6!;
  const farAddress = ({ inner }: FamilyPair) => FAR_HOST[`v${inner}`];
  const everyone = FAMILY_PAIRS.flatMap((pair) => {
    const { shared, whole } = deviceNames(pair);
    return [...shared, whole].map(
      (name) => ({ name, pair, sharing: name === whole ? 'whole' : 'shared' }) as const,
    );
  });

  beforeAll(async () => {
    let far = '';
    harbour = await startHarbour({
      name: 'ipv6',
      allInOne: true,
      ipv6: true,
      pools: familyPools(),
      relaySettings: { innerMtu: INNER_MTU, ...relaySettings(ENGINES[0]) },
      networks: { home: 'plain', cellular: 'nat-symmetric' },
      devices: everyone.map(({ name, pair, sharing }) => ({
        name,
        pool: poolName(pair, sharing),
        kind: sharing === 'whole' ? 'rsa-ip' : 'rsipsec',
      })),
      async prepare(lab, net) {
        far = await addFarHost(lab, net, SMALL_BEHIND, true);
      },
    });
    const { lab, peer, devices } = harbour;
    const places = [
      ['peer', peer.namespace],
      ['far', far],
    ] as const;
    await Promise.all(
      [...places, ...Object.values(devices).map(({ name, namespace }) => [name, namespace] as const)].map(
        async ([name, namespace]) => probers.set(name, await startProber(lab, namespace)),
      ),
    );
    for (const { address, address6 } of [peer]) {
      for (const one of [address, address6!]) {
        await at('peer').echo([one, ECHO]);
        await at('peer').serve([one, TCP]);
      }
    }
    for (const address of Object.values(FAR_HOST)) {
      await at('far').echo([address, ECHO]);
      await at('far').serve([address, TCP]);
    }
    for (const device of Object.values(devices)) {
      await at(device.name).echo(end(device, 1));
      await at(device.name).serve(end(device, 2));
      await at(device.name).watch(device.lease.address);
    }
    await Promise.all([
      startFarEnd(lab, peer.namespace, peer.interface).then((one) => farEnds.set('peer', one)),
      ...Object.values(devices).map(async ({ name, namespace }) =>
        farEnds.set(name, await startFarEnd(lab, namespace, 'mooring')),
      ),
    ]);
  }, 120_000);
  afterAll(() => harbour?.close());

  describe.each(ENGINES)('through the %s engine', (engine) => {
    beforeAll(() => switchEngine(harbour, engine));

    describe.each(FAMILY_PAIRS)('$name', (pair) => {
      const { shared, whole } = deviceNames(pair);
      const device = (name: string) => harbour.devices[name]!;

      it(`R37: runs where it says it does (${engine})`, () => {
        for (const name of [...shared, whole]) {
          expect(device(name).lease.address.includes(':')).toBe(pair.inner === 6);
          for (const endpoint of device(name).tunnel.endpoints)
            expect(endpoint.includes(':')).toBe(pair.outer === 6);
        }
        expect(device(shared[0]).lease.address).toBe(device(shared[1]).lease.address);
      });

      it(`R37, R48: has every ESP and AH packet verified at either end while devices move, octet for octet (${engine})`, async () => {
        for (const [key, { device: here, peer: there }] of await exchange(pair)) {
          expect([here.refused[0], there.refused[0]], key).toEqual([undefined, undefined]);
          expect(there.opened.length, key).toBe(PACKETS);
          expect(here.opened.length, key).toBe(PACKETS);
          const crossed = (packets: readonly string[]) => packets.map(withoutHop).sort();
          expect(crossed(there.received), key).toEqual(crossed(here.sent));
          expect(crossed(here.received), key).toEqual(crossed(there.sent));
        }
      });

      it.each([shared[0], whole])(
        `R41: teaches the MTU of a smaller link behind the relay, and that of the tunnel (%s, ${engine})`,
        async (name) => {
          const one = device(name);
          const toFar: End = [farAddress(pair), ECHO];
          expect(await at(name).discover(end(one, 3), toFar, INNER_MTU)).toBe(SMALL_BEHIND);
          expect(await at(name).ask(end(one, 3), toFar, SMALL_BEHIND, true)).toBe(true);
          expect(await at('peer').discover([peerAddress(pair), 0], end(one, 1), 1_500)).toBe(INNER_MTU);
          expect(await at('peer').ask([peerAddress(pair), 0], end(one, 1), INNER_MTU, true)).toBe(true);
          expect(await at(name).transfer(end(one, 4), [farAddress(pair), TCP], 100_000)).toMatchObject({
            octets: 100_000,
            mtu: SMALL_BEHIND,
          });
        },
      );

      it.each([shared[0], whole])(`R39: brings fragments both ways (%s, ${engine})`, async (name) => {
        expect(await at('peer').ask([peerAddress(pair), 0], end(device(name), 1), 4_000, false)).toBe(true);
        expect(await at(name).ask(end(device(name), 3), [peerAddress(pair), ECHO], 4_000, false)).toBe(true);
      });

      it.each<TraceStyle>(['udp', 'icmp', 'tcp'])(
        `R42: shows the way hop by hop, out and in (%s, ${engine})`,
        async (style) => {
          for (const name of [shared[0], whole]) {
            const port = style === 'tcp' ? TCP : 33_434;
            const out = await at(name).trace(style, end(device(name), 10), [farAddress(pair), port]);
            expect(out.map((hop) => hop?.[1])).toEqual(['hop', 'hop', 'hop', 'target']);
            const target = end(device(name), style === 'tcp' ? 2 : 20);
            const into = await at('far').trace(style, [farAddress(pair), 40_000], target);
            expect(into.map((hop) => hop?.[1])).toEqual(['hop', 'hop', 'target']);
            expect(into[2]![0]).toBe(device(name).lease.address);
          }
        },
      );

      it(`R42: brings errors to the device on a shared address that they are about (${engine})`, async () => {
        const before = await Promise.all(shared.map((name) => at(name).watched()));
        for (const name of shared) {
          expect(await at(name).refused(end(device(name), 30), [peerAddress(pair), 7])).toBe('ECONNREFUSED');
        }
        for (const [i, name] of shared.entries()) {
          const port = device(name).port(30).toString(16).padStart(4, '0');
          await eventually(
            `told ${name} about its own`,
            // About a datagram to that port: what a traceroute was told last may still come.
            async () =>
              (await at(name).watched())
                .slice(before[i]!.length)
                .filter(([, , protocol, quote]) => protocol === 17 && quote.slice(4, 8) === '0007'),
            (fresh) => fresh.length === 1 && fresh[0]![3].startsWith(port),
          );
        }
      });

      it(`R43: answers pings out with the same identifier towards different hosts, and pings in (${engine})`, async () => {
        const [a, b] = shared;
        const id = 0x5200 + ENGINES.indexOf(engine);
        expect(await at(a).ping(device(a).lease.address, peerAddress(pair), id, 2)).toBe(2);
        expect(await at(b).ping(device(b).lease.address, farAddress(pair), id, 2)).toBe(2);
        expect(await at(b).ping(device(b).lease.address, peerAddress(pair), id, 1, 400)).toBe(0);
        for (const name of [a, whole]) {
          expect(await at('peer').ping(peerAddress(pair), device(name).lease.address, 0x79, 2)).toBe(2);
        }
      });
    });

    /** Every chosen transform of every device of a pair with the peer at once, and a move of each device meanwhile. */
    async function exchange(pair: FamilyPair) {
      const peerEnd = farEnds.get('peer')!;
      const { shared, whole } = deviceNames(pair);
      const running: { key: string; name: string }[] = [];
      for (const [i, name] of [...shared, whole].entries()) {
        for (const [k, transform] of CHOSEN.entries()) {
          const { lease, port } = harbour.devices[name]!;
          const tunnel = transform.mode === 'tunnel';
          const plan: AssociationPlan = {
            ...transform,
            ...freshKeys(),
            here: lease.address,
            there: peerAddress(pair),
            innerHere: tunnel ? `10.50.${i + 1}.2` : lease.address,
            innerThere: tunnel ? '10.60.0.2' : peerAddress(pair),
            portHere: port(100 + k),
            portThere: 8_000 + k,
            spiIn: (lease.spis?.first ?? 0x1000_0000) + k,
            spiOut: 0xc000_0000 + 256 * i + k,
          };
          const key = `${name}: ${named(transform)}`;
          await Promise.all([
            farEnds.get(name)!.associate(key, plan),
            peerEnd.associate(key, mirrored(plan)),
          ]);
          running.push({ key, name });
        }
      }
      await Promise.all(running.map(({ key, name }) => farEnds.get(name)!.run(key, PACKETS, INTERVAL_MS)));
      for (const link of ['cell0', 'wifi0']) {
        await delay((PACKETS * INTERVAL_MS) / 3);
        await Promise.all([...shared, whole].map((name) => harbour.devices[name]!.agent.use(link)));
      }
      const seen = new Map<string, { device: AssociationReport; peer: AssociationReport }>();
      for (const { key, name } of running) {
        const far = farEnds.get(name)!;
        const settled = ({ opened, refused }: AssociationReport) => opened.length + refused.length >= PACKETS;
        await eventually(`all answered (${key})`, () => far.report(key), settled, 5_000).catch(() => {});
        seen.set(key, { device: await far.report(key), peer: await peerEnd.report(key) });
      }
      return seen;
    }
  });
});

/** The leased address and a leased port of a device. */
function end(device: MooredDevice, offset: number): End {
  return [device.lease.address, device.port(offset)];
}
