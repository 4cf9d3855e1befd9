import { afterEach, expect } from 'vitest';
import type { Policing } from '../../../src/datapath/decision/policing.ts';
import type { FastListener } from '../../../src/datapath/fast-path.ts';
import { boottimeOf } from '../../../src/datapath/xdp/clock.ts';
import { XdpMirror } from '../../../src/datapath/xdp/mirror.ts';
import { waitGracePeriod } from '../../../src/linux/grace-period.ts';
import type { Lease } from '../../../src/protocol/lease.ts';
import type { SessionState } from '../../../src/protocol/relay-plane.ts';
import { monotonicMs } from '../../../src/telemetry/clock.ts';
import { anchor, at, EngineRig, install, rootOf, sessionId } from '../../unit/datapath/engine-rig.ts';
import type { HandDevice } from '../../unit/datapath/hand-device.ts';
import { ip, lease, udp } from '../../unit/datapath/packets.ts';
import { BED, createBed, DEVICE_PORT, frameOf, TUNNEL_PORT, type XdpBed } from './xdp-bed.ts';

export const { endpoint: ENDPOINT, peer: PEER, shared: SHARED } = BED[4];
export const HOME = at(BED[4].device, DEVICE_PORT);
export const AWAY = at(BED[4].moved, 50_001);
export const share = (first: number, id = 'share'): Lease =>
  lease({
    id: Buffer.from(id.padEnd(8, '.')).toString('hex').padEnd(32, '0').slice(0, 32),
    kind: 'rsipsec',
    address: SHARED,
    ports: { first, count: 64 },
    spis: { first: first * 16, count: 1024 },
  });
export const down = (port = 1024, mark = 1) =>
  ip(PEER, SHARED, 17, udp(53, port, new Uint8Array(20).fill(mark)));
export const up = (port = 1024, mark = 1) =>
  ip(SHARED, PEER, 17, udp(port, 53, new Uint8Array(20).fill(mark)));

/** Both engines: what the program passes goes to the userspace engine, as the kernel would bring it there. */
export class BothEngines {
  readonly bed: XdpBed;
  readonly rig: EngineRig;
  readonly mirror: XdpMirror;
  readonly listeners: FastListener[] = [];
  /** Grace periods that were asked for and have not passed. */
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

  /** A packet from the peer comes to the device by XDP. */
  arrives(device: HandDevice, packet: Uint8Array): void {
    expect(taken(device, this.fromPeer(packet), this.rig.nowMs)).toEqual(older(packet));
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
export function sessionOf(both: BothEngines): FastListener {
  return both.listeners.at(-1)!;
}

export function begin(both: BothEngines, index: number, leases: readonly Lease[]): HandDevice {
  if (index === 1) anchor(both.rig, { endpoints: [ENDPOINT] });
  const device = install(both.rig, index, leases);
  both.connect(device);
  return device;
}

/** What the device makes of a datagram that XDP sent. */
export function taken(
  device: HandDevice,
  datagram: Uint8Array | null | 'dropped',
  nowMs: number,
): Uint8Array | null {
  if (datagram === null || datagram === 'dropped') return null;
  device.take(datagram, nowMs);
  return device.received.pop() ?? null;
}

/** The packet one hop older, as both engines' kernels make it. */
export function older(packet: Uint8Array): Uint8Array {
  const copy = packet.slice();
  copy[8]! -= 1;
  copy.set([0, 0], 10);
  let sum = 0;
  for (let i = 0; i < 20; i += 2) sum += (copy[i]! << 8) | copy[i + 1]!;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  copy.set([(~sum >> 8) & 0xff, ~sum & 0xff], 10);
  return copy;
}

/** Makes beds that are closed after each test. */
export function beds(): () => XdpBed {
  const open: XdpBed[] = [];
  afterEach(() => {
    for (const bed of open.splice(0)) bed.close();
  });
  return () => {
    const bed = createBed({ sessions: 4 });
    open.push(bed);
    return bed;
  };
}

export function standBy({ rig }: BothEngines): HandDevice {
  rig.command({ op: 'follow', anchor: 'a1', endpoints: [ENDPOINT] });
  return install(rig, 1, [share(1024)]);
}

export function install1(at: { rig: EngineRig }, epoch: bigint): void {
  anchor(at.rig, { endpoints: [ENDPOINT], epoch });
  const id = sessionId(1);
  at.rig.command({ op: 'session', anchor: 'a1', session: { id, index: 1, root: rootOf(1), hint: null } });
  at.rig.command({ op: 'lease', anchor: 'a1', lease: { ...share(1024), session: id }, untilMs: 1e15 });
}

export function resume(
  at: { rig: EngineRig; settle(): void },
  sessions: readonly SessionState[],
  epoch = 2n,
): void {
  install1(at, epoch);
  at.rig.command({ op: 'import', anchor: 'a1', sessions: JSON.parse(JSON.stringify(sessions)) });
  at.settle();
}
