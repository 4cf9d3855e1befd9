import { expect, it } from 'vitest';
import type { PathHint } from '../../../src/protocol/lease.ts';
import { peekIndex } from '../../../src/tunnel/control.ts';
import { TYPE } from '../../../src/tunnel/wire.ts';
import {
  anchor,
  at,
  ENDPOINT,
  ENDPOINT6,
  EngineRig,
  install,
  rootOf,
  type Sent,
  sessionId,
} from './engine-rig.ts';
import { FastModel } from './fast-model.ts';
import { HandDevice } from './hand-device.ts';
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
const indexOf = ({ octets }: Sent) => peekIndex(octets, 0, octets.length);
const isControl = ({ octets }: Sent) => octets[0]! >> 4 === TYPE.control;

/** Those that have something to say are alone for so long, milliseconds. */
const AMONG_THEMSELVES_MS = 300;
/** Beyond this, silent sessions of an anchor that was taken over have all begun, milliseconds. */
const ALL_BEGUN_MS = AMONG_THEMSELVES_MS + SESSIONS;

function following(fast: FastModel | null = null, sessions = SESSIONS): EngineRig {
  const rig = new EngineRig(0xb2n, 2, undefined, fast);
  rig.command({ op: 'follow', anchor: 'a1', endpoints: [ENDPOINT, ENDPOINT6] });
  for (let index = 1; index <= sessions; index += 1) install(rig, index, [leaseOf(index)]);
  return rig;
}

function take(rig: EngineRig, fields: { resumes?: boolean; untilMs?: number } = {}): void {
  rig.command({
    op: 'anchor',
    anchor: {
      ...{ id: 'a1', endpoints: [ENDPOINT, ENDPOINT6], epoch: 7n },
      ...{ untilMs: fields.untilMs ?? 1e9, resumes: fields.resumes ?? false },
    },
  });
}

/** The sessions that were said to have begun since the last time. */
const takeBegun = (rig: EngineRig): string[] =>
  rig.events.splice(0).flatMap((event) => (event.type === 'begun' ? event.sessions : []));

/** Answers for the relay node: every session that has begun is told where its device was. */
function tellHints(rig: EngineRig): void {
  const begun = takeBegun(rig);
  const hints = Array.from({ length: SESSIONS }, (_, i) => hint(i + 1));
  rig.command({ op: 'hints', anchor: 'a1', hints: hints.filter(({ session }) => begun.includes(session)) });
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
  expect(counted(rig, 'downlink', 'anchor-deadline')).toBe(1);
});

it('when it is taken, everything is there at once, and nobody has been asked for anything yet', () => {
  const rig = following();
  take(rig);
  for (let index = 1; index <= SESSIONS; index += 1) rig.packet(down(index));
  expect(counted(rig, 'downlink', 'held')).toBe(SESSIONS);
});

it('silent devices are asked for a proof at their last paths bit by bit, after those that speak', () => {
  const rig = following();
  take(rig);
  rig.pass(AMONG_THEMSELVES_MS - 10);
  expect(rig.takeSent()).toEqual([]);
  rig.pass(60);
  tellHints(rig);
  const first = rig.takeSent().filter(isControl).length;
  expect(first).toBeGreaterThan(0);
  expect(first).toBeLessThan(SESSIONS / 3);
  rig.pass(ALL_BEGUN_MS);
  tellHints(rig);
  const asked = new Set(rig.takeSent().filter(isControl).map(indexOf));
  expect(asked.size).toBeGreaterThanOrEqual(SESSIONS - first);
});

it('and more slowly while the engine has much else to do', () => {
  const rig = following();
  take(rig);
  for (let turn = 0; turn < 20; turn += 1) {
    rig.nowMs += 50;
    rig.engine.tick(rig.nowMs);
  }
  tellHints(rig);
  const asked = new Set(rig.takeSent().filter(isControl).map(indexOf));
  expect(asked.size).toBeGreaterThan(0);
  expect(asked.size).toBeLessThan(SESSIONS / 3);
});

