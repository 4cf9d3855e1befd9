import { Value } from 'typebox/value';
import { expect, it } from 'vitest';
import { SessionState } from '../../../src/protocol/relay-plane.ts';
import { CONTROL, TYPE } from '../../../src/tunnel/wire.ts';
import { anchor, at, EngineRig, install, type Sent } from './engine-rig.ts';
import type { HandDevice } from './hand-device.ts';
import { ip, lease, udp } from './packets.ts';

const SHARED = '203.0.113.7';
const PEER = '198.51.100.9';
const WIFI = at('192.0.2.10', 40_000);
const LTE = at('192.0.2.77', 50_000);
const held = lease({ kind: 'rsap-ip', address: SHARED, ports: { first: 1024, count: 64 } });
const down = (n: number) => ip(PEER, SHARED, 17, udp(53, 1024, new Uint8Array(20).fill(n)));
const up = (n: number) => ip(SHARED, PEER, 17, udp(1024, 53, new Uint8Array(20).fill(n)));

function begin(boot: bigint, epoch: bigint): { rig: EngineRig; ann: HandDevice } {
  const rig = new EngineRig(boot, Number(boot));
  anchor(rig, { epoch });
  return { rig, ann: install(rig, 1, [held]) };
}

/** Moves the anchor as the relay nodes do: through JSON, into an anchor that is installed there before. */
function handOver(from: EngineRig, to: EngineRig, epoch: bigint): readonly SessionState[] {
  const { sessions } = from.command({ op: 'export', anchor: 'a1' });
  const received = JSON.parse(JSON.stringify(sessions)) as SessionState[];
  for (const state of received) expect(Value.Errors(SessionState, state)).toEqual([]);
  to.nowMs = from.nowMs;
  anchor(to, { epoch });
  to.command({
    op: 'session',
    anchor: 'a1',
    session: { id: `${'0'.repeat(31)}1`, index: 1, root: new Uint8Array(32).fill(1), hint: null },
  });
  to.command({ op: 'lease', anchor: 'a1', lease: { ...held, session: `${'0'.repeat(31)}1` }, untilMs: 1e9 });
  to.command({ op: 'import', anchor: 'a1', sessions: received });
  return received;
}

/** Delivers what a relay sent to a path, and sends proofs back; the DATA that arrived. */
function deliver(rig: EngineRig, device: HandDevice, path = WIFI): Uint8Array[] {
  device.received.length = 0;
  rig.converse(device, path);
  return [...device.received];
}

const isControl = ({ octets }: Sent) => octets[0]! >> 4 === TYPE.control;

it('a planned hand-over loses nothing in either direction, before and after the device hears of it', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  one.packet(down(1));
  one.datagram(WIFI, ann.data(up(1)));
  expect(deliver(one, ann)).toEqual([down(1)]);
  const { rig: two } = { rig: new EngineRig(0xb2n, 2) };
  handOver(one, two, 2n);

  two.packet(down(2));
  two.datagram(WIFI, ann.data(up(2)));
  expect(two.takeToNetwork()).toEqual([up(2)]);
  const first = two.takeSent();
  expect(first.filter(isControl)).toEqual([]);
  for (const { octets } of first) ann.take(octets, two.nowMs);
  expect(ann.received.at(-1)).toEqual(down(2));
  expect(ann.epoch).toBe(1n);

  two.pass(1);
  deliver(two, ann);
  expect(ann.epoch).toBe(2n);
  two.datagram(WIFI, ann.data(up(3)));
  two.packet(down(3));
  expect(two.takeToNetwork()).toEqual([up(3)]);
  expect(deliver(two, ann)).toEqual([down(3)]);
  expect(ann.refused).toEqual([]);
  expect(two.counters().uplink).toEqual({ forwarded: 2 });
  expect(two.counters().downlink).toEqual({ forwarded: 2 });
});

it('the former owner forwards nothing from the export on', () => {
  const { rig, ann } = begin(0xa1n, 1n);
  rig.connect(ann, WIFI);
  rig.command({ op: 'export', anchor: 'a1' });
  rig.takeSent();
  rig.packet(down(1));
  rig.datagram(WIFI, ann.data(up(1)));
  rig.datagram(LTE, ann.bind('dead'));
  rig.pass(20_000);
  expect(rig.takeSent()).toEqual([]);
  expect(rig.takeToNetwork()).toEqual([]);
});

it('what the former owner received is not accepted again by the next', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  const captured = Array.from({ length: 100 }, (_, n) => ann.data(up(n)));
  for (const [n, datagram] of captured.entries()) if (n % 3 !== 0) one.datagram(WIFI, datagram);
  const two = new EngineRig(0xb2n, 2);
  handOver(one, two, 2n);
  for (const datagram of captured) two.datagram(WIFI, datagram);
  expect(two.takeToNetwork()).toEqual(captured.map((_, n) => up(n)).filter((_, n) => n % 3 === 0));
  expect(two.counters().uplink.replayed).toBe(66);
});

