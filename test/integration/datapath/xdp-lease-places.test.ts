import { beforeEach, expect, it } from 'vitest';
import type { Lease } from '../../../src/protocol/lease.ts';
import { anchor, rootOf, sessionId } from '../../unit/datapath/engine-rig.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import { BothEngines, beds, begin, down, ENDPOINT, older, share, up } from './both-engines.ts';

describeAsRoot('the leases of a session in the XDP program', () => {
  const another = beds();
  let both: BothEngines;
  beforeEach(() => {
    both = new BothEngines(another());
  });

  const put = (lease: Lease, index: number, at = both) =>
    at.rig.command({
      ...{ op: 'lease', anchor: 'a1', untilMs: 1e15 },
      lease: { ...lease, session: sessionId(index) },
    });

  it('leaves a third lease to the userspace engine until one of the first two has gone', () => {
    const shares = [1024, 2048, 4096].map((first) => share(first, `from-${first}`));
    const ann = begin(both, 1, shares);
    both.arrives(ann, down(1024));
    both.arrives(ann, down(2048));
    expect(both.fromPeer(down(4096))).toBe(null);
    expect(both.fromPeer(down(9000)), 'the address is not known whole').toBe(null);
    both.rig.command({ op: 'drop-lease', anchor: 'a1', id: shares[0]!.id });
    expect(both.fromPeer(down(4096))).toBe(null);
    both.grace();
    both.arrives(ann, down(4096));
    expect(both.fromPeer(down(1024)), 'known whole: nobody leases it').toBe('dropped');
  });

  /** The share with its port block doubled. */
  const doubled = (first: number, id?: string): Lease => ({
    ...share(first, id),
    ports: { first, count: 128 },
  });

  it('doubles a port block in place, beside smaller ones', () => {
    const ann = begin(both, 1, [share(1024)]);
    const bob = begin(both, 2, [share(2048, 'bob')]);
    expect(both.fromPeer(down(1100))).toBe('dropped');
    put(doubled(1024), 1);
    for (const port of [1024, 1087, 1088, 1151]) both.arrives(ann, down(port));
    expect(both.fromPeer(down(1152))).toBe('dropped');
    expect(both.fromDevice(ann.data(up(1151)))).toEqual(older(up(1151)));
    expect(both.fromDevice(bob.data(up(1151)))).toBe(null);
    both.arrives(bob, down(2048));
    both.grace();
    put(share(1024), 1);
    expect(both.fromPeer(down(1088)), 'an older registry knows half of it').toBe('dropped');
    both.arrives(ann, down(1087));
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
    both.arrives(ann, down(2048));
    both.grace();
    for (const port of [1024, 1151, 2048]) both.arrives(ann, down(port));
    expect(both.fromPeer(down(1152))).toBe('dropped');
  });

  it('finds doubled blocks when a smaller one comes beside them', () => {
    const ann = begin(both, 1, [doubled(1024)]);
    expect(both.fromPeer(down(2048))).toBe('dropped');
    const bob = begin(both, 2, [share(2048, 'bob')]);
    for (const port of [1024, 1151]) both.arrives(ann, down(port));
    for (const port of [2048, 2111]) both.arrives(bob, down(port));
    for (const port of [1023, 1152, 2112]) expect(both.fromPeer(down(port))).toBe('dropped');
  });

  it('loses nothing of the smaller blocks when the next process hears of the doubled one first', () => {
    const ann = begin(both, 1, [share(1024)]);
    const bob = begin(both, 2, [share(2048, 'bob')]);
    put(doubled(1024), 1);
    const next = new BothEngines(both.bed, 0xb2n, 2);
    anchor(next.rig, { endpoints: [ENDPOINT], epoch: 2n });
    const session = (n: number) =>
      next.rig.command({
        ...{ op: 'session', anchor: 'a1' },
        session: { id: sessionId(n), index: n, root: rootOf(n), hint: null },
      });
    session(1);
    put(doubled(1024), 1, next);
    next.arrives(bob, down(2048));
    session(2);
    put(share(2048, 'bob'), 2, next);
    for (const port of [1024, 1151]) next.arrives(ann, down(port));
    next.arrives(bob, down(2111));
  });
});
