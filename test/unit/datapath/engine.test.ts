import { beforeEach, describe, expect, it } from 'vitest';
import { HOLD } from '../../../src/datapath/userspace/hold.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import { CONTROL, DATA, REKEY_AFTER_PACKETS, TYPE } from '../../../src/tunnel/wire.ts';
import { anchor, at, ENDPOINT, ENDPOINT6, EngineRig, install, rootOf, sessionId } from './engine-rig.ts';
import { HandDevice } from './hand-device.ts';
import { ah, esp, ip, lease, udp } from './packets.ts';

const SHARED = '203.0.113.7';
const WHOLE = '203.0.113.8';
const PEER = '198.51.100.9';
const WIFI = at('192.0.2.10', 40_000);
const LTE = at('192.0.2.77', 50_000);
const OTHER = at('192.0.2.20', 40_000);

let rig: EngineRig;
let ann: HandDevice;
let bob: HandDevice;
let annLease: Lease;

const share = (port: number, spi: number) =>
  lease({
    kind: 'rsipsec',
    address: SHARED,
    ports: { first: port, count: 64 },
    spis: { first: spi, count: 16 },
  });

const numbered = (n: number, port = 1024) => ip(PEER, SHARED, 17, udp(53, port, new Uint8Array(20).fill(n)));
const fromAnn = (n = 0) => ip(SHARED, PEER, 17, udp(1024, 53, new Uint8Array(20).fill(n)));
const fromBob = () => ip(SHARED, PEER, 17, udp(1088, 53));

beforeEach(() => {
  rig = new EngineRig(0xaaaan);
  anchor(rig);
  annLease = share(1024, 0x1000_0000);
  ann = install(rig, 1, [annLease]);
  bob = install(rig, 2, [share(1088, 0x2000_0000), lease({ kind: 'rsa-ip', address: WHOLE })]);
});

/** What arrived at the device in DATA since the last look, from datagrams sent to `path`. */
function received(device: HandDevice, path = WIFI): Uint8Array[] {
  device.received.length = 0;
  for (const { to, octets } of rig.takeSent()) if (to.key === path.key) device.take(octets, rig.nowMs);
  return [...device.received];
}

const types = () => rig.takeSent().map(({ octets }) => octets[0]! >> 4);

describe('a device that proved its path', () => {
  it('R37: sends and receives packets byte for byte', () => {
    rig.connect(ann, WIFI);
    for (const packet of [fromAnn(), ip(SHARED, PEER, 50, esp(7)), ip(SHARED, PEER, 51, ah(7))]) {
      rig.datagram(WIFI, ann.data(packet));
      expect(rig.takeToNetwork()).toEqual([packet]);
    }
    for (const packet of [
      numbered(1),
      ip(PEER, SHARED, 50, esp(0x1000_0003)),
      ip(PEER, SHARED, 51, ah(0x1000_0003)),
    ]) {
      rig.packet(packet);
      expect(received(ann)).toEqual([packet]);
    }
  });

  it('is answered from the endpoint of its own IP version', () => {
    const wifi6 = at('2001:db8:5::10', 40_000);
    rig.connect(ann, wifi6, ENDPOINT6);
    rig.packet(numbered(1));
    expect(rig.takeSent().map(({ endpoint, to }) => [endpoint, to.key])).toEqual([[ENDPOINT6, wifi6.key]]);
  });

  it('is reported with its path', () => {
    rig.connect(ann, WIFI);
    expect(rig.events).toEqual([
      expect.objectContaining({
        type: 'path',
        anchor: 'a1',
        hint: expect.objectContaining({
          session: sessionId(1),
          address: WIFI.address,
          port: WIFI.port,
          generation: 1,
          deviceBoot: ann.boot.toString(16).padStart(16, '0'),
        }),
      }),
    ]);
  });

  it('R58, R59: sends from a new address at once, and receives there when it has proved it', () => {
    rig.connect(ann, WIFI);
    rig.datagram(LTE, ann.bind('alive'));
    rig.datagram(LTE, ann.data(fromAnn()));
    expect(rig.takeToNetwork()).toHaveLength(1);
    rig.packet(numbered(1));
    const toLte = rig.sent.filter(({ to }) => to.key === LTE.key);
    expect(toLte.every(({ octets }) => octets[0]! >> 4 === TYPE.control)).toBe(true);
    expect(
      rig.sent.filter(({ to, octets }) => to.key === WIFI.key && octets[0]! >> 4 !== TYPE.control),
    ).toHaveLength(1);
    rig.converse(ann, LTE);
    rig.pass(300);
    rig.takeSent();
    rig.packet(numbered(2));
    expect(rig.takeSent().map(({ to }) => to.key)).toEqual([LTE.key]);
  });

  it('receives nothing before that', () => {
    rig.packet(numbered(1));
    expect(rig.takeSent()).toEqual([]);
    expect(rig.counters().downlink).toEqual({ 'no-path': 1 });
  });
});

