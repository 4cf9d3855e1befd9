import { afterEach, beforeEach, expect, it } from 'vitest';
import { type Policing, policing } from '../../../src/datapath/decision/policing.ts';
import type { FastListener } from '../../../src/datapath/fast-path.ts';
import { boottimeOf } from '../../../src/datapath/xdp/clock.ts';
import { XdpMirror } from '../../../src/datapath/xdp/mirror.ts';
import { bootTimeNs } from '../../../src/linux/boot-time.ts';
import { waitGracePeriod } from '../../../src/linux/grace-period.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import type { SessionState } from '../../../src/protocol/relay-plane.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { anchor, at, EngineRig, install, rootOf, sessionId } from '../../unit/datapath/engine-rig.ts';
import { HandDevice } from '../../unit/datapath/hand-device.ts';
import { esp, icmp, ip, lease, quote, udp } from '../../unit/datapath/packets.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import { BED, createBed, DEVICE_PORT, frameOf, TUNNEL_PORT, type XdpBed } from './xdp-bed.ts';

const { endpoint: ENDPOINT, peer: PEER, shared: SHARED } = BED[4];
const HOME = at(BED[4].device, DEVICE_PORT);
const AWAY = at(BED[4].moved, 50_001);
const share = (first: number, id = 'share'): Lease =>
  lease({
    id: Buffer.from(id.padEnd(8, '.')).toString('hex').padEnd(32, '0').slice(0, 32),
    kind: 'rsipsec',
    address: SHARED,
    ports: { first, count: 64 },
    spis: { first: first * 16, count: 1024 },
  });
const down = (port = 1024, mark = 1) => ip(PEER, SHARED, 17, udp(53, port, new Uint8Array(20).fill(mark)));
const up = (port = 1024, mark = 1) => ip(SHARED, PEER, 17, udp(port, 53, new Uint8Array(20).fill(mark)));

/** Both engines: what the program passes goes to the userspace engine, as the kernel would bring it there. */
class Both {
  readonly bed: XdpBed;
  readonly rig: EngineRig;
  readonly mirror: XdpMirror;
  /** Grace periods that were asked for and have not passed. */
  readonly listeners: FastListener[] = [];
  readonly graces: (() => void)[] = [];

  constructor(bed: XdpBed, boot = 0xa1n, seed = 1, rate: Policing | null = null) {
    this.bed = bed;
    const rates = { uplink: rate, downlink: rate };
    this.mirror = new XdpMirror({
      rates,
      maps: bed.object.maps,
      btf: bed.object.btf,
      askGrace: (done) => void this.graces.push(done),
      waitGrace: waitGracePeriod,
    });
    const create = this.mirror.session.bind(this.mirror);
    this.mirror.session = (at, spec, listener) => {
      this.listeners.push(listener);
      return create(at, spec, listener);
    };
    this.rig = new EngineRig(boot, seed, undefined, this.mirror, { policing: rates });
    this.rig.nowMs = monotonicMs();
    this.pass(0);
  }

  /** Time passes for both engines. */
  pass(ms: number): void {
    this.rig.pass(ms);
    this.bed.setNow(boottimeOf(this.rig.nowMs));
  }

  grace(): void {
    while (this.graces.length > 0) {
      waitGracePeriod();
      for (const done of this.graces.splice(0)) done();
    }
  }

  settle(): void {
    if (this.rig.engine.settling) this.rig.engine.settle(this.rig.nowMs);
  }

  /** A packet from the peer: the datagram that XDP sent, or null when it is the userspace engine's. */
  fromPeer(packet: Uint8Array): Uint8Array | null | 'dropped' {
    const { verdict, frame } = this.bed.run('public', frameOf('public', packet));
    if (verdict === 'drop') return 'dropped';
    if (verdict !== 'redirect' && verdict !== 'tx') return null;
    return frame.slice(14 + 20 + 8);
  }

