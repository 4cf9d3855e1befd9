import { beforeEach, expect, it } from 'vitest';
import { policing } from '../../../src/datapath/decision/policing.ts';
import { bootTimeNs } from '../../../src/linux/boot-time.ts';
import { anchor, install, rootOf, sessionId } from '../../unit/datapath/engine-rig.ts';
import { HandDevice } from '../../unit/datapath/hand-device.ts';
import { esp, icmp, ip, quote, udp } from '../../unit/datapath/packets.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import {
  AWAY,
  BothEngines,
  beds,
  begin,
  down,
  ENDPOINT,
  HOME,
  older,
  PEER,
  SHARED,
  sessionOf,
  share,
  taken,
  up,
} from './both-engines.ts';
import { frameOf } from './xdp-bed.ts';

describeAsRoot('the mirror in the XDP program', () => {
  const another = beds();
  let both: BothEngines;
  beforeEach(() => {
    both = new BothEngines(another());
  });

  it('carries a session both ways once its device has proven itself, and not before', () => {
    anchor(both.rig, { endpoints: [ENDPOINT] });
    const ann = install(both.rig, 1, [share(1024)]);
    expect(both.fromPeer(down())).toBe(null);
    both.connect(ann);
    both.arrives(ann, down());
    expect(both.fromDevice(ann.data(up()))).toEqual(older(up()));
    expect(ann.refused).toEqual([]);
  });

  it('counts as one what either engine decided', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.arrives(ann, down());
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
    both.arrives(ann, down(1024, 3));
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
    both.arrives(ann, down());
    both.bed.setNow(bootTimeNs() + 6_000_000_000n);
    expect(both.fromPeer(down())).toBe('dropped');
    expect(both.fromDevice(ann.data(up())), 'the userspace engine says why').toBe(null);
    both.rig.command({ op: 'lease', anchor: 'a1', lease: held, untilMs: untilMs + 60_000 });
    both.arrives(ann, down());
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
    both.arrives(bob, down());
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

  it('charges what either engine lets through to the one rate of the session', () => {
    const rate = policing(1_000_000, 1280, 42);
    both = new BothEngines(another(), 0xa1n, 1, rate);
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
});