describe('held packets', () => {
  it('come in order, before anything later, once the new path is proven', () => {
    rig.connect(ann, WIFI);
    rig.datagram(LTE, ann.bind('dead'));
    const challenge = rig.takeSent().find(({ to }) => to.key === LTE.key)!;
    for (let n = 1; n <= 50; n += 1) rig.packet(numbered(n));
    expect(rig.takeSent()).toEqual([]);
    expect(rig.counters().downlink.held).toBe(50);
    rig.datagram(LTE, ann.proof(ann.take(challenge.octets, rig.nowMs)!));
    rig.packet(numbered(51));
    const arrived = received(ann, LTE);
    expect(arrived).toEqual(Array.from({ length: 51 }, (_, i) => numbered(i + 1)));
  });

  it('are bounded, and the first ones are kept', () => {
    rig.connect(ann, WIFI);
    rig.datagram(LTE, ann.bind('dead'));
    const challenge = rig.takeSent().find(({ to }) => to.key === LTE.key)!;
    for (let n = 0; n < HOLD.packets + 10; n += 1) rig.packet(numbered(n & 0xff));
    expect(rig.counters().downlink).toMatchObject({ held: HOLD.packets, 'hold-full': 10 });
    rig.datagram(LTE, ann.proof(ann.take(challenge.octets, rig.nowMs)!));
    const arrived = received(ann, LTE);
    expect(arrived).toHaveLength(HOLD.packets);
    expect(arrived[0]).toEqual(numbered(0));
  });

  it('go to the former path when nobody proves a new one in time', () => {
    rig.connect(ann, WIFI);
    rig.datagram(LTE, ann.bind('dead'));
    rig.takeSent();
    rig.packet(numbered(1));
    rig.pass(5000);
    expect(received(ann)).toContainEqual(numbered(1));
  });
});

describe('a second device', () => {
  beforeEach(() => {
    rig.connect(ann, WIFI);
    rig.connect(bob, OTHER);
    rig.takeSent();
  });

  it("R35: cannot send from the first one's ports, whole address or IPsec share, and is told why", () => {
    const eve = install(rig, 3, [
      lease({ kind: 'rsap-ip', address: SHARED, ports: { first: 2048, count: 64 } }),
    ]);
    const third = at('192.0.2.30', 1);
    rig.connect(eve, third);
    rig.takeSent();
    const attempts: [Uint8Array, string, number][] = [
      [fromAnn(), 'unleased-port', 313],
      [ip(WHOLE, PEER, 17, udp(2048, 53)), 'unleased-address', 312],
      [ip(SHARED, PEER, 50, esp(0x1000_0000)), 'ipsec-unallowed', 401],
      [ip(WHOLE, PEER, 50, esp(9)), 'unleased-address', 312],
    ];
    for (const [packet, reason, code] of attempts) {
      const before = rig.counters().uplink[reason] ?? 0;
      rig.datagram(third, eve.data(packet));
      expect(rig.counters().uplink[reason]).toBe(before + 1);
      rig.converse(eve, third);
      expect(eve.messages.at(-1)).toMatchObject({ kind: 'notice', code });
      rig.pass(1000);
      rig.takeSent();
    }
    expect(rig.takeToNetwork()).toEqual([]);
  });

  it("cannot use the first one's session: its own keys do not open it", () => {
    const forged = bob.data(fromAnn());
    forged[3] = 1;
    rig.datagram(OTHER, forged);
    expect(rig.counters().uplink['bad-tag']).toBe(1);
    const control = bob.again();
    control[3] = 1;
    rig.datagram(OTHER, control);
    expect(rig.counters().control['bad-tag']).toBe(1);
    expect(rig.takeToNetwork()).toEqual([]);
  });

  it('never receives what is for the first one', () => {
    rig.packet(numbered(1, 1024));
    rig.packet(ip(PEER, SHARED, 50, esp(0x1000_0001)));
    expect(rig.takeSent().map(({ to }) => to.key)).toEqual([WIFI.key, WIFI.key]);
  });
});

