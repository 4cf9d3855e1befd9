import { expect, it } from 'vitest';
import type { PathHint } from '../../../src/protocol/lease.ts';
import { TYPE } from '../../../src/tunnel/wire.ts';
import { anchor, at, EngineRig, install, type Sent, sessionId } from './engine-rig.ts';
import { ip, lease, udp } from './packets.ts';

const PEER = '198.51.100.9';
const WIFI = at('192.0.2.10', 40_000);
const SESSIONS = 300;
const address = (index: number) => `198.18.0.${index % 200}`;
const leaseOf = (index: number) =>
  lease({
    id: `a1.${String(index).padStart(22, '0')}`,
    kind: 'rsap-ip',
    address: address(index),
    ports: { first: 1024 + 64 * index, count: 64 },
    spis: null,
  });
const down = (index: number) => ip(PEER, address(index), 17, udp(53, 1024 + 64 * index, new Uint8Array(20)));
const hint = (index: number): PathHint => ({
  session: sessionId(index),
  address: WIFI.address,
  port: WIFI.port,
  generation: 3,
  deviceBoot: 'd1'.repeat(8),
});
const isControl = ({ octets }: Sent) => octets[0]! >> 4 === TYPE.control;

function following(boot = 0xb2n): EngineRig {
  const rig = new EngineRig(boot, 2);
  rig.command({ op: 'follow', anchor: 'a1' });
  for (let index = 1; index <= SESSIONS; index += 1) install(rig, index, [leaseOf(index)]);
  return rig;
}

function counted(rig: EngineRig, group: 'uplink' | 'downlink' | 'control', name: string): number {
  return rig.command({ op: 'counters' })[group][name] ?? 0;
}

it('an anchor that is followed forwards nothing and says nothing', () => {
  const rig = following();
  rig.packet(down(1));
  rig.datagram(WIFI, new Uint8Array(116).fill(0x30));
  rig.pass(5_000);
  expect(rig.takeSent()).toEqual([]);
  expect(counted(rig, 'control', 'unknown-endpoint')).toBe(1);
});

it('when it is taken, everything is there after a few rounds, and each device is asked for a proof at its last path', () => {
  const rig = following();
  rig.command({
    op: 'anchor',
    anchor: {
      id: 'a1',
      endpoints: ['203.0.113.254'],
      epoch: 7n,
      untilMs: 1e9,
      hints: Array.from({ length: SESSIONS }, (_, i) => hint(i + 1)),
    },
  });
  rig.pass(0);
  const challenges = rig.takeSent().filter(isControl);
  expect(challenges.length).toBe(SESSIONS);
  rig.packet(down(SESSIONS));
  expect(counted(rig, 'downlink', 'held')).toBe(1);
});

it('a device that speaks is served before its turn', () => {
  const rig = following();
  const ann = install(rig, SESSIONS, []);
  anchor(rig, { epoch: 7n });
  rig.connect(ann, WIFI);
  expect(ann.epoch).toBe(7n);
  rig.packet(down(SESSIONS));
  const [data] = rig.takeSent().filter((sent) => !isControl(sent));
  ann.take(data!.octets, rig.nowMs);
  expect(ann.received).toEqual([down(SESSIONS)]);
});

it('what ends while it is followed is not installed', () => {
  const rig = following();
  rig.command({ op: 'drop-lease', anchor: 'a1', id: leaseOf(1).id });
  rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(2) });
  rig.command({ op: 'unfollow', anchor: 'other' });
  anchor(rig, { epoch: 7n });
  rig.pass(0);
  rig.packet(down(1));
  rig.packet(down(2));
  rig.packet(down(3));
  const { downlink } = rig.command({ op: 'counters' });
  expect(downlink).toMatchObject({ 'no-path': 1 });
});

it('a command about an anchor that is being taken finds all of it installed', () => {
  const rig = following();
  anchor(rig, { epoch: 7n });
  const last = SESSIONS;
  rig.command({
    op: 'lease',
    anchor: 'a1',
    lease: { ...leaseOf(last), session: sessionId(last) },
    untilMs: 2e9,
  });
  rig.packet(down(1));
  expect(counted(rig, 'downlink', 'no-path')).toBe(1);
});

it('what was followed is forgotten by `unfollow`', () => {
  const rig = following();
  rig.command({ op: 'unfollow', anchor: 'a1' });
  anchor(rig, { epoch: 7n });
  rig.pass(0);
  rig.packet(down(1));
  expect(counted(rig, 'downlink', 'no-path')).toBe(0);
});

it('a lease whose session is not followed is refused by name', () => {
  const rig = following();
  const orphan = { ...leaseOf(1), session: sessionId(999) };
  expect(() => rig.command({ op: 'lease', anchor: 'a1', lease: orphan, untilMs: 1e9 })).toThrow(
    /session .* is not installed/,
  );
});

it('a lease that cannot be installed is told, and the others are', () => {
  const rig = following();
  rig.command({
    op: 'anchor',
    anchor: { id: 'a1', endpoints: [address(5)], epoch: 7n, untilMs: 1e9 },
  });
  rig.pass(0);
  expect(rig.events.map(({ type }) => type)).toEqual(['lease-refused', 'lease-refused']);
  rig.packet(down(6));
  expect(counted(rig, 'downlink', 'no-path')).toBe(1);
});
