import { afterAll, beforeAll, expect, it } from 'vitest';
import { esp, ip } from '../../unit/datapath/packets.ts';
import { describeAsRoot } from '../linux/own-namespace.ts';
import { BED, createBed, frameOf, putSession, putWhole, type XdpBed } from './xdp-bed.ts';

const KEY = new Uint8Array(16);

describeAsRoot('what the XDP program sends back out of the interface that it came by', () => {
  let bed: XdpBed;
  beforeAll(() => {
    bed = createBed();
    putSession(bed, { outer: 4, uplinkKey: KEY, downlinkKey: KEY });
    putWhole(bed, BED[4].whole);
  });
  afterAll(() => bed.close());

  /** A packet for a device that is on the link it came by. */
  const verdict = () =>
    bed.run('access', frameOf('access', ip(BED[4].peer, BED[4].whole, 50, esp(0x1000)))).verdict;

  it('is transmitted', () => {
    bed.put('config', 0, { redirect_only: 0 });
    expect(verdict()).toBe('tx');
  });

  it('is redirected on a veth, which wakes no other receiver of it than one with XDP of its own', () => {
    bed.put('config', 0, { redirect_only: 1 });
    expect(verdict()).toBe('redirect');
  });
});
