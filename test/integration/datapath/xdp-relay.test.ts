import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { compileXdp, hasClang } from '../../../infra/build/xdp.ts';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import { type EngineClient, startUserspaceEngine } from '../../../src/datapath/userspace/client.ts';
import { writeDeadline } from '../../../src/datapath/xdp/deadline.ts';
import { relayPins, removePins } from '../../../src/datapath/xdp/pins.ts';
import { bootTimeNs } from '../../../src/linux/boot-time.ts';
import { ensureBpffs } from '../../../src/linux/bpffs.ts';
import { openUdp, type UdpSocket } from '../../../src/linux/udp.ts';
import type { SocketAddress } from '../../../src/protocol/address.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { at } from '../../unit/datapath/engine-rig.ts';
import { HandDevice } from '../../unit/datapath/hand-device.ts';
import { ip, lease, udp } from '../../unit/datapath/packets.ts';
import {
  connect,
  createNamespace,
  describeAsRoot,
  type OwnNamespace,
  until,
} from '../linux/own-namespace.ts';

const PORT = 4556;
const ENDPOINT = '192.0.2.1';
const HOME = '192.0.2.77';
const AWAY = '192.0.2.78';
const PEER = '198.51.100.9';
const SHARED = '203.0.113.7';
const TUN = 'fast0';
const root = (index: number) => new Uint8Array(32).fill(index);
const sessionId = (index: number) => index.toString(16).padStart(32, '0');

/** A relay's host between a peer's and a devices', on veth whose other ends take frames from XDP. */
class Network {
  readonly relay: OwnNamespace = createNamespace();
  readonly peer: OwnNamespace = createNamespace();
  readonly devices: OwnNamespace = createNamespace();

  constructor() {
    connect(this.relay, 'public', this.peer, 'peer');
    connect(this.relay, 'access', this.devices, 'device');
    this.relay.ip('addr add 198.51.100.1/24 dev public');
    this.relay.ip(`addr add ${ENDPOINT}/24 dev access`);
    this.peer.ip(`addr add ${PEER}/24 dev peer`);
    this.peer.ip(`route add ${SHARED} via 198.51.100.1`);
    for (const address of [HOME, AWAY]) this.devices.ip(`addr add ${address}/24 dev device`);
    this.relay.run(() => {
      for (const setting of ['net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0']) {
        execFileSync('sysctl', ['-qw', setting]);
      }
    });
    // XDP sends nothing into a veth whose other end does not poll, and takes no packet without its checksum.
    for (const [namespace, device] of [
      [this.peer, 'peer'],
      [this.devices, 'device'],
      [this.relay, 'public'],
      [this.relay, 'access'],
    ] as const) {
      namespace.run(() =>
        execFileSync('ethtool', ['-K', device, 'gro', 'on', 'tx', 'off'], { stdio: 'pipe' }),
      );
    }
  }

  close(): void {
    for (const namespace of [this.relay, this.peer, this.devices]) namespace.close();
  }
}

/** A device with a socket on each of its addresses. */
class Traveller {
  readonly device: HandDevice;
  readonly #sockets: ReadonlyMap<string, UdpSocket>;
  readonly heard: { readonly on: string; readonly kind: string }[] = [];
  /** Of each packet in `device.received`: the address it came to and the lane that it was numbered in. */
  readonly ways: string[] = [];

  constructor(network: Network, index: number, boot: bigint) {
    this.device = new HandDevice(root(index), index, boot);
    const open = (address: string) =>
      [address, network.devices.run(() => openUdp({ family: 4, port: 0, address }))] as const;
    this.#sockets = new Map([open(HOME), open(AWAY)]);
  }

  send(octets: Uint8Array, on = HOME): void {
    const socket = this.#sockets.get(on)!;
    socket.queue(at(ENDPOINT, PORT), octets, 0, octets.length);
    socket.flush();
  }

  /** Takes what has arrived, and answers challenges from where they came to. */
  listen(): void {
    for (const [on, socket] of this.#sockets) {
      for (let count = socket.receive(); count > 0; count = socket.receive()) {
        for (let i = 0; i < count; i += 1) {
          const octets = socket.buffer.slice(socket.at(i), socket.at(i) + socket.length(i));
          const message = this.device.take(octets, monotonicMs());
          const lane = (octets[0]! & DATA.laneBit) === 0 ? 'slow' : 'fast';
          if (this.device.received.length > this.ways.length) this.ways.push(`${on} ${lane}`);
          if (message === null) continue;
          this.heard.push({ on, kind: message.kind });
          if (message.kind === 'challenge') this.send(this.device.proof(message), on);
        }
      }
    }
  }