it('a captured rebind means nothing to the next owner', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  const old = ann.bind('alive');
  one.datagram(LTE, old);
  one.converse(ann, LTE);
  one.datagram(WIFI, ann.bind('alive'));
  one.converse(ann, WIFI);
  const two = new EngineRig(0xb2n, 2);
  handOver(one, two, 2n);
  two.pass(1);
  two.converse(ann, WIFI);
  two.takeSent();
  two.datagram(LTE, old);
  two.packet(down(1));
  expect(two.takeSent().map(({ to }) => to.key)).toEqual([WIFI.key]);
});

it('an anchor handed on before the device heard of the first change still loses nothing', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  one.packet(down(1));
  deliver(one, ann);
  const two = new EngineRig(0xb2n, 2);
  const three = new EngineRig(0xc3n, 3);
  handOver(one, two, 2n);
  two.packet(down(2));
  const missed = two.takeSent();
  handOver(two, three, 3n);
  three.packet(down(3));
  three.datagram(WIFI, ann.data(up(1)));
  expect(three.takeToNetwork()).toEqual([up(1)]);
  for (const { octets } of [...missed, ...three.takeSent()]) ann.take(octets, three.nowMs);
  expect(ann.received).toEqual([down(1), down(2), down(3)]);
  expect(ann.refused).toEqual([]);
  three.pass(1);
  deliver(three, ann);
  expect(ann.epoch).toBe(3n);
  three.packet(down(4));
  expect(deliver(three, ann)).toEqual([down(4)]);
});

it('old keys are received for ten seconds after the next owner announced new ones, and no longer', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  const late = [ann.data(up(1)), ann.data(up(2))];
  const two = new EngineRig(0xb2n, 2);
  handOver(one, two, 2n);
  two.pass(0);
  two.pass(9_999);
  two.datagram(WIFI, late[0]!);
  expect(two.takeToNetwork()).toEqual([up(1)]);
  two.pass(2);
  two.datagram(WIFI, late[1]!);
  expect(two.takeToNetwork()).toEqual([]);
});

it('packets that wait at a flip leave before the export', () => {
  const { rig, ann } = begin(0xa1n, 1n);
  rig.connect(ann, WIFI);
  rig.datagram(LTE, ann.bind('dead'));
  rig.takeSent();
  rig.packet(down(1));
  rig.command({ op: 'export', anchor: 'a1' });
  expect(deliver(rig, ann)).toEqual([down(1)]);
});

it('a renewal that arrives after the export does not make the former owner forward again', () => {
  const { rig, ann } = begin(0xa1n, 1n);
  rig.connect(ann, WIFI);
  rig.command({ op: 'export', anchor: 'a1' });
  rig.command({ op: 'deadline', anchor: 'a1', untilMs: 1e9 });
  rig.takeSent();
  rig.packet(down(1));
  rig.datagram(WIFI, ann.data(up(1)));
  expect(rig.takeSent()).toEqual([]);
  expect(rig.takeToNetwork()).toEqual([]);
});

it.each(['anchor, then import', 'import'])('an owner takes its own export back and goes on (%s)', (order) => {
  const { rig, ann } = begin(0xa1n, 1n);
  rig.connect(ann, WIFI);
  rig.packet(down(1));
  deliver(rig, ann);
  const captured = ann.data(up(1));
  rig.datagram(WIFI, captured);
  const { sessions } = rig.command({ op: 'export', anchor: 'a1' });
  rig.pass(600);
  if (order !== 'import') {
    anchor(rig);
    rig.packet(down(2));
  }
  rig.command({ op: 'import', anchor: 'a1', sessions });
  if (order === 'import') rig.packet(down(2));
  expect(deliver(rig, ann)).toEqual([down(2)]);
  rig.takeToNetwork();
  rig.datagram(WIFI, captured);
  rig.datagram(WIFI, ann.data(up(2)));
  expect(rig.takeToNetwork()).toEqual([up(2)]);
  rig.datagram(LTE, ann.bind('alive'));
  deliver(rig, ann, LTE);
  rig.pass(600);
  rig.packet(down(3));
  expect(deliver(rig, ann, LTE)).toEqual([down(3)]);
  expect(ann.refused).toEqual([]);
});

it('the same state imported twice does not rewind a sequence number', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  const two = new EngineRig(0xb2n, 2);
  const sessions = handOver(one, two, 2n);
  for (let n = 1; n <= 3; n += 1) {
    two.packet(down(n));
    two.command({ op: 'import', anchor: 'a1', sessions });
  }
  expect(deliver(two, ann)).toEqual([down(1), down(2), down(3)]);
  two.pass(1);
  deliver(two, ann);
  two.command({ op: 'import', anchor: 'a1', sessions });
  two.packet(down(4));
  expect(deliver(two, ann)).toEqual([down(4)]);
  expect(ann.refused).toEqual([]);
});