  /** A datagram of a device: the inner packet that XDP sent on. */
  fromDevice(datagram: Uint8Array, from = HOME): Uint8Array | null | 'dropped' {
    const outer = ip(from.address, ENDPOINT, 17, udp(from.port, TUNNEL_PORT, datagram));
    const { verdict, frame } = this.bed.run('access', frameOf('access', outer));
    this.mirror.takeEvents(this.rig.nowMs);
    if (verdict === 'drop') return 'dropped';
    if (verdict !== 'redirect' && verdict !== 'tx') {
      this.rig.datagram(from, datagram, ENDPOINT);
      return null;
    }
    return frame.slice(14);
  }

  connect(device: HandDevice, path = HOME): void {
    this.rig.connect(device, path, ENDPOINT);
    this.settle();
  }

  /** The keys of all that the program finds. */
  indexed(): string[] {
    return [...this.bed.object.maps.index!.keys()].map((key) => Buffer.from(key).toString('hex')).sort();
  }

  state(slot: number): number {
    return Number(this.bed.get('sessions', slot, 'state'));
  }
}

/** The listener that the userspace engine gave for its only session. */
function sessionOf(both: Both): FastListener {
  return both.listeners.at(-1)!;
}

function begin(both: Both, index: number, leases: readonly Lease[]): HandDevice {
  if (index === 1) anchor(both.rig, { endpoints: [ENDPOINT] });
  const device = install(both.rig, index, leases);
  both.connect(device);
  return device;
}

/** What the device makes of a datagram that XDP sent. */
function taken(
  device: HandDevice,
  datagram: Uint8Array | null | 'dropped',
  nowMs: number,
): Uint8Array | null {
  if (datagram === null || datagram === 'dropped') return null;
  device.take(datagram, nowMs);
  return device.received.pop() ?? null;
}

