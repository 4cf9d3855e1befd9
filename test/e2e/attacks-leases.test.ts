import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Capture, startCapture } from '../../infra/lab/capture.ts';
import { TUNNEL_PORT } from '../../src/tunnel/wire.ts';
import { eventually } from './fixture/eventually.ts';
import { forgeControl, forgeData, latestKeys } from './fixture/forger.ts';
import { type Harbour, type MooredDevice, PEER_ADDRESS, POOLS, startHarbour } from './fixture/harbour.ts';
import { type Injector, startInjector } from './fixture/injector.ts';
import { missing } from './fixture/requirements.ts';
import { sessionOf } from './fixture/session-roots.ts';
import { tunnelDatagrams } from './fixture/tunnel-trace.ts';
import type { UdpSocket } from './fixture/udp-post.ts';

const TUN = 'mooring';
const ENDPOINT = { address: POOLS.shared.endpoint, port: TUNNEL_PORT };
/** In every packet of an attack: where it is seen, the attack got through. */
const STOLEN = 'STOLEN-GOODS-';

describe.skipIf(missing('attacks by a device with a lease', 'scapy'))(
  'a device with a lease of its own',
  () => {
    let harbour: Harbour;
    let alice: MooredDevice;
    let mallory: MooredDevice;
    let dora: MooredDevice;
    /** Root on mallory's machine. */
    let attacker: Injector;
    let peerCapture: Capture;
    let peerSocket: UdpSocket;
    let malloryHonest: UdpSocket;
    let aliceSocket: UdpSocket;
    let marks = 0;

    beforeAll(async () => {
      harbour = await startHarbour({
        name: 'leases',
        relays: ['r1'],
        devices: [
          { name: 'alice', pool: 'shared', kind: 'rsipsec', links: { wifi0: 'home' } },
          // Shares alice's address, without IPsec; and is in the same access network.
          { name: 'mallory', pool: 'shared', kind: 'rsap-ip', links: { wifi0: 'home' } },
          { name: 'dora', pool: 'whole', kind: 'rsa-ip', links: { wifi0: 'home' } },
        ],
      });
      alice = harbour.devices.alice!;
      mallory = harbour.devices.mallory!;
      dora = harbour.devices.dora!;
      [attacker, peerCapture] = await Promise.all([
        startInjector(harbour.lab, mallory.namespace),
        startCapture(harbour.lab, {
          namespace: harbour.peer.namespace,
          interface: harbour.peer.interface,
          name: 'peer',
          filter: 'ip',
        }),
      ]);
      [peerSocket, malloryHonest, aliceSocket] = await Promise.all([
        harbour.peer.udp(7_000),
        mallory.udp(),
        alice.udp(),
      ]);
    });
    afterAll(() => harbour?.close());

    const mark = () => `${STOLEN}${String(marks++).padStart(6, '0')}`;
    const counted = async (group: 'uplink' | 'downlink' | 'control', reason: string) =>
      (await harbour.packets())[group][reason] ?? 0;
    const stolenAtPeer = () => peerCapture.frames().filter(({ octets }) => octets.includes(STOLEN)).length;
    const path = async (device: MooredDevice) => (await device.agent.status()).path;

    /** A packet that mallory may send arrives: whatever was sent before it would have. */
    async function honestPacketArrives(): Promise<void> {
      const text = `honest ${mark().slice(STOLEN.length)}`;
      await malloryHonest.send(peerSocket, text);
      await peerSocket.until((all) => all.some(({ payload }) => payload.toString() === text), text);
      // The socket has it: so does the capture, once tcpdump has written it.
      await eventually(
        'in the capture',
        () => peerCapture.frames().some(({ octets }) => octets.includes(text)),
        Boolean,
      );
    }

    /**
     * Puts packets into mallory's TUN: they go the way of her own, and the relay drops all for `reason`, counted
     * `times` (default: once a packet).
     */
    async function refused(
      reason: string,
      notice: number,
      expression: string,
      times?: number,
    ): Promise<void> {
      const packets = await attacker.build(expression);
      const before = await counted('uplink', reason);
      const noticesBefore = (await mallory.agent.status()).counters[`notice-${notice}`] ?? 0;
      // Notices are limited to 2 a second: an attack that comes too early for one is repeated.
      await eventually(
        `told by notice ${notice}`,
        async () => {
          await attacker.throughInterface(TUN, packets);
          return (await mallory.agent.status()).counters[`notice-${notice}`] ?? 0;
        },
        (notices) => notices > noticesBefore,
      );
      await eventually(
        `counted as ${reason}`,
        () => counted('uplink', reason),
        (count) => count >= before + (times ?? packets.length),
      );
      await honestPacketArrives();
      expect(stolenAtPeer()).toBe(0);
    }

    /** The same for what no notice tells: `times` packets are counted under `reason`. */
    async function dropped(reason: string, times: number, expression: string): Promise<void> {
      const before = await counted('uplink', reason);
      await attacker.throughInterface(TUN, await attacker.build(expression));
      await eventually(
        `counted as ${reason}`,
        () => counted('uplink', reason),
        (count) => count >= before + times,
      );
      await honestPacketArrives();
      expect(stolenAtPeer()).toBe(0);
    }

    it('shares the address of another, as the tests below need', () => {
      expect(mallory.lease.address).toBe(alice.lease.address);
      expect(mallory.lease.ports!.first).not.toBe(alice.lease.ports!.first);
      expect(alice.lease.spis).not.toBeNull();
    });

    it('sends from its own port, injected the same way as the attacks: the injection works', async () => {
      const text = `own ${mark().slice(STOLEN.length)}`;
      const packets = await attacker.build(
        `IP(src='${mallory.lease.address}', dst='${PEER_ADDRESS}')/UDP(sport=${mallory.port(5)}, dport=7000)/b'${text}'`,
      );
      await attacker.throughInterface(TUN, packets);
      const all = await peerSocket.until(
        (got) => got.some(({ payload }) => payload.toString() === text),
        text,
      );
      expect(all.at(-1)).toMatchObject({ address: mallory.lease.address, port: mallory.port(5) });
    });

    it('cannot send UDP or TCP from ports of another', async () => {
      const { address } = alice.lease;
      const last = alice.port(alice.lease.ports!.count - 1);
      await refused(
        'unleased-port',
        313,
        `[IP(src='${address}', dst='${PEER_ADDRESS}')/layer/b'${mark()}' for port in (${alice.port()}, ${last}) ` +
          `for layer in (UDP(sport=port, dport=7000), TCP(sport=port, dport=7000, flags='S'), TCP(sport=port, dport=7000, flags='R'))]`,
      );
    });

    it('cannot send from ports that nobody holds', async () => {
      const { address } = mallory.lease;
      await refused(
        'unleased-port',
        313,
        `[IP(src='${address}', dst='${PEER_ADDRESS}')/UDP(sport=port, dport=7000)/b'${mark()}' for port in (0, 80, 1023, 65535)]`,
      );
    });

    it('cannot send ESP or AH from the shared address without a lease of SPIs', async () => {
      const { address, spis } = alice.lease;
      const header = `IP(src='${address}', dst='${PEER_ADDRESS}'`;
      const body = `b'${mark()}${'.'.repeat(40)}'`;
      await refused(
        'ipsec-unallowed',
        401,
        `[${header}, proto=50)/ESP(spi=${spis!.first}, seq=1, data=${body}), ` +
          `${header}, proto=50)/ESP(spi=0xc0000000, seq=1, data=${body}), ` +
          `${header}, proto=51)/AH(nh=17, payloadlen=4, spi=${spis!.first}, seq=1, icv=b'i' * 12)/${body}]`,
      );
    });

    it('cannot send from a whole address of another, nor from one that nobody holds, nor from its access address', async () => {
      const free = POOLS.whole.addresses.find((address) => address !== dora.lease.address)!;
      const sources = [dora.lease.address, free, mallory.links.wifi0!.address, PEER_ADDRESS];
      await refused(
        'unleased-address',
        312,
        `[IP(src=source, dst='${PEER_ADDRESS}')/layer/b'${mark()}' for source in ${JSON.stringify(sources)} ` +
          'for layer in (UDP(sport=7000, dport=7000), TCP(sport=7000, dport=7000), ICMP(type=8))]',
      );
    });

    it('cannot hide a port of another in fragments, whole, alone or overlapping', async () => {
      const { address } = mallory.lease;
      const from = (id: number, port: number, text: string) =>
        `fragment(IP(src='${address}', dst='${PEER_ADDRESS}', id=${id})/UDP(sport=${port}, dport=7000)/(b'${text}' * 60), 400)`;
      // A whole datagram of an own port, in the order that a hostile sender likes: it goes out.
      const honest = `fragments ${mark().slice(STOLEN.length)}`;
      await attacker.throughInterface(
        TUN,
        await attacker.build(`list(reversed(${from(7, mallory.port(7), honest)}))`),
      );
      await peerSocket.until(
        (all) => all.some(({ payload }) => payload.toString().startsWith(honest)),
        honest,
      );

      // A whole datagram of alice's port.
      await refused('unleased-port', 313, from(8, alice.port(), mark()), 1);
      // Its later fragments alone, to be joined to a first one of somebody else.
      await dropped('fragment-waits', 2, `${from(9, alice.port(), mark())}[1:]`);
      // A first fragment of an own port, and one that would write alice's over it; or only over what follows the ports.
      const header = (id: number, at: number) =>
        `IP(src='${address}', dst='${PEER_ADDRESS}', id=${id}, proto=17, flags=1, frag=${at})`;
      const rewriting = `${header(10, 0)}/Raw(bytes(UDP(sport=${alice.port()}, dport=7000))+b'${mark()}' * 8)`;
      await dropped('unleased-port', 1, `[${from(10, mallory.port(7), mark())}[0], ${rewriting}]`);
      const [first, second] = [0, 1].map((part) => `${from(11, mallory.port(7), mark())}[${part}]`);
      await dropped('fragment-overlap', 2, `[${first}, ${header(11, 1)}/Raw(b'${mark()}' * 8), ${second}]`);
    });

    it('cannot end a flow of another by an ICMP error, nor answer for it, nor send other protocols', async () => {
      const { address } = alice.lease;
      const towards = `IP(src='${address}', dst='${PEER_ADDRESS}')`;
      const quoted = `IP(src='${PEER_ADDRESS}', dst='${address}')/UDP(sport=7000, dport=${alice.port()})/b'${mark()}'`;
      await refused('icmp-unmatched', 313, `${towards}/ICMP(type=3, code=3)/(${quoted})`);
      await refused('icmp-unallowed', 313, `${towards}/ICMP(type=0, id=1)/b'${mark()}'`);
      await refused('other-protocol', 313, `${towards}/GRE()/b'${mark()}'`);
    });

    it('cannot reach a tunnel endpoint from inside the tunnel', async () => {
      const source = `src='${mallory.lease.address}'`;
      await refused(
        'own-endpoint',
        314,
        `IP(${source}, dst='${ENDPOINT.address}')/UDP(sport=${mallory.port(6)}, dport=${ENDPOINT.port})/b'${mark()}'`,
      );
    });

    it("cannot use another's session with keys of its own", async () => {
      const trace = tunnelDatagrams(harbour.wire.r1!.frames());
      const [own, victim] = [await sessionOf(harbour, 'mallory'), await sessionOf(harbour, 'alice')];
      const keys = latestKeys(trace, victim);
      const ownKeys = latestKeys(trace, own);
      const header = `IP(src='${alice.lease.address}', dst='${PEER_ADDRESS}'`;
      const inners = await attacker.build(
        `[${header})/UDP(sport=${alice.port()}, dport=7000)/b'${mark()}', ` +
          `${header}, proto=50)/ESP(spi=0xc0000000, seq=1, data=b'${mark()}' * 4)]`,
      );
      const forged = inners.flatMap((inner, i) =>
        [keys, ownKeys].map((name, j) =>
          forgeData({ root: own.root, keys: name, index: victim.index, sequence: 1 + i * 2 + j, inner }),
        ),
      );
      const drafts = [
        forgeControl(own.root, victim.index, {
          kind: 'bind',
          epoch: keys.epoch,
          echoBoot: keys.relayBoot,
          generation: 999,
        }),
        forgeControl(own.root, victim.index, {
          kind: 'hold',
          epoch: keys.epoch,
          echoBoot: keys.relayBoot,
          generation: 999,
        }),
        forgeControl(own.root, victim.index, {
          kind: 'proof',
          epoch: keys.epoch,
          echoBoot: keys.relayBoot,
          generation: 999,
        }),
      ];
      const before = { packets: await harbour.packets(), path: await path(alice) };
      const [aliceAddress, alicePort] = before.path!.observed!.split('|');
      const spoofed = { address: aliceAddress!, port: Number(alicePort) };
      const access = await (await harbour.post(mallory.namespace)).open('0.0.0.0', 0);
      const net = await startInjector(harbour.lab, harbour.net.namespace);
      await access.send(ENDPOINT, ...forged, ...drafts);
      await net.spoof(spoofed, ENDPOINT, [...forged, ...drafts]);

      const after = await eventually(
        'all refused for their tag',
        () => harbour.packets(),
        ({ uplink, control }) =>
          (uplink['bad-tag'] ?? 0) - (before.packets.uplink['bad-tag'] ?? 0) >= 2 * forged.length &&
          (control['bad-tag'] ?? 0) - (before.packets.control['bad-tag'] ?? 0) >= 2 * drafts.length,
      );
      expect(after.uplink.forwarded).toBe(before.packets.uplink.forwarded);
      expect(await access.received()).toEqual([]);
      expect(await path(alice)).toMatchObject({ ...before.path, rttMs: expect.any(Number) });
      await honestPacketArrives();
      expect(stolenAtPeer()).toBe(0);
      await aliceSocket.send(peerSocket, 'alice goes on');
      await peerSocket.until(
        (all) => all.some(({ payload }) => payload.toString() === 'alice goes on'),
        'alice',
      );
    });

    it('is delivered nothing that is sent to ports, SPIs or the address of another', async () => {
      const { lab, peer } = harbour;
      const [malloryTun, aliceTun, sender] = await Promise.all([
        startCapture(lab, { namespace: mallory.namespace, interface: 'wifi0', name: 'mallory-wifi' }),
        startCapture(lab, { namespace: alice.namespace, interface: 'wifi0', name: 'alice-wifi' }),
        startInjector(lab, peer.namespace),
      ]);
      const secret = 'FOR-ALICE-ONLY';
      const { address, spis } = alice.lease;
      const to = `IP(src='${PEER_ADDRESS}', dst='${address}'`;
      const forAlice = await sender.build(
        `[${to})/UDP(sport=7000, dport=${alice.port()})/b'${secret}', ` +
          `${to})/TCP(sport=7000, dport=${alice.port(1023)}, flags='S')/b'${secret}', ` +
          `${to}, proto=50)/ESP(spi=${spis!.first}, seq=1, data=b'${secret}' * 4), ` +
          `${to}, proto=50)/ESP(spi=${spis!.first + spis!.count - 1}, seq=1, data=b'${secret}' * 4), ` +
          `${to}, proto=51)/AH(nh=17, payloadlen=4, spi=${spis!.first + 7}, seq=1, icv=b'i' * 12)/b'${secret}']`,
      );
      const forNobody = await sender.build(
        `[${to}, proto=50)/ESP(spi=${(spis!.first ^ 0x8000_0000) >>> 0}, seq=1, data=b'${secret}' * 4), ` +
          `${to})/UDP(sport=7000, dport=64000)/b'${secret}', ${to})/ICMP(type=8)/b'${secret}', ` +
          `IP(src='${PEER_ADDRESS}', dst='${address}', proto=17, frag=8)/Raw(b'${secret}')]`,
      );
      const before = await harbour.packets();
      await sender.throughRoutes([...forNobody, ...forAlice]);
      // Inner packets of DATA lie in clear in the datagram.
      // Alice's kernel answers some of it, quoting it: only what comes counts.
      const carried = (capture: Capture) =>
        tunnelDatagrams(capture.frames()).filter(
          ({ direction, octets }) => direction === 'to-device' && octets.includes(secret),
        );
      await eventually(
        "all of alice's at alice",
        () => carried(aliceTun).length,
        (count) => count >= forAlice.length,
      );
      await peerSocket.send({ address: mallory.lease.address, port: mallory.port() }, 'for mallory');
      await malloryHonest.until(
        (all) => all.some(({ payload }) => payload.toString() === 'for mallory'),
        'her own',
      );
      expect(carried(aliceTun)).toHaveLength(forAlice.length);
      expect(carried(malloryTun)).toHaveLength(0);
      const after = await harbour.packets();
      // A ping to the shared address is the relay's own to answer; a later fragment waits for one that says whose it is.
      for (const reason of ['unleased-spi', 'unleased-port', 'echo-answered', 'fragment-waits'] as const) {
        expect(after.downlink[reason] ?? 0, reason).toBe((before.downlink[reason] ?? 0) + 1);
      }
      expect(after.downlink.forwarded).toBe((before.downlink.forwarded ?? 0) + forAlice.length + 1);
    });

    it('finds its refusals named by `mooring status --json`', async () => {
      const { host, configFile } = harbour.fleet.relays.get('r1')!;
      const text = await harbour.fleet.mooring(host.namespace, 'status', '--config', configFile, '--json');
      const { packets } = JSON.parse(text) as { packets: { uplink: Record<string, number> } };
      expect(packets.uplink).toMatchObject({
        'unleased-port': expect.any(Number),
        'unleased-address': expect.any(Number),
        'ipsec-unallowed': expect.any(Number),
        'fragment-overlap': expect.any(Number),
        'bad-tag': expect.any(Number),
      });
    });
  },
);
