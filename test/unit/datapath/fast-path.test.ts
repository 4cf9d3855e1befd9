import { beforeEach, expect, it } from 'vitest';
import { anchor, at, ENDPOINT, EngineRig, install, rootOf, sessionId } from './engine-rig.ts';
import { FastModel } from './fast-model.ts';
import type { HandDevice } from './hand-device.ts';
import { ip, lease, udp } from './packets.ts';

const SHARED = '203.0.113.7';
const PEER = '198.51.100.9';
const WIFI = at('192.0.2.10', 40_000);
const LTE = at('192.0.2.77', 50_000);
const held = lease({ kind: 'rsap-ip', address: SHARED, ports: { first: 1024, count: 64 } });
const down = (n = 0) => ip(PEER, SHARED, 17, udp(53, 1024, new Uint8Array(20).fill(n)));
const up = (n = 0) => ip(SHARED, PEER, 17, udp(1024, 53, new Uint8Array(20).fill(n)));

let fast: FastModel;
let rig: EngineRig;
let ann: HandDevice;
beforeEach(() => {
  fast = new FastModel((sent) => void rig.sent.push(sent));
  rig = new EngineRig(0xa1n, 1, undefined, fast);
  anchor(rig, { untilMs: 100_000 });
  ann = install(rig, 1, [held]);
  rig.connect(ann, WIFI);
  rig.engine.settle(rig.nowMs);
});
const mirrored = () => [...fast.sessions][0]!;
const way = () => mirrored().current;
/** As the packet thread does: the fast engine first. */
const arrives = (datagram: Uint8Array, from = WIFI) => {
  const inner = fast.uplink(ENDPOINT, from, datagram, rig.nowMs);
  if (inner === null) rig.datagram(from, datagram);
  return inner;
};
const bypasses = (datagram: Uint8Array, from = WIFI) => {
  rig.engine.bypassed(ENDPOINT, datagram, 0, datagram.length, rig.nowMs);
  rig.datagram(from, datagram);
};

it('a session without a proven path has no way, one with a path has that', () => {
  const bob = install(rig, 2, []);
  expect([...fast.sessions][1]!.current).toBe(null);
  expect(way()).toMatchObject({ path: WIFI, endpoint: ENDPOINT, heldUntilMs: null });
  expect(bob.keyNumber).toBe(0);
});

it('every deadline of an anchor and of a lease is the fast engine’s too', () => {
  const untilMs = () => [...fast.anchors.values()][0]!.untilMs;
  expect(untilMs()).toBe(100_000);
  rig.command({ op: 'deadline', anchor: 'a1', untilMs: 200_000 });
  expect(untilMs()).toBe(200_000);
  const extended = { ...held, session: sessionId(1) };
  rig.command({ op: 'lease', anchor: 'a1', lease: extended, untilMs: 5_000 });
  expect([...fast.leases.values()][0]!.untilMs).toBe(5_000);
  const { sessions } = rig.command({ op: 'export', anchor: 'a1' });
  expect(untilMs()).toBe(Number.NEGATIVE_INFINITY);
  rig.command({ op: 'deadline', anchor: 'a1', untilMs: 300_000 });
  expect(untilMs(), 'a renewal on its way does not open what is another relay’s').toBe(
    Number.NEGATIVE_INFINITY,
  );
  rig.command({ op: 'import', anchor: 'a1', sessions });
  expect(untilMs()).toBe(300_000);
});

it('a hold leaves packets to this engine at once, ends there behind what was queued, and then in front', () => {
  rig.datagram(WIFI, ann.control({ kind: 'hold' }));
  expect(way()!.heldUntilMs).toBeGreaterThan(rig.nowMs);
  expect(fast.downlink(down(1), rig.nowMs)).toBe(false);
  rig.packet(down(1));
  rig.takeSent();
  rig.pass(2_000);
  expect(rig.takeSent().length, 'the queue leaves').toBe(1);
  expect(fast.downlink(down(2), rig.nowMs), 'what is under way leaves first').toBe(false);
  rig.packet(down(2));
  expect(rig.engine.settling).toBe(true);
  rig.engine.settle(rig.nowMs);
  expect(fast.downlink(down(3), rig.nowMs)).toBe(true);
  for (const { octets } of rig.takeSent()) ann.take(octets, rig.nowMs);
  expect(ann.received.slice(-2)).toEqual([down(2), down(3)]);
});