describe('captured datagrams', () => {
  beforeEach(() => rig.connect(ann, WIFI));

  it('R57: are refused a second time, from wherever they come', () => {
    const datagram = ann.data(fromAnn());
    rig.datagram(WIFI, datagram);
    rig.takeToNetwork();
    rig.takeSent();
    rig.datagram(WIFI, datagram);
    rig.datagram(OTHER, datagram);
    expect(rig.takeToNetwork()).toEqual([]);
    expect(rig.counters().uplink.replayed).toBe(2);
    rig.packet(numbered(1));
    expect(rig.takeSent().filter(({ to }) => to.key === OTHER.key)).toEqual([]);
  });

  it('with another payload are refused as DATA-FULL', () => {
    const datagram = ann.data(fromAnn());
    expect(datagram[0]! >> 4).toBe(TYPE.dataFull);
    for (let i = 0; i < datagram.length; i += 1) {
      const changed = datagram.slice();
      changed[i]! ^= 1;
      rig.datagram(WIFI, changed);
    }
    expect(rig.takeToNetwork()).toEqual([]);
  });

  it('of IPsec are covered as far as the association does not cover them: headers, SPI, first 16 octets', () => {
    const packet = ip(SHARED, PEER, 50, esp(7));
    const datagram = ann.data(packet);
    expect(datagram[0]! >> 4).toBe(TYPE.data);
    const covered = DATA.inner + 20 + 16;
    for (let i = 0; i < covered; i += 1) {
      const changed = datagram.slice();
      changed[i]! ^= 1;
      rig.datagram(WIFI, changed);
    }
    expect(rig.takeToNetwork()).toEqual([]);
    // Behind them the association's own integrity check refuses it at the peer: the tunnel lets it pass once.
    const tail = datagram.slice();
    tail[covered]! ^= 1;
    rig.datagram(WIFI, tail);
    expect(rig.takeToNetwork()).toHaveLength(1);
  });

  it('R57, R58: of a rebind change nothing, and cost no decryption', () => {
    const bind = ann.bind('alive');
    rig.datagram(LTE, bind);
    rig.converse(ann, LTE);
    rig.datagram(WIFI, ann.bind('alive'));
    rig.converse(ann, WIFI);
    rig.pass(500);
    rig.takeSent();
    const accepted = rig.counters().control.accepted;
    for (const from of [OTHER, LTE, WIFI]) rig.datagram(from, bind);
    expect(rig.takeSent()).toEqual([]);
    expect(rig.counters().control).toMatchObject({ accepted, replayed: 3 });
    rig.packet(numbered(1));
    expect(rig.takeSent().map(({ to }) => to.key)).toEqual([WIFI.key]);
  });
});

describe('captured CONTROL of many older incarnations', () => {
  it('does not use up what the device itself may send', () => {
    const captured: Uint8Array[] = [];
    for (let boot = 1n; boot <= 8n; boot += 1n) {
      const older = new HandDevice(rootOf(1), 1, 0xb000n + boot);
      rig.connect(older, WIFI);
      rig.pass(500);
      for (let i = 0; i < 40; i += 1) captured.push(older.bind('alive'));
    }
    rig.connect(ann, WIFI);
    const own = Array.from({ length: 50 }, () => ann.control({ kind: 'keepalive' }));
    for (const datagram of own) rig.datagram(WIFI, datagram);
    rig.pass(2_000);
    rig.takeSent();
    // Old ones wear out their own limit, and make nothing of the present incarnation be forgotten.
    const before = rig.counters().control;
    for (const datagram of [...captured, ...own]) rig.datagram(OTHER, datagram);
    const after = rig.counters().control;
    expect(after.limited).toBeGreaterThan(before.limited ?? 0);
    expect(after.replayed! - (before.replayed ?? 0)).toBeGreaterThanOrEqual(own.length);
    rig.takeSent();
    rig.datagram(LTE, ann.bind('dead'));
    expect(rig.takeSent().map(({ to }) => to.key)).toEqual([LTE.key]);
  });
});