  async connect(on = HOME): Promise<void> {
    this.send(this.device.bind(), on);
    await this.#until('an answer to the first BIND', () => this.device.epoch > 0n);
    this.send(this.device.again(), on);
    await this.#until('the end of the rebind', () => {
      const kinds = this.heard.map(({ kind }) => kind);
      return kinds.includes('challenge') && kinds.lastIndexOf('sync') > kinds.indexOf('challenge');
    });
  }

  async #until(what: string, holds: () => boolean): Promise<void> {
    await until(what, () => {
      this.listen();
      return holds();
    });
  }

  close(): void {
    for (const socket of this.#sockets.values()) socket.close();
  }
}

/** A peer that sends numbered packets to a leased port, and takes what devices send to it. */
class Talker {
  readonly socket: UdpSocket;
  next = 0;
  readonly #to: SocketAddress;

  constructor(network: Network, port = 1024) {
    this.socket = network.peer.run(() =>
      openUdp({ family: 4, port: 5000, address: PEER, reuseAddress: true }),
    );
    this.#to = at(SHARED, port);
  }

  send(count: number): void {
    const octets = new Uint8Array(64);
    for (let i = 0; i < count; i += 1) {
      new DataView(octets.buffer).setUint32(0, this.next);
      this.next += 1;
      this.socket.queue(this.#to, octets, 0, octets.length);
    }
    this.socket.flush();
  }

  close(): void {
    this.socket.close();
  }
}

const numberOf = (inner: Uint8Array) => new DataView(inner.buffer, inner.byteOffset + 28).getUint32(0);

if (!hasClang())
  process.stderr.write('skipped: relays with XDP: clang is not there to compile the program\n');

(hasClang() ? describeAsRoot : () => undefined)('a relay with XDP, in a real network', () => {
  let network: Network;
  let bpffs: string;
  let engine: EngineClient | null = null;
  const open: { close(): void }[] = [];
  const until0 = Number.POSITIVE_INFINITY;

  beforeAll(() => {
    network = new Network();
    bpffs = mkdtempSync(join(tmpdir(), 'mooring-bpffs-'));
    ensureBpffs(bpffs);
  });
  afterEach(async () => {
    await engine?.close();
    engine = null;
    for (const item of open.splice(0)) item.close();
    removePins(bpffs, 'r1');
    network.relay.run(() => execFileSync('ip', ['link', 'del', TUN], { stdio: 'ignore' }));
  });
  afterAll(() => {
    network.close();
    execFileSync('umount', [bpffs]);
    rmSync(bpffs, { recursive: true });
  });

  async function start(
    relayBoot: bigint,
    options: { wish?: 'auto' | 'required' | 'off'; anyDevice?: boolean; defines?: readonly string[] } = {},
  ) {
    const { wish = 'required', anyDevice = true, defines = [] } = options;
    const object = compileXdp(defines);
    const xdp = {
      relay: 'r1',
      interfaces: ['public', 'access'],
      bpffs,
      sessions: 64,
      wish,
      anyDevice,
      object,
    };
    engine = await network.relay.run(() => startUserspaceEngine({ tun: TUN, relayBoot, port: PORT, xdp }));
    network.relay.run(() => execFileSync('ip', ['route', 'replace', SHARED, 'dev', TUN]));
    return engine;
  }

  async function install(index: number, id = sessionId(index), epoch = 1n): Promise<void> {
    const granted = lease({
      kind: 'rsap-ip',
      address: SHARED,
      ports: { first: 1024, count: 64 },
      session: id,
    });
    await command({ op: 'anchor', anchor: { id: 'a1', endpoints: [ENDPOINT], epoch, untilMs: until0 } });
    await command({ op: 'session', anchor: 'a1', session: { id, index, root: root(index), hint: null } });
    await command({ op: 'lease', anchor: 'a1', lease: granted, untilMs: until0 });
  }

  const command = <C extends EngineCommand>(one: C) => engine!.command(one);
  const traveller = (index: number, boot: bigint) => {
    const made = new Traveller(network, index, boot);
    open.push(made);
    return made;
  };
  const talker = () => {
    const made = new Talker(network);
    open.push(made);
    return made;
  };
  const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

  /** Bursts of packets to the device, `each` between them, until all that was sent has arrived or stays away. */
  async function talk(
    peer: Talker,
    ann: Traveller,
    bursts: number,
    each: (burst: number) => void = () => {},
  ) {
    for (let burst = 0; burst < bursts; burst += 1) {
      peer.send(8);
      each(burst);
      ann.listen();
      await nextTurn();
    }
    await until('everything arrived', () => {
      ann.listen();
      return ann.device.received.length >= peer.next;
    }).catch(() => undefined);
    return ann.device.received.map(numberOf);
  }

  /** Packets that came after a later one. */
  const overtaken = (numbers: readonly number[]) => {
    let highest = -1;
    return numbers.filter((number) => {
      highest = Math.max(highest, number);
      return number < highest;
    }).length;
  };
  const all = (count: number) => Array.from({ length: count }, (_, n) => n);
  const fastForwarded = async () => (await command({ op: 'counters' })).downlink.forwarded ?? 0;

  it('says what it does, and carries a talk in both directions', async () => {
    const { status } = await start(0xa1n);
    expect(status).toMatchObject({
      engine: 'xdp',
      interfaces: [
        { name: 'public', mode: 'native' },
        { name: 'access', mode: 'native' },
      ],
    });
    await install(1);
    const ann = traveller(1, 0xd1n);
    await ann.connect();
    const peer = talker();
    expect((await talk(peer, ann, 50)).sort((one, other) => one - other)).toEqual(all(400));
    ann.send(ann.device.data(ip(SHARED, PEER, 17, udp(1024, 5000, new Uint8Array(9).fill(5)))));
    await until('the answer', () => peer.socket.receive() > 0);
    expect(peer.socket.source(0)).toEqual(at(SHARED, 1024));
    expect(ann.device.refused).toEqual([]);
    expect(await fastForwarded()).toBe(400);
  });

  it('moves a session under traffic, again and again: nothing is lost or doubled, and each lane keeps its order', async () => {
    await start(0xa1n);
    await install(1);
    const ann = traveller(1, 0xd1n);
    await ann.connect();
    const peer = talker();
    let on = HOME;
    let moves = 0;
    const arrived = await talk(peer, ann, 600, (burst) => {
      const isThere = ann.heard.at(-1)?.kind === 'sync' && ann.heard.at(-1)?.on === on;
      if (burst % 20 !== 10 || !isThere) return;
      on = on === HOME ? AWAY : HOME;
      moves += 1;
      ann.send(ann.device.bind(moves % 2 === 0 ? 'alive' : 'dead'), on);
    });
    expect([...arrived].sort((one, other) => one - other)).toEqual(all(4800));
    // Which of two sockets is read first says nothing; on one of them and in one lane nothing overtakes.
    for (const way of new Set(ann.ways)) {
      expect(overtaken(arrived.filter((_, n) => ann.ways[n] === way)), way).toBe(0);
    }
    expect(ann.device.refused).toEqual([]);
    expect(moves).toBeGreaterThanOrEqual(5);
  });

  it('gives the index of a session to another one under traffic, and no packet reaches the former device', async () => {
    await start(0xa1n);
    await install(1);
    const ann = traveller(1, 0xd1n);
    await ann.connect();
    const peer = talker();
    await talk(peer, ann, 50);
    const before = ann.device.received.length;
    expect(before).toBe(400);
    await command({ op: 'drop-session', anchor: 'a1', id: sessionId(1) });
    const other = 'ff'.repeat(16);
    await install(1, other);
    const bob = traveller(1, 0xb0bn);
    for (let burst = 0; burst < 50; burst += 1) {
      peer.send(8);
      ann.send(ann.device.data(ip(SHARED, PEER, 17, udp(1024, 5000))));
      ann.listen();
      await nextTurn();
    }
    ann.listen();
    expect(ann.device.received.length).toBe(before);
    await bob.connect(AWAY);
    const first = peer.next;
    await until('bob gets his packets', () => {
      peer.send(1);
      bob.listen();
      return bob.device.received.length > 10;
    });
    expect(numberOf(bob.device.received[0]!)).toBeGreaterThanOrEqual(first);
    expect(bob.device.refused).toEqual([]);
  });

  it('forwards on while no process is there, and the next one goes on without a loss', async () => {
    await start(0xa1n);
    await install(1);
    const ann = traveller(1, 0xd1n);
    await ann.connect();
    const peer = talker();
    await talk(peer, ann, 20);
    const counted = await fastForwarded();
    await engine!.close();
    expect((await talk(peer, ann, 50)).length, 'nobody is there').toBe(peer.next);

    await start(0xb2n);
    expect(engine!.status.notes.join()).toContain('goes on with the maps');
    const { anchors } = await command({ op: 'left-behind' });
    expect(anchors.map(({ sessions }) => sessions.map(({ id }) => id))).toEqual([[sessionId(1)]]);
    const talking = talk(peer, ann, 400);
    await install(1, sessionId(1), 2n);
    await command({ op: 'import', anchor: 'a1', sessions: anchors[0]!.sessions });
    await command({ op: 'installed', anchor: 'a1' });
    expect(await talking).toEqual(all(peer.next));
    await until('the device knows the new incarnation', () => {
      ann.listen();
      return ann.device.epoch === 2n;
    });
    expect(await talk(peer, ann, 20)).toEqual(all(peer.next));
    expect(await fastForwarded()).toBeGreaterThanOrEqual(counted + 440);
    expect(ann.device.refused).toEqual([]);
  });

  it('goes on with maps of another layout, in a new program, without a loss', async () => {
    await start(0xa1n);
    await install(1);
    const ann = traveller(1, 0xd1n);
    await ann.connect();
    const peer = talker();
    await talk(peer, ann, 20);
    const captured = ann.device.data(ip(SHARED, PEER, 17, udp(1024, 5000)));
    ann.send(captured);
    await until('the packet', () => peer.socket.receive() > 0);
    const counted = await fastForwarded();
    await engine!.close();

    const talking = talk(peer, ann, 300);
    await start(0xb2n, { defines: ['MOORING_NEXT_LAYOUT'] });
    expect(engine!.status.notes.join()).toContain('layout 1 held into layout 2');
    const { anchors } = await command({ op: 'left-behind' });
    await install(1, sessionId(1), 2n);
    await command({ op: 'import', anchor: 'a1', sessions: anchors[0]!.sessions });
    await command({ op: 'installed', anchor: 'a1' });
    expect(await talking).toEqual(all(peer.next));
    ann.send(captured);
    await until('its refusal', () => false, 100).catch(() => undefined);
    const counters = await command({ op: 'counters' });
    expect(counters.uplink.replayed).toBe(1);
    expect(counters.downlink.forwarded).toBeGreaterThan(counted);
    expect(ann.device.refused).toEqual([]);
  });

  it('stops at the deadline that another process writes', async () => {
    await start(0xa1n);
    await install(1);
    const ann = traveller(1, 0xd1n);
    await ann.connect();
    const peer = talker();
    await talk(peer, ann, 5);
    await engine!.close();
    expect(writeDeadline(relayPins(bpffs, 'r1'), 'a1', bootTimeNs())).toBe(true);
    expect(writeDeadline(relayPins(bpffs, 'r1'), 'a2', bootTimeNs())).toBe(false);
    const before = ann.device.received.length;
    peer.send(20);
    await until('nothing', () => false, 100).catch(() => undefined);
    ann.listen();
    expect(ann.device.received.length).toBe(before);
    expect(writeDeadline(relayPins(bpffs, 'r1'), 'a1', bootTimeNs() + 60_000_000_000n)).toBe(true);
    peer.send(1);
    await until('it forwards again', () => {
      ann.listen();
      return ann.device.received.length === before + 1;
    });
  });

  it('leaves veth devices to the userspace engine unless asked, and takes away what was left', async () => {
    await start(0xa1n);
    await engine!.close();
    const { status } = await start(0xb2n, { wish: 'auto', anyDevice: false });
    expect(status.engine).toBe('userspace');
    expect(status.notes.join()).toContain('public: it is a veth device');
    expect(network.relay.ip('-d -j link show public')).toMatchObject([{ ifname: 'public' }]);
    expect(JSON.stringify(network.relay.ip('-d -j link show public'))).not.toContain('"xdp"');
  });

  it('does not start without XDP when that was asked for, and says what to do', async () => {
    const failing = network.relay.run(() =>
      startUserspaceEngine({
        tun: TUN,
        relayBoot: 1n,
        port: PORT,
        xdp: { relay: 'r1', interfaces: ['absent'], bpffs, sessions: 64, wish: 'required', anyDevice: true },
      }),
    );
    await expect(failing).rejects.toMatchObject({
      code: 'ERR_MOORING_XDP_UNAVAILABLE',
      message: expect.stringContaining('absent: there is no such interface'),
    });
    await start(0xa1n, { wish: 'off' });
    expect(engine!.status).toEqual({ engine: 'userspace', interfaces: [], notes: [] });
  });
});