it('a device that speaks, or is spoken to, does not wait for its turn', () => {
  const rig = following();
  const ann = new HandDevice(rootOf(SESSIONS), SESSIONS, 0xd1n);
  take(rig);
  rig.packet(down(SESSIONS - 1));
  rig.engine.tick(rig.nowMs);
  expect(rig.events).toContainEqual({
    ...{ type: 'begun', anchor: 'a1' },
    sessions: expect.arrayContaining([sessionId(SESSIONS - 1)]),
  });
  tellHints(rig);
  expect(rig.takeSent().filter(isControl).map(indexOf)).toContain(SESSIONS - 1);
  rig.datagram(WIFI, ann.bind());
  expect(rig.takeSent().filter(isControl).map(indexOf)).toEqual([SESSIONS]);
});

it('each session is said to have begun once, at the next turn, whoever woke it', () => {
  const rig = following(null, 20);
  const ann = new HandDevice(rootOf(1), 1, 0xd1n);
  const bob = new HandDevice(rootOf(2), 2, 0xd2n);
  take(rig);
  rig.pass(1);
  rig.datagram(WIFI, ann.bind());
  rig.command({ op: 'rebind', anchor: 'a1', believed: WIFI, datagram: bob.bind() });
  rig.packet(down(3));
  expect(rig.engine.nextDueMs()).toBeLessThanOrEqual(rig.nowMs);
  rig.engine.tick(rig.nowMs);
  expect(takeBegun(rig)).toEqual([1, 2, 3].map(sessionId));
  rig.packet(down(3));
  rig.pass(ALL_BEGUN_MS);
  expect(takeBegun(rig).sort()).toEqual(Array.from({ length: 17 }, (_, i) => sessionId(i + 4)).sort());
});

it('of an anchor past its deadline nobody begins until the deadline is moved', () => {
  const rig = following(null, 3);
  take(rig, { untilMs: rig.nowMs + 100 });
  rig.pass(2 * ALL_BEGUN_MS);
  expect(takeBegun(rig)).toEqual([]);
  rig.command({ op: 'deadline', anchor: 'a1', untilMs: 1e9 });
  rig.pass(ALL_BEGUN_MS);
  expect(takeBegun(rig)).toHaveLength(3);
});

it('where a device was that is known before the anchor is taken is asked as soon as it is', () => {
  const rig = following(null, 1);
  rig.command({ op: 'hints', anchor: 'a1', hints: [hint(1)] });
  expect(rig.takeSent()).toEqual([]);
  take(rig);
  rig.packet(down(1));
  expect(rig.takeSent().map(({ to }) => to.key)).toEqual([WIFI.key]);
});

it('where a device was whose session is gone, or whose anchor is, is nothing to anybody', () => {
  const rig = following(null, 1);
  take(rig);
  rig.command({ op: 'hints', anchor: 'a1', hints: [hint(2)] });
  rig.command({ op: 'hints', anchor: 'other', hints: [hint(1)] });
  rig.pass(ALL_BEGUN_MS);
  expect(rig.takeSent()).toEqual([]);
});

it('what it is sent meanwhile waits for the proof at its last path, which is read only then', () => {
  const rig = following();
  const ann = new HandDevice(rootOf(1), 1, 0xd1d1d1d1d1d1d1d1n);
  take(rig);
  rig.packet(down(1));
  rig.engine.tick(rig.nowMs);
  tellHints(rig);
  const [challenge] = rig.takeSent().filter((sent) => indexOf(sent) === 1);
  ann.generation = 3;
  rig.datagram(WIFI, ann.proof(ann.take(challenge!.octets, rig.nowMs)!));
  expect(rig.takeSent().some((sent) => !isControl(sent) && indexOf(sent) === 1)).toBe(true);
});

it('a hint that comes after the device has bound changes nothing', () => {
  const rig = following();
  const ann = new HandDevice(rootOf(SESSIONS), SESSIONS, 0xd1n);
  take(rig);
  rig.connect(ann, at('192.0.2.77', 41_000));
  rig.takeSent();
  rig.command({ op: 'hints', anchor: 'a1', hints: [hint(SESSIONS)] });
  expect(rig.takeSent()).toEqual([]);
});

it('a device that binds is served', () => {
  const rig = following();
  const ann = new HandDevice(rootOf(SESSIONS), SESSIONS, 0xd1n);
  take(rig);
  rig.connect(ann, WIFI);
  expect(ann.epoch).toBe(7n);
  rig.packet(down(SESSIONS));
  const [data] = rig.takeSent().filter((sent) => !isControl(sent));
  ann.take(data!.octets, rig.nowMs);
  expect(ann.received).toEqual([down(SESSIONS)]);
});