describe('unauthenticated datagrams', () => {
  it('of any kind are never answered, and counted by reason', () => {
    rig.connect(ann, WIFI);
    rig.takeSent();
    const noise: Uint8Array[] = [];
    for (const type of [0, 1, 2, 3, 4, 15]) {
      for (const length of [0, 1, 3, 4, 15, 16, 40, CONTROL.length, 1400]) {
        const datagram = new Uint8Array(length).fill(0x45);
        if (length > 0) datagram[0] = type << 4;
        if (length > 3) datagram.set([0, 0, 1], 1);
        noise.push(datagram);
        if (length > 3) noise.push(Uint8Array.from([type << 4, 0xff, 0xff, 0xff, ...datagram.subarray(4)]));
      }
    }
    for (const datagram of noise) rig.datagram(OTHER, datagram);
    rig.pass(1);
    expect(rig.takeSent()).toEqual([]);
    expect(rig.takeToNetwork()).toEqual([]);
    const { uplink, control } = rig.counters();
    expect(uplink['unknown-session']).toBeGreaterThan(0);
    expect(control['unknown-session']).toBeGreaterThan(0);
    expect(control['unknown-type']).toBeGreaterThan(0);
  });

  it('do not use up what the device itself may send', () => {
    rig.connect(ann, WIFI);
    const forged = ann.bind('alive');
    forged[CONTROL.tag]! ^= 1;
    for (let i = 0; i < 1_000; i += 1) rig.datagram(OTHER, forged);
    expect(rig.counters().control).toMatchObject({ 'bad-tag': 1_000 });
    rig.takeSent();
    rig.datagram(LTE, ann.bind('dead'));
    expect(rig.takeSent().map(({ to }) => to.key)).toEqual([LTE.key]);
    expect(rig.counters().control.limited).toBeUndefined();
  });

  it('at an address that is no endpoint belong to nobody', () => {
    rig.connect(ann, WIFI);
    rig.takeSent();
    rig.datagram(WIFI, ann.data(fromAnn()), '203.0.113.99');
    expect(rig.takeToNetwork()).toEqual([]);
    expect(rig.counters().uplink['unknown-endpoint']).toBe(1);
  });

  it("at another anchor's endpoint do not reach the session", () => {
    anchor(rig, { id: 'a2', endpoints: ['203.0.113.2'] });
    install(rig, 65, [], { anchor: 'a2' });
    rig.connect(ann, WIFI);
    rig.takeSent();
    rig.datagram(WIFI, ann.data(fromAnn()), '203.0.113.2');
    expect(rig.takeToNetwork()).toEqual([]);
    expect(rig.counters().uplink['unknown-session']).toBe(1);
  });

  it('R59: are never answered with more octets than they had', () => {
    let from = 0;
    let to = 0;
    const strange = new EngineRig(0xbbbbn);
    anchor(strange);
    const device = install(strange, 9, []);
    for (let i = 0; i < 200; i += 1) {
      const bind = device.bind();
      from += bind.length;
      strange.datagram(OTHER, bind);
      strange.pass(10);
      to += strange.takeSent().reduce((sum, { octets }) => sum + octets.length, 0);
      expect(to).toBeLessThanOrEqual(from);
    }
  });
});

describe('a deadline', () => {
  it('R19: of a lease stops both directions exactly, and is reported once', () => {
    rig.connect(ann, WIFI);
    rig.takeSent();
    const untilMs = rig.nowMs + 500;
    rig.command({ op: 'lease', anchor: 'a1', lease: { ...annLease, session: sessionId(1) }, untilMs });
    rig.nowMs = untilMs - 0.01;
    rig.packet(numbered(1));
    rig.datagram(WIFI, ann.data(fromAnn()));
    expect(rig.takeToNetwork()).toHaveLength(1);
    expect(received(ann)).toHaveLength(1);
    rig.nowMs = untilMs;
    rig.packet(numbered(2));
    rig.datagram(WIFI, ann.data(fromAnn()));
    expect(rig.takeToNetwork()).toEqual([]);
    expect(types()).toEqual([TYPE.control]);
    expect(rig.counters()).toMatchObject({ downlink: { expired: 1 }, uplink: { expired: 1 } });
    rig.pass(2000);
    expect(rig.events.filter(({ type }) => type === 'lease-expired')).toEqual([
      { type: 'lease-expired', anchor: 'a1', lease: annLease.id },
    ]);
    rig.command({
      op: 'lease',
      anchor: 'a1',
      lease: { ...annLease, session: sessionId(1) },
      untilMs: rig.nowMs + 10,
    });
    rig.takeSent();
    rig.packet(numbered(3));
    expect(received(ann)).toHaveLength(1);
    rig.pass(2000);
    expect(rig.events.filter(({ type }) => type === 'lease-expired')).toHaveLength(2);
  });

  it('of an anchor stops everything exactly, CONTROL and ticks too, until it is moved', () => {
    rig.connect(ann, WIFI);
    rig.takeSent();
    const untilMs = rig.nowMs + 500;
    rig.command({ op: 'deadline', anchor: 'a1', untilMs });
    rig.nowMs = untilMs;
    rig.packet(numbered(1));
    rig.datagram(WIFI, ann.data(fromAnn()));
    rig.datagram(LTE, ann.bind('dead'));
    rig.command({ op: 'rebind', anchor: 'a1', datagram: ann.again('dead'), believed: LTE });
    rig.pass(3000);
    expect(rig.takeSent()).toEqual([]);
    expect(rig.takeToNetwork()).toEqual([]);
    const { downlink, uplink, control } = rig.counters();
    expect([downlink['anchor-deadline'], uplink['anchor-deadline'], control['anchor-deadline']]).toEqual([
      1, 1, 2,
    ]);
    rig.command({ op: 'deadline', anchor: 'a1', untilMs: rig.nowMs + 1 });
    rig.packet(numbered(2));
    expect(received(ann)).toEqual([numbered(2)]);
  });
});