/** The packet one hop older, as both engines' kernels make it. */
function older(packet: Uint8Array): Uint8Array {
  const copy = packet.slice();
  copy[8]! -= 1;
  copy.set([0, 0], 10);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (copy[i]! << 8) | copy[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  copy.set([(~sum >> 8) & 0xff, ~sum & 0xff], 10);
  return copy;
}

describeAsRoot('the mirror in the XDP program', () => {
  const beds: XdpBed[] = [];
  let both: Both;
  const another = () => {
    const bed = createBed({ sessions: 4 });
    beds.push(bed);
    return bed;
  };
  beforeEach(() => {
    both = new Both(another());
  });
  afterEach(() => {
    for (const bed of beds.splice(0)) bed.close();
  });
  const arrives = (device: HandDevice, packet: Uint8Array, from = both) =>
    expect(taken(device, from.fromPeer(packet), from.rig.nowMs)).toEqual(older(packet));

  it('carries a session both ways once its device has proven itself, and not before', () => {
    anchor(both.rig, { endpoints: [ENDPOINT] });
    const ann = install(both.rig, 1, [share(1024)]);
    expect(both.fromPeer(down())).toBe(null);
    both.connect(ann);
    arrives(ann, down());
    expect(both.fromDevice(ann.data(up()))).toEqual(older(up()));
    expect(ann.refused).toEqual([]);
  });

  it('counts as one what either engine decided', () => {
    const ann = begin(both, 1, [share(1024)]);
    arrives(ann, down());
    both.rig.packet(down());
    const again = ann.data(up());
    both.fromDevice(again);
    both.fromDevice(again);
    both.rig.datagram(HOME, ann.data(up()), ENDPOINT);
    expect(both.rig.counters().downlink).toEqual({ forwarded: 2 });
    expect(both.rig.counters().uplink).toEqual({ forwarded: 2, replayed: 1 });
  });

  it('drops CONTROL that the device did not tag, and brings the rest to the state machine', () => {
    const ann = begin(both, 1, [share(1024)]);
    const forged = ann.control({ kind: 'keepalive' });
    forged[40]! ^= 1;
    expect(both.fromDevice(forged)).toBe('dropped');
    expect(both.fromDevice(ann.control({ kind: 'keepalive' }))).toBe(null);
    expect(both.rig.takeSent().length).toBeGreaterThan(0);
    expect(both.rig.counters().control['bad-tag']).toBe(1);
  });

  it('finds a new session of an anchor that it forwards for before the device has a key', () => {
    anchor(both.rig, { endpoints: [ENDPOINT] });
    const ann = install(both.rig, 1, [share(1024)]);
    const forged = ann.bind();
    forged[40]! ^= 1;
    expect(both.fromDevice(forged)).toBe('dropped');
    expect(both.fromDevice(ann.bind())).toBe(null);
  });

  it('finds nothing any more of a session that has ended', () => {
    begin(both, 1, [share(1024)]);
    const before = both.indexed();
    install(both.rig, 2, [share(2048, 'other')]);
    both.rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(2) });
    expect(both.indexed()).toEqual(before);
    both.rig.command({ op: 'drop-anchor', anchor: 'a1' });
    expect(both.indexed()).toEqual([]);
  });

  it('leaves the downlink to the userspace engine while it holds, and goes on behind what was held', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.fromDevice(ann.control({ kind: 'hold' }));
    expect(both.fromPeer(down(1024, 1))).toBe(null);
    both.rig.packet(down(1024, 1));
    expect(both.rig.takeSent().filter(({ octets }) => octets[0]! >> 4 !== 3)).toEqual([]);
    both.rig.datagram(AWAY, ann.bind('dead'), ENDPOINT);
    both.rig.converse(ann, AWAY, ENDPOINT);
    expect(ann.received.pop()).toEqual(down(1024, 1));
    expect(both.fromPeer(down(1024, 2)), 'what is under way must not be overtaken').toBe(null);
    both.rig.packet(down(1024, 2));
    both.settle();
    expect(both.rig.takeSent().map(({ to }) => to.key)).toEqual([AWAY.key]);
    arrives(ann, down(1024, 3));
    expect(ann.refused).toEqual([]);
  });

  it('ends a hold by itself in favour of the last proven path when its process is gone', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.fromDevice(ann.control({ kind: 'hold' }));
    expect(both.fromPeer(down())).toBe(null);
    both.bed.setNow(bootTimeNs() + 10_000_000_000n);
    expect(taken(ann, both.fromPeer(down()), both.rig.nowMs)).not.toBe(null);
  });

  it('hears of a device that speaks from elsewhere, asks it there, and follows', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.rig.takeSent();
    expect(
      both.fromDevice(ann.data(ip(SHARED, PEER, 17, udp(1024, 53, new Uint8Array(200)))), AWAY),
    ).not.toBe(null);
    expect(both.rig.sent.map(({ to }) => to.key)).toContain(AWAY.key);
    both.rig.converse(ann, AWAY, ENDPOINT);
    both.pass(2_000);
    both.rig.converse(ann, AWAY, ENDPOINT);
    both.settle();
    const { frame } = both.bed.run('public', frameOf('public', down()));
    expect([...frame.subarray(14 + 16, 14 + 20)].join('.')).toBe(AWAY.address);
  });

  it('forwards for an anchor and for a lease until their deadlines, and not after', () => {
    const ann = begin(both, 1, []);
    const untilMs = both.rig.nowMs + 5_000;
    const held = { ...share(1024), session: sessionId(1) };
    both.rig.command({ op: 'lease', anchor: 'a1', lease: held, untilMs });
    arrives(ann, down());
    both.bed.setNow(bootTimeNs() + 6_000_000_000n);
    expect(both.fromPeer(down())).toBe('dropped');
    expect(both.fromDevice(ann.data(up())), 'the userspace engine says why').toBe(null);
    both.rig.command({ op: 'lease', anchor: 'a1', lease: held, untilMs: untilMs + 60_000 });
    arrives(ann, down());
    both.rig.command({ op: 'deadline', anchor: 'a1', untilMs: both.rig.nowMs + 1_000 });
    expect(both.fromPeer(down())).toBe('dropped');
    expect(both.fromDevice(ann.data(up()))).toBe('dropped');
    const { downlink, uplink } = both.rig.counters();
    expect([downlink.expired, downlink['anchor-deadline'], uplink['anchor-deadline']]).toEqual([1, 1, 1]);
  });

  it('gives an index to another session at once, and its slot only when no packet can be under way', () => {
    const ann = begin(both, 1, [share(1024)]);
    const before = ann.data(up());
    both.rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(1) });
    expect(both.state(0)).toBe(0);
    expect(both.fromPeer(down())).toBe(null);
    const other = 'ff'.repeat(16);
    both.rig.command({
      op: 'session',
      anchor: 'a1',
      session: { id: other, index: 1, root: rootOf(9), hint: null },
    });
    both.rig.command({ op: 'lease', anchor: 'a1', lease: { ...share(1024), session: other }, untilMs: 1e15 });
    expect([both.state(0), both.state(1)]).toEqual([0, 1]);
    const bob = new HandDevice(rootOf(9), 1, 0xb0bn);
    both.connect(bob);
    expect(both.fromDevice(before)).not.toBeInstanceOf(Uint8Array);
    arrives(bob, down());
    both.grace();
    both.rig.command({
      op: 'session',
      anchor: 'a1',
      session: { id: sessionId(2), index: 2, root: rootOf(2), hint: null },
    });
    expect([both.state(0), both.state(1), both.state(2)]).toEqual([1, 1, 0]);
    expect(bob.refused).toEqual([]);
  });

  it('leaves a session that it has no room for to the userspace engine', () => {
    anchor(both.rig, { endpoints: [ENDPOINT] });
    const devices = [1, 2, 3, 4, 5].map((n) => install(both.rig, n, [share(1024 + 64 * n, `share-${n}`)]));
    const last = devices[4]!;
    both.connect(last);
    expect(both.fromPeer(down(1024 + 64 * 5))).toBe(null);
    both.rig.packet(down(1024 + 64 * 5));
    both.rig.converse(last, HOME, ENDPOINT);
    expect(last.received.at(-1)).toEqual(down(1024 + 64 * 5));
    expect(both.fromDevice(last.data(up(1024 + 64 * 5)))).toBe(null);
    expect(both.rig.takeToNetwork()).toEqual([up(1024 + 64 * 5)]);
  });

  it('leaves a third lease to the userspace engine until one of the first two has gone', () => {
    const shares = [1024, 2048, 4096].map((first) => share(first, `from-${first}`));
    const ann = begin(both, 1, shares);
    arrives(ann, down(1024));
    arrives(ann, down(2048));
    expect(both.fromPeer(down(4096))).toBe(null);
    expect(both.fromPeer(down(9000)), 'the address is not known whole').toBe(null);
    both.rig.command({ op: 'drop-lease', anchor: 'a1', id: shares[0]!.id });
    expect(both.fromPeer(down(4096))).toBe(null);
    both.grace();
    arrives(ann, down(4096));
    expect(both.fromPeer(down(1024)), 'known whole: nobody leases it').toBe('dropped');
  });

  /** The share with its port block doubled. */
  const doubled = (first: number, id?: string): Lease => ({
    ...share(first, id),
    ports: { first, count: 128 },
  });
  const put = (lease: Lease, index: number, at = both) =>
    at.rig.command({
      ...{ op: 'lease', anchor: 'a1', untilMs: 1e15 },
      lease: { ...lease, session: sessionId(index) },
    });

  it('doubles a port block in place, beside smaller ones', () => {
    const ann = begin(both, 1, [share(1024)]);
    const bob = begin(both, 2, [share(2048, 'bob')]);
    expect(both.fromPeer(down(1100))).toBe('dropped');
    put(doubled(1024), 1);
    for (const port of [1024, 1087, 1088, 1151]) arrives(ann, down(port));
    expect(both.fromPeer(down(1152))).toBe('dropped');
    expect(both.fromDevice(ann.data(up(1151)))).toEqual(older(up(1151)));
    expect(both.fromDevice(bob.data(up(1151)))).toBe(null);
    arrives(bob, down(2048));
    both.grace();
    put(share(1024), 1);
    expect(both.fromPeer(down(1088)), 'an older registry knows half of it').toBe('dropped');
    arrives(ann, down(1087));
    both.rig.command({ op: 'drop-lease', anchor: 'a1', id: share(1024).id });
    expect(both.fromPeer(down(1024))).toBe('dropped');
  });

  it('leaves a block that doubles to the userspace engine where there is no second place for it', () => {
    const ann = begin(both, 1, [share(1024, 'one'), share(2048, 'two')]);
    put(doubled(1024, 'one'), 1);
    for (const port of [1024, 1151]) {
      expect(both.fromPeer(down(port))).toBe(null);
      expect(both.fromDevice(ann.data(up(port)))).toBe(null);
    }
    expect(both.rig.takeToNetwork()).toEqual([up(1024), up(1151)]);
    arrives(ann, down(2048));
    both.grace();
    for (const port of [1024, 1151, 2048]) arrives(ann, down(port));
    expect(both.fromPeer(down(1152))).toBe('dropped');
  });

  it('finds doubled blocks when a smaller one comes beside them', () => {
    const ann = begin(both, 1, [doubled(1024)]);
    expect(both.fromPeer(down(2048))).toBe('dropped');
    const bob = begin(both, 2, [share(2048, 'bob')]);
    for (const port of [1024, 1151]) arrives(ann, down(port));
    for (const port of [2048, 2111]) arrives(bob, down(port));
    for (const port of [1023, 1152, 2112]) expect(both.fromPeer(down(port))).toBe('dropped');
  });

  it('loses nothing of the smaller blocks when the next process hears of the doubled one first', () => {
    const ann = begin(both, 1, [share(1024)]);
    const bob = begin(both, 2, [share(2048, 'bob')]);
    put(doubled(1024), 1);
    const next = new Both(both.bed, 0xb2n, 2);
    anchor(next.rig, { endpoints: [ENDPOINT], epoch: 2n });
    const session = (n: number) =>
      next.rig.command({
        ...{ op: 'session', anchor: 'a1' },
        session: { id: sessionId(n), index: n, root: rootOf(n), hint: null },
      });
    session(1);
    put(doubled(1024), 1, next);
    arrives(bob, down(2048), next);
    session(2);
    put(share(2048, 'bob'), 2, next);
    for (const port of [1024, 1151]) arrives(ann, down(port), next);
    arrives(bob, down(2111), next);
  });

  it('numbers no packet twice over many keys, and uses the place of a key again only after a grace period', () => {
    const ann = begin(both, 1, [share(1024)]);
    for (let round = 0; round < 9; round += 1) {
      both.rig.engine.tick(both.rig.nowMs);
      both.mirror.takeEvents(both.rig.nowMs);
      arrivesSoon(ann, round);
      rekey(ann);
    }
    expect(ann.keyNumber).toBeGreaterThan(8);
    expect(ann.refused).toEqual([]);

    function arrivesSoon(device: HandDevice, mark: number): void {
      let got = taken(device, both.fromPeer(down(1024, mark)), both.rig.nowMs);
      if (got === null) {
        both.grace();
        both.settle();
        got = taken(device, both.fromPeer(down(1024, mark)), both.rig.nowMs);
      }
      expect(got).toEqual(older(down(1024, mark)));
    }

    /** As if the program had said that the key wears out. */
    function rekey(device: HandDevice): void {
      const keyNumber = device.keyNumber;
      sessionOf(both).fastRekey(keyNumber, both.rig.nowMs);
      both.rig.converse(device, HOME, ENDPOINT);
      expect(device.keyNumber).toBe(keyNumber + 1);
    }
  });

  it('hands a session over to another relay with XDP: no number twice, nothing received twice, nothing lost', () => {
    const ann = begin(both, 1, [share(1024)]);
    const captured = Array.from({ length: 50 }, (_, n) => ann.data(up(1024, n)));
    for (const [n, datagram] of captured.entries()) if (n % 3 !== 0) both.fromDevice(datagram);
    for (let n = 0; n < 20; n += 1) arrives(ann, down(1024, n));
    const { sessions } = both.rig.command({ op: 'export', anchor: 'a1' });
    expect(both.fromPeer(down())).toBe('dropped');
    const next = new Both(another(), 0xb2n, 2);
    resume(next, sessions);
    arrives(ann, down(1024, 77), next);
    for (const datagram of captured) next.fromDevice(datagram);
    expect(next.rig.counters().uplink).toEqual({ forwarded: 17, replayed: 33 });
    next.pass(1);
    next.rig.converse(ann, HOME, ENDPOINT);
    expect(ann.epoch).toBe(2n);
    expect(next.fromDevice(ann.data(up()))).toEqual(older(up()));
    next.settle();
    arrives(ann, down(1024, 78), next);
    expect(ann.refused).toEqual([]);
  });

  it('hands a session over to a relay without XDP and back', () => {
    const ann = begin(both, 1, [share(1024)]);
    const captured = Array.from({ length: 20 }, (_, n) => ann.data(up(1024, n)));
    for (const datagram of captured) both.fromDevice(datagram);
    for (let n = 0; n < 20; n += 1) arrives(ann, down(1024, n));
    const slow = new EngineRig(0xb2n, 2);
    slow.nowMs = both.rig.nowMs;
    const first = both.rig.command({ op: 'export', anchor: 'a1' }).sessions;
    resume({ rig: slow, settle() {} }, first);
    for (const datagram of captured) slow.datagram(HOME, datagram, ENDPOINT);
    expect(slow.counters().uplink).toEqual({ replayed: 20 });
    slow.packet(down(1024, 90));
    const second = slow.command({ op: 'export', anchor: 'a1' }).sessions;
    slow.converse(ann, HOME, ENDPOINT);
    expect(ann.received.pop()).toEqual(down(1024, 90));
    const back = new Both(another(), 0xc3n, 3);
    resume(back, second, 3n);
    arrives(ann, down(1024, 91), back);
    for (const datagram of captured) expect(back.fromDevice(datagram)).toBe('dropped');
    expect(ann.refused).toEqual([]);
  });

  it('is gone on with by the next process: forwards throughout, counts on, and refuses what was received', () => {
    const ann = begin(both, 1, [share(1024)]);
    const bob = begin(both, 2, [share(2048, 'bob')]);
    const captured = ann.data(up());
    both.fromDevice(captured);
    for (let n = 0; n < 5; n += 1) arrives(ann, down(1024, n));
    both.rig.packet(down(1024, 50));
    const { octets } = both.rig.takeSent().at(-1)!;
    ann.take(octets, both.rig.nowMs);

    const next = new Both(both.bed, 0xb2n, 2);
    arrives(ann, down(1024, 6), next);
    const left = next.rig.command({ op: 'left-behind' }).anchors;
    expect(left.map(({ anchor: id, sessions }) => [id, sessions.length])).toEqual([['a1', 2]]);
    // Bob's session ended while nobody looked.
    install1(next, 2n);
    arrives(ann, down(1024, 7), next);
    next.rig.command({ op: 'import', anchor: 'a1', sessions: left[0]!.sessions });
    expect(next.rig.engine.settling, 'nothing is taken out of the way of packets').toBe(false);
    next.rig.command({ op: 'installed', anchor: 'a1' });
    arrives(ann, down(1024, 8), next);
    expect(next.fromPeer(down(2048))).not.toBeInstanceOf(Uint8Array);
    expect(next.fromDevice(bob.data(up(2048)))).not.toBeInstanceOf(Uint8Array);
    expect(next.fromDevice(captured)).toBe('dropped');
    next.rig.packet(down(1024, 51));
    for (const sent of next.rig.takeSent()) ann.take(sent.octets, next.rig.nowMs);
    expect(ann.received.pop(), 'the slow lane goes on above its numbers').toEqual(down(1024, 51));
    expect(next.rig.counters().downlink.forwarded).toBeGreaterThanOrEqual(9);

    next.pass(1);
    next.rig.converse(ann, HOME, ENDPOINT);
    next.settle();
    expect(ann.epoch).toBe(2n);
    expect(next.fromDevice(ann.data(up()))).toEqual(older(up()));
    next.grace();
    arrives(ann, down(1024, 9), next);
    expect(ann.refused).toEqual([]);
  });

  it('charges what either engine lets through to the one rate of the session', () => {
    const rate = policing(1_000_000, 1280, 42);
    both = new Both(another(), 0xa1n, 1, rate);
    anchor(both.rig, { endpoints: [ENDPOINT] });
    const device = install(both.rig, 1, [share(1024)]);
    both.connect(device);
    // Five milliseconds each at the rate: eight fit into the burst, whichever engine takes them.
    const packet = (protocol: number) => {
      const data = udp(1024, 53, new Uint8Array(597));
      return protocol === 17
        ? ip(SHARED, PEER, 17, data)
        : ip(SHARED, PEER, 17, data, { moreFragments: true });
    };
    const isOut = (n: number) => {
      // Every other one is a fragment, which XDP leaves to the userspace engine.
      const before = both.rig.counters().uplink.policed ?? 0;
      const out = both.fromDevice(device.data(packet(n % 2 === 0 ? 17 : 44)));
      if (out === 'dropped') return false;
      return out !== null || (both.rig.counters().uplink.policed ?? 0) === before;
    };
    const passed = Array.from({ length: 20 }, (_, n) => isOut(n));
    expect(passed.filter(Boolean)).toHaveLength(8);
    expect(passed.slice(0, 8).every(Boolean)).toBe(true);
    both.pass(10);
    expect(Array.from({ length: 6 }, (_, n) => isOut(n)).filter(Boolean)).toHaveLength(2);
  });

  it('ends what was left on an anchor that the next process never installs, once its time is over', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.rig.command({ op: 'deadline', anchor: 'a1', untilMs: both.rig.nowMs + 1_000 });
    const next = new Both(both.bed, 0xb2n, 2);
    next.mirror.sweep(bootTimeNs() + 10_000_000_000n);
    arrives(ann, down(), next);
    next.mirror.sweep(bootTimeNs() + 60_000_000_000n);
    next.grace();
    expect(next.state(0)).toBe(0);
    expect(next.fromPeer(down()), 'nobody leases it here any more').toBe(null);
    expect(both.indexed()).toEqual([]);
  });

  it('stands by with all of an anchor, leaves its packets alone, and forwards when it has taken it', () => {
    const ann = standBy(both);
    expect(both.fromPeer(down()), 'the kernel may know the way to its owner').toBe(null);
    expect(both.fromDevice(ann.bind())).toBe(null);
    expect(both.rig.takeSent()).toEqual([]);
    anchor(both.rig, { endpoints: [ENDPOINT], epoch: 7n });
    both.connect(ann);
    expect(ann.epoch).toBe(7n);
    arrives(ann, down());
    expect(both.fromDevice(ann.data(up()))).toEqual(older(up()));
  });

  it('finds a session that stood by when it has a key, and receives nothing twice', () => {
    const ann = standBy(both);
    const forged = () => {
      const datagram = ann.control({ kind: 'keepalive' });
      datagram[40]! ^= 1;
      return datagram;
    };
    anchor(both.rig, { endpoints: [ENDPOINT], epoch: 7n });
    expect(both.fromDevice(forged()), 'the userspace engine sees who wakes it').toBe(null);
    both.connect(ann);
    expect(both.fromDevice(forged())).toBe('dropped');
    const datagram = ann.data(up());
    expect(both.fromDevice(datagram)).toEqual(older(up()));
    expect(both.fromDevice(datagram)).toBe('dropped');
  });

  it('finds the sessions of an anchor that is handed over at once: what is under way is under keys that go on', () => {
    const ann = standBy(both);
    both.rig.command({
      op: 'anchor',
      anchor: { ...{ id: 'a1', endpoints: [ENDPOINT], epoch: 7n, untilMs: 1e9 }, resumes: true },
    });
    expect(both.fromDevice(ann.bind())).toBe('dropped');
  });

  it('ends what a former process stood by with', () => {
    standBy(both);
    const next = new Both(both.bed, 0xb2n, 2);
    next.mirror.sweep(bootTimeNs());
    next.grace();
    expect(next.state(0)).toBe(0);
    expect(both.indexed()).toEqual([]);
  });

  it('closes what a former process left open on an anchor that another relay owns by now', () => {
    const ann = begin(both, 1, [share(1024)]);
    arrives(ann, down());
    const next = new Both(both.bed, 0xb2n, 2);
    const bob = standBy(next);
    expect(next.fromPeer(down())).toBe('dropped');
    next.rig.command({ op: 'installed', anchor: 'a1' });
    next.grace();
    expect(next.fromPeer(down()), 'nothing of the former owner is left').toBe(null);
    anchor(next.rig, { endpoints: [ENDPOINT], epoch: 7n });
    next.connect(bob);
    next.grace();
    next.settle();
    arrives(bob, down(1024, 3), next);
  });

  it('learns from the program what an ICMP error will quote', () => {
    const ann = begin(both, 1, [share(1024)]);
    const sent = ip(SHARED, PEER, 50, esp(0xabcd0001));
    expect(both.fromDevice(ann.data(sent))).toEqual(older(sent));
    const error = ip('198.51.100.77', SHARED, 1, icmp(3, 3, 0, quote(sent)));
    both.rig.packet(error);
    both.rig.converse(ann, HOME, ENDPOINT);
    expect(ann.received.pop()).toEqual(error);
  });

  it('tells a device why its packet was dropped', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.rig.takeSent();
    expect(both.fromDevice(ann.data(ip(SHARED, ENDPOINT, 17, udp(1024, 80))))).toBe('dropped');
    for (const { octets } of both.rig.takeSent()) ann.take(octets, both.rig.nowMs);
    expect(ann.messages.at(-1)).toMatchObject({ kind: 'notice', code: 314 });
  });

  function standBy({ rig }: Both): HandDevice {
    rig.command({ op: 'follow', anchor: 'a1', endpoints: [ENDPOINT] });
    return install(rig, 1, [share(1024)]);
  }

  function install1(at: { rig: EngineRig }, epoch: bigint): void {
    anchor(at.rig, { endpoints: [ENDPOINT], epoch });
    const id = sessionId(1);
    at.rig.command({ op: 'session', anchor: 'a1', session: { id, index: 1, root: rootOf(1), hint: null } });
    at.rig.command({ op: 'lease', anchor: 'a1', lease: { ...share(1024), session: id }, untilMs: 1e15 });
  }

  function resume(
    at: { rig: EngineRig; settle(): void },
    sessions: readonly SessionState[],
    epoch = 2n,
  ): void {
    install1(at, epoch);
    at.rig.command({ op: 'import', anchor: 'a1', sessions: JSON.parse(JSON.stringify(sessions)) });
    at.settle();
  }
});
