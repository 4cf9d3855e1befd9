import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { compileXdp } from '../../../infra/build/xdp.ts';
import {
  attachXdp,
  linkInfo,
  openPinnedLink,
  type XdpLink,
  type XdpMode,
} from '../../../src/linux/bpf-link.ts';
import { loadBpfObject, programInfo } from '../../../src/linux/bpf-object.ts';
import { closeFd, interfaceIndex, libc } from '../../../src/linux/libc.ts';
import { DataReceiver } from '../../../src/tunnel/data.ts';
import { sipKey } from '../../../src/tunnel/siphash.ts';
import { DATA } from '../../../src/tunnel/wire.ts';
import { esp, ip, udp } from '../../unit/datapath/packets.ts';
import { describeAsRoot, until } from '../linux/own-namespace.ts';
import { BED, createBed, frameOf, putSession, putWhole, type XdpBed } from './xdp-bed.ts';
import { DOWNLINK_KEY, fromDevice, outerOf, UPLINK_KEY, withTtl } from './xdp-traffic.ts';

const PACKETS = 300;
const BURST = 50;

/** A raw socket on the far end of a link. */
interface FarEnd {
  send(frame: Uint8Array): void;
  /** Frames that came, without what the kernel sends of its own. */
  readonly came: readonly Uint8Array[];
  poll(): void;
  close(): void;
}

describeAsRoot('the XDP program on links', () => {
  let bed: XdpBed;
  let links: XdpLink[];
  let ends: FarEnd[];
  beforeEach(() => {
    bed = createBed({ clock: 'boottime' });
    links = [];
    ends = [];
    putSession(bed, { outer: 4, uplinkKey: UPLINK_KEY, downlinkKey: DOWNLINK_KEY });
    putWhole(bed, BED[4].whole);
  });
  afterEach(() => {
    for (const link of links) {
      link.detach();
      link.close();
    }
    for (const end of ends) end.close();
    bed.close();
  });

  it.each(['native', 'generic'] as const)('carries real packets both ways in %s mode', async (mode) => {
    attach(mode);
    const peer = farEnd('public-far');
    const device = farEnd('access-far');

    const down = ip(BED[4].peer, BED[4].whole, 17, udp(53, 1024, new Uint8Array(200).fill(9)));
    const receiver = new DataReceiver();
    receiver.install(sipKey(DOWNLINK_KEY), 1);
    await inBursts(device, () => peer.send(frameOf('public', down)));
    for (const frame of device.came) {
      const { datagram } = outerOf(frame, 4);
      const at = receiver.open(datagram, 0, datagram.length, 0);
      expect(at, 'accepted, and never twice').toBe(DATA.inner);
      expect(datagram.subarray(at)).toEqual(withTtl(down, 63));
    }

    const up = ip(BED[4].whole, BED[4].peer, 50, esp(0x77));
    await inBursts(peer, (i) => device.send(fromDevice(up, { sequence: i + 1 })));
    for (let sequence = 1; sequence <= 10; sequence += 1) device.send(fromDevice(up, { sequence }));
    for (const frame of peer.came) expect(frame.subarray(14)).toEqual(withTtl(up, 63));
    let replayed = 0;
    await until('replays were refused', () => {
      replayed += bed.counted()['uplink/replayed'] ?? 0;
      return replayed >= 10;
    });
    expect(peer.came).toHaveLength(PACKETS);
  });

  it('stays on its interface by a pinned link while another program takes its place', () => {
    const folder = mkdtempSync(join(tmpdir(), 'mooring-bpffs-'));
    execFileSync('mount', ['-t', 'bpf', 'bpf', folder]);
    try {
      const pin = join(folder, 'public');
      expect(openPinnedLink(pin)).toBeNull();
      bed.network.run(() => {
        const link = attachXdp(bed.object.program('relay'), bed.links.public, 'native');
        link.pin(pin);
        link.close();
      });
      const found = openPinnedLink(pin)!;
      links.push(found);
      expect(linkInfo(found.fd)).toMatchObject({
        programId: programInfo(bed.object.program('relay')).id,
        ifindex: bed.links.public,
      });
      expect(() =>
        bed.network.run(() => attachXdp(bed.object.program('relay'), bed.links.public, 'native')),
      ).toThrow(expect.objectContaining({ code: 'ERR_MOORING_XDP_ATTACH' }));
      const next = loadBpfObject(compileXdp());
      found.update(next.program('relay'));
      expect(linkInfo(found.fd).programId).toBe(programInfo(next.program('relay')).id);
      next.close();
    } finally {
      execFileSync('umount', [folder]);
      rmdirSync(folder);
    }
  });

  function attach(mode: XdpMode): void {
    bed.network.run(() => {
      // Redirected frames wake the receiving end of a veth only where it polls: by XDP of its own, or by GRO.
      for (const end of ['public-far', 'access-far']) execFileSync('ethtool', ['-K', end, 'gro', 'on']);
      for (const ifindex of [bed.links.public, bed.links.access]) {
        links.push(attachXdp(bed.object.program('relay'), ifindex, mode));
      }
    });
  }

  function farEnd(device: string): FarEnd {
    const end = bed.network.run(() => openFarEnd(interfaceIndex(device)));
    ends.push(end);
    return end;
  }
});

/** Sends all packets, never more of them at a time than a raw socket has room for. */
async function inBursts(to: FarEnd, send: (i: number) => void): Promise<void> {
  for (let i = 0; i < PACKETS; i += 1) {
    send(i);
    if ((i + 1) % BURST !== 0) continue;
    const enough = () => {
      to.poll();
      return to.came.length > i;
    };
    await until(`${i + 1} frames came`, enough, 10_000);
  }
}

function openFarEnd(ifindex: number): FarEnd {
  const [AF_PACKET, RAW_NONBLOCK, ALL] = [17, 3 | 0x800, 0x0300];
  const fd = libc.socket(AF_PACKET, RAW_NONBLOCK, ALL);
  const address = new Uint8Array(20);
  const view = new DataView(address.buffer);
  view.setUint16(0, AF_PACKET, true);
  view.setUint16(2, ALL, true);
  view.setInt32(4, ifindex, true);
  if (fd < 0 || libc.bind(fd, address, address.length) < 0) throw new Error('no raw socket');
  const came: Uint8Array[] = [];
  const buffer = new Uint8Array(4096);
  const sent = new Set<string>();
  return {
    came,
    send(frame) {
      sent.add(Buffer.from(frame).toString('hex'));
      if (libc.send(fd, frame, frame.length, 0) !== frame.length) throw new Error('not sent');
    },
    poll() {
      for (;;) {
        const length = libc.recv(fd, buffer, buffer.length, 0);
        if (length < 0) return;
        const frame = buffer.slice(0, length);
        // Only IPv4 to or from the tunnel and its packets: not what was sent here, nor neighbour discovery.
        if (frame[12] !== 8 || frame[13] !== 0 || sent.has(Buffer.from(frame).toString('hex'))) continue;
        came.push(frame);
      }
    },
    close: () => closeFd(fd),
  };
}