describe('commands', () => {
  it('may be sent twice', () => {
    rig.connect(ann, WIFI);
    rig.takeSent();
    anchor(rig);
    install(rig, 1, [annLease]);
    rig.packet(numbered(1));
    expect(received(ann)).toEqual([numbered(1)]);
  });

  it('name what is missing', () => {
    const missing = expect.objectContaining({ code: 'ERR_MOORING_UNKNOWN_ANCHOR' });
    expect(() => rig.command({ op: 'deadline', anchor: 'a9', untilMs: 1 })).toThrow(missing);
    expect(() => rig.command({ op: 'export', anchor: 'a9' })).toThrow(missing);
    expect(() => install(rig, 5, [], { anchor: 'a9' })).toThrow(missing);
    const orphan = { ...share(4096, 0x3000_0000), session: sessionId(77) };
    expect(() => rig.command({ op: 'lease', anchor: 'a1', lease: orphan, untilMs: 1 })).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_UNKNOWN_SESSION' }),
    );
    expect(() => anchor(rig, { id: 'a2', endpoints: [SHARED] })).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_ENDPOINT_TAKEN' }),
    );
    expect(() => anchor(rig, { id: 'a2', endpoints: [ENDPOINT] })).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_ENDPOINT_TAKEN' }),
    );
  });

  it('that drop a lease, a session or an anchor end what hangs on it', () => {
    rig.connect(ann, WIFI);
    rig.connect(bob, OTHER);
    rig.takeSent();
    rig.command({ op: 'drop-lease', anchor: 'a1', id: annLease.id });
    rig.packet(numbered(1));
    rig.datagram(WIFI, ann.data(fromAnn()));
    expect(rig.counters().downlink['unleased-port']).toBe(1);
    rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(1) });
    rig.datagram(WIFI, ann.data(fromAnn()));
    expect(rig.counters().uplink['unknown-session']).toBe(1);
    rig.command({ op: 'drop-anchor', anchor: 'a1' });
    rig.packet(ip(PEER, WHOLE, 17, udp(1, 2)));
    rig.datagram(OTHER, bob.data(fromBob()));
    expect(rig.takeToNetwork()).toEqual([]);
    expect(rig.counters().downlink['unleased-address']).toBe(1);
    expect(rig.counters().uplink['unknown-endpoint']).toBe(1);
  });

  it('that give a session another id end the one before it', () => {
    rig.connect(ann, WIFI);
    const id = 'ee'.repeat(16);
    rig.command({
      op: 'session',
      anchor: 'a1',
      session: { id, index: 1, root: new Uint8Array(32).fill(9), hint: null },
    });
    rig.datagram(WIFI, ann.data(fromAnn()));
    expect(rig.takeToNetwork()).toEqual([]);
    rig.packet(numbered(1));
    expect(rig.counters().downlink['unleased-port']).toBe(1);
  });
});

it('a rebind over signalling is judged by the same session, and its answer goes to the believed address', () => {
  rig.connect(ann, WIFI);
  rig.takeSent();
  rig.command({ op: 'rebind', anchor: 'a1', datagram: ann.bind('dead'), believed: LTE });
  rig.packet(numbered(1));
  expect(rig.counters().downlink.held).toBe(1);
  expect(rig.sent.map(({ to }) => to.key)).toEqual([LTE.key]);
  rig.converse(ann, LTE);
  expect(ann.received).toEqual([numbered(1)]);
});

