import { beforeEach, expect, it } from 'vitest';
import { bootTimeNs } from '../../../src/linux/boot-time.ts';
import { anchor, EngineRig } from '../../unit/datapath/engine-rig.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import {
  BothEngines,
  beds,
  begin,
  down,
  ENDPOINT,
  HOME,
  install1,
  older,
  resume,
  share,
  standBy,
  up,
} from './both-engines.ts';

describeAsRoot('the XDP program under another process or relay', () => {
  const another = beds();
  let both: BothEngines;
  beforeEach(() => {
    both = new BothEngines(another());
  });

  it('hands a session over to another relay with XDP: no number twice, nothing received twice, nothing lost', () => {
    const ann = begin(both, 1, [share(1024)]);
    const captured = Array.from({ length: 50 }, (_, n) => ann.data(up(1024, n)));
    for (const [n, datagram] of captured.entries()) if (n % 3 !== 0) both.fromDevice(datagram);
    for (let n = 0; n < 20; n += 1) both.arrives(ann, down(1024, n));
    const { sessions } = both.rig.command({ op: 'export', anchor: 'a1' });
    expect(both.fromPeer(down())).toBe('dropped');
    const next = new BothEngines(another(), 0xb2n, 2);
    resume(next, sessions);
    next.arrives(ann, down(1024, 77));
    for (const datagram of captured) next.fromDevice(datagram);
    expect(next.rig.counters().uplink).toEqual({ forwarded: 17, replayed: 33 });
    next.pass(1);
    next.rig.converse(ann, HOME, ENDPOINT);
    expect(ann.epoch).toBe(2n);
    expect(next.fromDevice(ann.data(up()))).toEqual(older(up()));
    next.settle();
    next.arrives(ann, down(1024, 78));
    expect(ann.refused).toEqual([]);
  });

  it('hands a session over to a relay without XDP and back', () => {
    const ann = begin(both, 1, [share(1024)]);
    const captured = Array.from({ length: 20 }, (_, n) => ann.data(up(1024, n)));
    for (const datagram of captured) both.fromDevice(datagram);
    for (let n = 0; n < 20; n += 1) both.arrives(ann, down(1024, n));
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
    const back = new BothEngines(another(), 0xc3n, 3);
    resume(back, second, 3n);
    back.arrives(ann, down(1024, 91));
    for (const datagram of captured) expect(back.fromDevice(datagram)).toBe('dropped');
    expect(ann.refused).toEqual([]);
  });

  it('is gone on with by the next process: forwards throughout, counts on, and refuses what was received', () => {
    const ann = begin(both, 1, [share(1024)]);
    const bob = begin(both, 2, [share(2048, 'bob')]);
    const captured = ann.data(up());
    both.fromDevice(captured);
    for (let n = 0; n < 5; n += 1) both.arrives(ann, down(1024, n));
    both.rig.packet(down(1024, 50));
    const { octets } = both.rig.takeSent().at(-1)!;
    ann.take(octets, both.rig.nowMs);

    const next = new BothEngines(both.bed, 0xb2n, 2);
    next.arrives(ann, down(1024, 6));
    const left = next.rig.command({ op: 'left-behind' }).anchors;
    expect(left.map(({ anchor: id, sessions }) => [id, sessions.length])).toEqual([['a1', 2]]);
    // Bob's session ended while nobody looked.
    install1(next, 2n);
    next.arrives(ann, down(1024, 7));
    next.rig.command({ op: 'import', anchor: 'a1', sessions: left[0]!.sessions });
    expect(next.rig.engine.settling, 'nothing is taken out of the way of packets').toBe(false);
    next.rig.command({ op: 'installed', anchor: 'a1' });
    next.arrives(ann, down(1024, 8));
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
    next.arrives(ann, down(1024, 9));
    expect(ann.refused).toEqual([]);
  });

  it('ends what was left on an anchor that the next process never installs, once its time is over', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.rig.command({ op: 'deadline', anchor: 'a1', untilMs: both.rig.nowMs + 1_000 });
    const next = new BothEngines(both.bed, 0xb2n, 2);
    next.mirror.sweep(bootTimeNs() + 10_000_000_000n);
    next.arrives(ann, down());
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
    both.arrives(ann, down());
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
    const next = new BothEngines(both.bed, 0xb2n, 2);
    next.mirror.sweep(bootTimeNs());
    next.grace();
    expect(next.state(0)).toBe(0);
    expect(both.indexed()).toEqual([]);
  });

  it('closes what a former process left open on an anchor that another relay owns by now', () => {
    const ann = begin(both, 1, [share(1024)]);
    both.arrives(ann, down());
    const next = new BothEngines(both.bed, 0xb2n, 2);
    const bob = standBy(next);
    expect(next.fromPeer(down())).toBe('dropped');
    next.rig.command({ op: 'installed', anchor: 'a1' });
    next.grace();
    expect(next.fromPeer(down()), 'nothing of the former owner is left').toBe(null);
    anchor(next.rig, { endpoints: [ENDPOINT], epoch: 7n });
    next.connect(bob);
    next.grace();
    next.settle();
    next.arrives(bob, down(1024, 3));
  });
});