it('a deadline on its way to the former owner opens nothing', () => {
  const rig = following();
  expect(() => rig.command({ op: 'deadline', anchor: 'a1', untilMs: 1e9 })).toThrow(/not installed/);
  rig.command({ op: 'drop-anchor', anchor: 'a1' });
  rig.packet(down(1));
  expect(counted(rig, 'downlink', 'anchor-deadline')).toBe(1);
});

it('what the other relay hands over goes on, and nobody is challenged before', () => {
  const owner = new EngineRig(0xb1n, 1);
  anchor(owner, { epoch: 6n });
  const ann = install(owner, 1, [leaseOf(1)]);
  owner.connect(ann, WIFI);
  const { sessions } = owner.command({ op: 'export', anchor: 'a1' });
  const rig = following();
  take(rig, { resumes: true });
  rig.pass(100);
  rig.packet(down(2));
  expect(rig.takeSent()).toEqual([]);
  rig.command({ op: 'import', anchor: 'a1', sessions });
  rig.packet(down(1));
  const [data] = rig.takeSent().filter((sent) => !isControl(sent));
  ann.take(data!.octets, rig.nowMs);
  expect(ann.received).toEqual([down(1)]);
  rig.pass(ALL_BEGUN_MS);
  expect(takeBegun(rig), 'where it is need not be read').not.toContain(sessionId(1));
});

it('the engine in front leaves an anchor alone that is followed, and has all of it when it is taken', () => {
  const fast = new FastModel(() => undefined);
  const rig = following(fast);
  expect(fast.sessions.size).toBe(SESSIONS);
  expect(fast.leases.size).toBe(SESSIONS);
  expect(fast.downlink(down(1), rig.nowMs)).toBe(false);
  expect(fast.anchors.get('a1')).toMatchObject({ epoch: null });
  take(rig);
  expect(fast.anchors.get('a1')).toMatchObject({ epoch: 7n, untilMs: 1e9 });
});

it('what ends while it is followed is not installed', () => {
  const rig = following();
  rig.command({ op: 'drop-lease', anchor: 'a1', id: leaseOf(1).id });
  rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(2) });
  rig.command({ op: 'unfollow', anchor: 'other' });
  take(rig);
  rig.packet(down(1));
  rig.packet(down(2));
  rig.packet(down(3));
  const { downlink } = rig.command({ op: 'counters' });
  expect(downlink).toMatchObject({ held: 1 });
});

it('a command about an anchor that was just taken finds all of it installed', () => {
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
  expect(counted(rig, 'downlink', 'held')).toBe(1);
});

it('what was followed is forgotten by `unfollow`', () => {
  const rig = following();
  rig.command({ op: 'unfollow', anchor: 'a1' });
  anchor(rig, { epoch: 7n });
  rig.pass(0);
  rig.packet(down(1));
  expect(counted(rig, 'downlink', 'held')).toBe(0);
});

it('a lease whose session is not followed is refused by name', () => {
  const rig = following();
  const orphan = { ...leaseOf(1), session: sessionId(999) };
  expect(() => rig.command({ op: 'lease', anchor: 'a1', lease: orphan, untilMs: 1e9 })).toThrow(
    /session .* is not installed/,
  );
});

it('a lease whose resources are another’s is told, and the others stand by', () => {
  const rig = new EngineRig(0xb2n, 2);
  anchor(rig, { id: 'own', endpoints: ['203.0.113.254'] });
  install(rig, 1_000, [leaseOf(5)], { anchor: 'own' });
  rig.command({ op: 'follow', anchor: 'a1', endpoints: [ENDPOINT] });
  install(rig, 5, [{ ...leaseOf(5), id: `a1.${'9'.repeat(22)}` }]);
  install(rig, 6, [leaseOf(6)]);
  expect(rig.events.map(({ type }) => type)).toEqual(['lease-refused']);
  rig.command({ op: 'anchor', anchor: { id: 'a1', endpoints: [ENDPOINT], epoch: 7n, untilMs: 1e9 } });
  rig.packet(down(5));
  rig.packet(down(6));
  expect(counted(rig, 'downlink', 'no-path')).toBe(1);
  expect(counted(rig, 'downlink', 'held')).toBe(1);
});