it('notices are few, and go to the proven path alone', () => {
  rig.connect(ann, WIFI);
  rig.takeSent();
  for (let i = 0; i < 500; i += 1) rig.datagram(OTHER, ann.data(fromBob()));
  const notices = rig.takeSent().filter(({ to }) => to.key === WIFI.key);
  expect(notices.length).toBeGreaterThan(0);
  expect(notices.length).toBeLessThan(12);
  expect(rig.counters().control['sent-notice']).toBeLessThanOrEqual(5);
});

describe('after an unplanned restart', () => {
  const hint = {
    session: sessionId(1),
    address: WIFI.address,
    port: WIFI.port,
    generation: 1,
    deviceBoot: '',
  };
  let restarted: EngineRig;

  beforeEach(() => {
    rig.connect(ann, WIFI);
    rig.takeSent();
    restarted = new EngineRig(0xccccn, 7);
    restarted.nowMs = rig.nowMs;
    anchor(restarted, { epoch: 2n });
    const deviceBoot = ann.boot.toString(16).padStart(16, '0');
    const session = {
      id: sessionId(1),
      index: 1,
      root: new Uint8Array(32).fill(1),
      hint: { ...hint, deviceBoot },
    };
    restarted.command({ op: 'session', anchor: 'a1', session });
    restarted.command({
      op: 'lease',
      anchor: 'a1',
      lease: { ...annLease, session: sessionId(1) },
      untilMs: 1e9,
    });
    restarted.pass(0);
  });

  it('the last known path is challenged, and downlink waits for the proof', () => {
    restarted.packet(numbered(1));
    expect(restarted.sent.map(({ to, octets }) => [to.key, octets.length])).toEqual([
      [WIFI.key, CONTROL.length],
    ]);
    expect(restarted.counters().downlink).toEqual({ held: 1 });
    restarted.converse(ann, WIFI);
    expect(ann.received).toEqual([numbered(1)]);
    restarted.datagram(WIFI, ann.data(fromAnn()));
    expect(restarted.takeToNetwork()).toEqual([fromAnn()]);
  });

  it('DATA under keys of the former incarnation is refused', () => {
    restarted.datagram(WIFI, ann.data(fromAnn()));
    expect(restarted.takeToNetwork()).toEqual([]);
    const { uplink } = restarted.counters();
    expect(Object.keys(uplink)).toEqual(['unknown-phase']);
  });

  it('what waited for a device that is gone is dropped and counted', () => {
    restarted.packet(numbered(1));
    restarted.pass(10_000);
    expect(restarted.counters().downlink).toEqual({ held: 1, 'hold-dropped': 1 });
    expect(restarted.takeSent().every(({ octets }) => octets.length === CONTROL.length)).toBe(true);
  });
});

it.each(['down', 'up'])(
  'a key that wears out %s is replaced while packets flow, and none is lost',
  (direction) => {
    const short = new EngineRig(0xddddn, 8, 4);
    anchor(short);
    const device = install(short, 1, [annLease]);
    short.connect(device, WIFI);
    const first = device.keyNumber;
    for (let n = 1; n <= 20; n += 1) {
      if (direction === 'down') short.packet(numbered(n));
      else short.datagram(WIFI, device.data(fromAnn(n)));
      short.converse(device, WIFI);
      short.pass(10);
      short.converse(device, WIFI);
    }
    expect(device.keyNumber).toBeGreaterThan(first + 1);
    const passed = direction === 'down' ? device.received : short.takeToNetwork();
    const wanted = direction === 'down' ? numbered : fromAnn;
    expect(passed).toEqual(Array.from({ length: 20 }, (_, i) => wanted(i + 1)));
    expect(device.refused).toEqual([]);
  },
);

it('a key that the device never replaces is used up, not used again', () => {
  rig.connect(ann, WIFI);
  const { sessions } = rig.command({ op: 'export', anchor: 'a1' });
  const worn = sessions.map((state) => ({
    ...state,
    data: { ...state.data, nextSequence: REKEY_AFTER_PACKETS - 1 },
  }));
  const next = new EngineRig(0xddddn, 8);
  next.nowMs = rig.nowMs;
  anchor(next, { epoch: 2n });
  install(next, 1, [annLease]);
  next.command({ op: 'import', anchor: 'a1', sessions: worn });
  for (let n = 1; n <= 5; n += 1) next.packet(numbered(n));
  expect(next.counters().downlink).toEqual({ forwarded: 2, 'key-exhausted': 3 });
});