it('a relay that awaits the state says nothing before it, and so changes no keys', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  const deviceBoot = ann.boot.toString(16).padStart(16, '0');
  const { address, port } = WIFI;
  const two = new EngineRig(0xb2n, 2);
  two.nowMs = one.nowMs;
  anchor(two, { epoch: 2n, resumes: true });
  const id = `${'0'.repeat(31)}1`;
  const hint = { session: id, address, port, generation: 1, deviceBoot };
  two.command({
    op: 'session',
    anchor: 'a1',
    session: { id, index: 1, root: new Uint8Array(32).fill(1), hint },
  });
  two.command({ op: 'lease', anchor: 'a1', lease: { ...held, session: id }, untilMs: 1e9 });
  two.command({ op: 'deadline', anchor: 'a1', untilMs: 1e9 });
  two.pass(500);
  expect(two.takeSent()).toEqual([]);
  two.command({ op: 'import', anchor: 'a1', sessions: one.command({ op: 'export', anchor: 'a1' }).sessions });
  two.packet(down(1));
  two.datagram(WIFI, ann.data(up(1)));
  expect(two.takeToNetwork()).toEqual([up(1)]);
  two.pass(500);
  expect(deliver(two, ann)).toEqual([down(1)]);
  expect(ann.epoch).toBe(2n);
  expect(ann.refused).toEqual([]);
});

it('a session that no device ever used has no state to continue', () => {
  const { rig } = begin(0xa1n, 1n);
  expect(rig.command({ op: 'export', anchor: 'a1' }).sessions).toEqual([]);
});

it('state that is none is refused by name', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  one.connect(ann, WIFI);
  const { sessions } = one.command({ op: 'export', anchor: 'a1' });
  const [state] = sessions;
  const { rig: two } = begin(0xb2n, 2n);
  const broken: SessionState[] = [
    { ...state!, active: { address: 'nowhere', port: 1 } },
    { ...state!, data: { ...state!.data, windows: [{ highest: 1, bitmap: 'zz' }] } },
    { ...state!, deviceBoot: 'x' },
    { ...state!, data: { ...state!.data, epoch: '-1' } },
    { ...state!, data: { ...state!.data, relayBoot: '' } },
  ];
  for (const bad of broken) {
    expect(() => two.command({ op: 'import', anchor: 'a1', sessions: [bad] })).toThrow(
      expect.objectContaining({ code: 'ERR_MOORING_BAD_INPUT' }),
    );
  }
});

/** (boot, counter) of CONTROL and (phase, sequence) of DATA: what a nonce is made of. */
function nonces(datagrams: readonly Sent[], epoch: string): string[] {
  return datagrams.map(({ octets }) => {
    const hex = Buffer.from(octets).toString('hex');
    return octets[0]! >> 4 === TYPE.control
      ? hex.slice(CONTROL.boot * 2, CONTROL.tag * 2)
      : `${epoch}:${hex.slice(0, 16)}`;
  });
}

it('no nonce repeats when an anchor comes back, or a session begins again, in the same process', () => {
  const { rig: one, ann } = begin(0xa1n, 1n);
  const seen: Sent[] = [];
  const wire: string[] = [];
  const note = (epoch: string) => wire.push(...nonces(seen.splice(0), epoch));
  const original = one.takeSent.bind(one);
  one.takeSent = () => {
    const sent = original();
    seen.push(...sent);
    return sent;
  };

  one.connect(ann, WIFI);
  one.packet(down(1));
  deliver(one, ann);
  note('1');
  const two = new EngineRig(0xb2n, 2);
  handOver(one, two, 2n);
  one.command({ op: 'drop-anchor', anchor: 'a1' });
  two.pass(1);
  two.converse(ann, WIFI);
  handOver(two, one, 3n);
  one.pass(1);
  deliver(one, ann);
  one.packet(down(2));
  expect(deliver(one, ann)).toEqual([down(2)]);
  note('3');

  // The last lease ends and a new one begins: same session, same epoch, same process.
  const captured = ann.data(up(9));
  one.datagram(WIFI, captured);
  expect(one.takeToNetwork()).toEqual([up(9)]);
  one.command({ op: 'drop-session', anchor: 'a1', id: `${'0'.repeat(31)}1` });
  install(one, 1, [held]);
  one.connect(ann, WIFI);
  one.packet(down(3));
  expect(deliver(one, ann)).toEqual([down(3)]);
  note('3');
  one.datagram(WIFI, captured);
  expect(one.takeToNetwork()).toEqual([]);

  expect(wire.length).toBeGreaterThanOrEqual(10);
  expect(wire.filter((nonce, i) => wire.indexOf(nonce) !== i)).toEqual([]);
  expect(ann.refused).toEqual([]);
});