it('a move flips the way without a hold when the old path still works', () => {
  rig.datagram(LTE, ann.bind('alive'));
  expect(way()).toMatchObject({ path: WIFI, heldUntilMs: null });
  rig.converse(ann, LTE);
  expect(way()).toMatchObject({ path: LTE, heldUntilMs: null });
  expect(mirrored().known).toMatchObject({ generation: ann.generation, deviceBoot: ann.boot });
});

it('a new key is sent under once the device has it, and its numbers begin anew', () => {
  fast.downlink(down(), rig.nowMs);
  const before = way()!.key.name.keyNumber;
  mirrored().listener.fastRekey(before, rig.nowMs);
  expect(way()!.key.name.keyNumber).toBe(before);
  rig.converse(ann, WIFI);
  expect(way()!.key.name.keyNumber).toBe(before + 1);
  expect(mirrored().nextSequence(before + 1)).toBe(1);
  expect(mirrored().nextSequence(before)).toBe(2);
});

it('names numbers of its own lane to the next process before it uses them', () => {
  for (let n = 0; n < 200; n += 1) {
    rig.packet(down());
    expect(mirrored().reserved).toBeGreaterThan(n + 1);
  }
});

it('names the numbers of a new key from its beginning', () => {
  for (let n = 0; n < 200; n += 1) rig.packet(down());
  mirrored().listener.fastRekey(way()!.key.name.keyNumber, rig.nowMs);
  rig.converse(ann, WIFI);
  rig.packet(down());
  expect(mirrored().reserved).toBeGreaterThan(1);
  expect(mirrored().reserved).toBeLessThan(200);
});

it('names the numbers that another relay has used before it uses any itself', () => {
  for (let n = 0; n < 200; n += 1) rig.packet(down());
  const { sessions } = rig.command({ op: 'export', anchor: 'a1' });
  const next = new FastModel(() => undefined);
  const heir = new EngineRig(0xb2n, 2, undefined, next);
  anchor(heir, { epoch: 2n, resumes: true });
  install(heir, 1, [held]);
  heir.command({ op: 'import', anchor: 'a1', sessions });
  expect([...next.sessions][0]!.reserved).toBe(sessions[0]!.data.nextSequence);
});

it('a way that the fast engine can take only later is gone on with behind what it left to this one', () => {
  mirrored().listener.fastReady(rig.nowMs);
  expect(fast.downlink(down(), rig.nowMs)).toBe(false);
  expect(rig.engine.settling).toBe(true);
  rig.engine.settle(rig.nowMs);
  expect(fast.downlink(down(), rig.nowMs)).toBe(true);
});

it('nothing is waited for on behalf of a session that has ended', () => {
  mirrored().listener.fastReady(rig.nowMs);
  rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(1) });
  expect(rig.engine.settling).toBe(false);
});

it('what came past the fast engine is not admitted a second time, nor the reverse', () => {
  const [seen, past, later] = [ann.data(up(1)), ann.data(up(2)), ann.data(up(3))];
  expect(arrives(seen)).toEqual(up(1));
  bypasses(past);
  expect(rig.takeToNetwork()).toEqual([up(2)]);
  bypasses(seen);
  expect(arrives(past), 'the fast engine leaves it to this one').toBe(null);
  expect(arrives(later)).toBe(null);
  expect(rig.takeToNetwork()).toEqual([up(3)]);
  expect(rig.counters().uplink).toEqual({ forwarded: 2, replayed: 2 });
});

it('octets that no key verifies change nothing about who receives', () => {
  const forged = ann.data(up(1));
  forged[9]! ^= 1;
  bypasses(forged);
  expect(arrives(ann.data(up(2)))).toEqual(up(2));
});

it('a session that ends is gone from the fast engine, with its leases and index', () => {
  rig.command({ op: 'drop-session', anchor: 'a1', id: sessionId(1) });
  expect([fast.sessions.size, fast.leases.size]).toEqual([0, 0]);
  const other = { id: 'ee'.repeat(16), index: 1, root: rootOf(7), hint: null };
  rig.command({ op: 'session', anchor: 'a1', session: other });
  expect(fast.sessions.size).toBe(1);
  rig.command({ op: 'drop-anchor', anchor: 'a1' });
  expect([fast.sessions.size, fast.anchors.size]).toEqual([0, 0]);
});
