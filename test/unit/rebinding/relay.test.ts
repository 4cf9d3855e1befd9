import { describe, expect, test } from 'vitest';
import { seededRandom } from '../../../infra/lab/seeded-random.ts';
import { type SocketAddress, socketAddress } from '../../../src/protocol/address.ts';
import { createRelayRebinding } from '../../../src/rebinding/relay.ts';
import type { RelayOutput, RelayRebinding, RelayRebindingOptions } from '../../../src/rebinding/relay-io.ts';
import type { ControlDraft, ControlMessage } from '../../../src/tunnel/message.ts';

const A = socketAddress('198.51.100.1', 1000);
const B = socketAddress('198.51.100.2', 2000);
const C = socketAddress('198.51.100.3', 3000);
const X = socketAddress('203.0.113.66', 6666);
const EPOCH = 7n;
const RELAY = 0xaaaan;
const DEVICE = 0xddddn;

function relayRebinding(more: Partial<RelayRebindingOptions> = {}): RelayRebinding {
  const random = seededRandom(1);
  const octets = (count: number) => Uint8Array.from({ length: count }, () => random() * 256);
  return createRelayRebinding({ epoch: EPOCH, relayBoot: RELAY, random: octets, ...more });
}

/** A device that says exactly what a test wants. */
function speaker(boot = DEVICE) {
  let counter = 0n;
  return (kind: ControlMessage['kind'], more: Partial<ControlMessage> = {}): ControlMessage => {
    counter += 1n;
    return {
      kind,
      boot,
      counter,
      epoch: EPOCH,
      echoBoot: RELAY,
      echoCounter: 0n,
      generation: 1,
      keyNumber: 0,
      oldPath: 'alive',
      code: 0,
      cookie: new Uint8Array(16),
      observed: null,
      delayMs: 0,
      ...more,
    };
  };
}

const sends = (outputs: readonly RelayOutput[]) =>
  outputs.filter((output) => output.type === 'send').map(({ to, draft }) => ({ to: to.key, ...draft }));
const kinds = (outputs: readonly RelayOutput[]) => outputs.map(({ type }) => type);
const reasons = (outputs: readonly RelayOutput[]) =>
  outputs.filter((output) => output.type === 'count').map(({ reason }) => reason);
const cookieTo = (outputs: readonly RelayOutput[], to: SocketAddress): Uint8Array =>
  (sends(outputs).findLast((sent) => sent.to === to.key && sent.kind === 'challenge') as ControlDraft)
    .cookie!;

type Speaker = ReturnType<typeof speaker>;

/** BIND from `from` at `nowMs`, proof `rttMs` later; the outputs of the proof. */
function move(
  relay: RelayRebinding,
  say: Speaker,
  from: SocketAddress,
  generation: number,
  nowMs: number,
  { rttMs = 40, oldPath = 'alive' as ControlMessage['oldPath'] } = {},
): readonly RelayOutput[] {
  const asked = relay.step({ type: 'control', from, message: say('bind', { generation, oldPath }) }, nowMs);
  const cookie = cookieTo(asked, from);
  return relay.step({ type: 'control', from, message: say('proof', { generation, cookie }) }, nowMs + rttMs);
}

describe('a probe from another link', () => {
  test('is answered where it came from, no longer than itself, and changes nothing', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const probe = say('keepalive', { generation: 0, oldPath: 'unknown' });
    const outputs = relay.step({ type: 'control', from: B, message: probe }, 1_000);
    expect(sends(outputs)).toMatchObject([
      { to: B.key, kind: 'sync', generation: 1, echoCounter: probe.counter },
    ]);
    expect(outputs).toHaveLength(1);
    expect(relay.active).toEqual(A);
    expect(relay.nextDueMs).toBeGreaterThan(60_000);
    // Someone else's copy of it gets nothing.
    expect(kinds(relay.step({ type: 'control', from: X, message: probe }, 1_010))).toEqual(['count']);
  });
});

describe('a BIND', () => {
  test('moves nothing before its proof, and the proof answers with the new path', () => {
    const relay = relayRebinding();
    const say = speaker();
    const asked = relay.step({ type: 'control', from: A, message: say('bind') }, 0);
    expect(relay.active).toBeNull();
    expect(sends(asked)).toMatchObject([{ to: A.key, kind: 'challenge', generation: 1, observed: A }]);
    const proof = say('proof', { cookie: cookieTo(asked, A) });
    const proven = relay.step({ type: 'control', from: A, message: proof }, 40);
    expect(kinds(proven)).toEqual(['keys', 'sender-keys', 'flip', 'send', 'moved']);
    expect(relay).toMatchObject({ active: A, generation: 1, deviceBoot: DEVICE, keyNumber: 1, rttMs: 40 });
  });

  test('said twice gets the same answer', () => {
    const relay = relayRebinding();
    const say = speaker();
    const [first] = sends(move(relay, say, A, 1, 0));
    for (const nowMs of [100, 30_000]) {
      const message = say('bind');
      const again = relay.step({ type: 'control', from: A, message }, nowMs);
      expect(kinds(again)).toEqual(['send']);
      expect(sends(again)).toEqual([{ ...first, echoCounter: message.counter }]);
    }
  });

  test('of a lower generation that arrives late changes nothing and is told the newer one', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const late = say('bind', { generation: 2 });
    move(relay, say, C, 3, 100);
    const outputs = relay.step({ type: 'control', from: B, message: late }, 200);
    expect(reasons(outputs)).toEqual(['lower-generation']);
    expect(sends(outputs)).toMatchObject([{ to: B.key, kind: 'sync', generation: 3 }]);
    expect(relay).toMatchObject({ active: C, generation: 3 });
  });

  test('captured and replayed elsewhere is neither answered nor believed', () => {
    const relay = relayRebinding();
    const say = speaker();
    const captured = say('bind');
    relay.step({ type: 'control', from: A, message: captured }, 0);
    const outputs = relay.step({ type: 'control', from: X, message: captured }, 1);
    expect(outputs).toEqual([{ type: 'count', reason: 'replayed' }]);
  });

  test('raced to the relay from elsewhere leaves the device its place', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const raced = say('bind', { generation: 2 });
    const toX = relay.step({ type: 'control', from: X, message: raced }, 100);
    const stolen = say('proof', { generation: 2, cookie: cookieTo(toX, X) });
    expect(reasons(relay.step({ type: 'control', from: B, message: stolen }, 110))).toEqual([
      'proof-refused',
    ]);
    move(relay, say, B, 2, 150);
    expect(relay.active).toEqual(B);
  });

  test('to another incarnation of the relay changes nothing and is answered by a sync', () => {
    const relay = relayRebinding();
    const say = speaker();
    for (const stale of [{ echoBoot: 0n }, { epoch: EPOCH - 1n }, { echoBoot: RELAY + 1n }]) {
      const outputs = relay.step({ type: 'control', from: A, message: say('bind', stale) }, 0);
      expect(sends(outputs)).toMatchObject([{ to: A.key, kind: 'sync', epoch: EPOCH, generation: 0 }]);
      expect(reasons(outputs)).toEqual(['stale-incarnation']);
    }
    expect(relay.active).toBeNull();
  });

  test('of 1,000 in a row leaves one path, and the keys as they were', () => {
    const relay = relayRebinding();
    const say = speaker();
    for (let generation = 1; generation <= 1_000; generation += 1) {
      const at = socketAddress('198.51.100.9', 1_000 + ((generation * 7) % 500));
      move(relay, say, at, generation, generation * 100);
      expect(relay.active).toEqual(at);
    }
    expect(relay).toMatchObject({ generation: 1_000, keyNumber: 1 });
  });
});

describe('a hold', () => {
  const held = (oldPath: ControlMessage['oldPath']) => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const message = say('bind', { generation: 2, oldPath });
    return { relay, say, outputs: relay.step({ type: 'control', from: B, message }, 100) };
  };

  test('begins when the old path is dead, and not otherwise', () => {
    expect(kinds(held('dead').outputs)).toEqual(['hold', 'send']);
    expect(kinds(held('alive').outputs)).not.toContain('hold');
    expect(kinds(held('unknown').outputs)).not.toContain('hold');
  });

  test('is not prolonged by repeating the BIND, and ends at the last proven path', () => {
    const { relay, say } = held('dead');
    for (let nowMs = 200; nowMs < 2_100; nowMs += 100) {
      const message = say('bind', { generation: 2, oldPath: 'dead' });
      expect(kinds(relay.step({ type: 'control', from: B, message }, nowMs))).not.toContain('hold');
    }
    expect(relay.nextDueMs).toBe(2_100);
    const ended = relay.step({ type: 'tick' }, 2_100);
    expect(ended).toContainEqual({ type: 'release', to: A });
    expect(relay.holding).toBe(false);
  });

  test('begins over signalling too, where the device stands behind a NAT', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const believed = socketAddress('10.0.0.5', 4000);
    const message = say('bind', { generation: 2, oldPath: 'dead' });
    const outputs = relay.step({ type: 'signalled', believed, message }, 100);
    expect(kinds(outputs)).toEqual(['hold', 'send']);
    expect(sends(outputs)).toMatchObject([{ to: believed.key, kind: 'challenge' }]);
  });

  test('never sends to the relay itself or a group because a device believes to be there', () => {
    for (const address of [
      '127.0.0.1',
      '224.0.0.1',
      '255.255.255.255',
      '0.0.0.0',
      '::1',
      'ff02::1',
      'fe80::1',
    ]) {
      const believed = socketAddress(address, 4000);
      const outputs = relayRebinding().step({ type: 'signalled', believed, message: speaker()('bind') }, 0);
      expect(sends(outputs)).toEqual([]);
    }
  });
});

describe('a path in doubt', () => {
  test('stays when it answers, and the other address is left alone for a while', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const drift = { type: 'data', from: X, fresh: true, keyNumber: 1, octets: 200 } as const;
    const asked = relay.step(drift, 1_000);
    expect(sends(asked).map(({ to, kind }) => [to, kind])).toEqual([
      [A.key, 'challenge'],
      [X.key, 'challenge'],
    ]);
    const proof = say('proof', { cookie: cookieTo(asked, A) });
    expect(reasons(relay.step({ type: 'control', from: A, message: proof }, 1_040))).toEqual([
      'contender-refused',
    ]);
    expect(relay.step(drift, 1_100)).toEqual([]);
    expect(relay.active).toEqual(A);
  });

  test('is left for the address that proved itself when it does not answer in time', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const asked = relay.step({ type: 'data', from: B, fresh: true, keyNumber: 1, octets: 200 }, 1_000);
    const proof = say('proof', { cookie: cookieTo(asked, B) });
    expect(kinds(relay.step({ type: 'control', from: B, message: proof }, 1_040))).toEqual([]);
    relay.step({ type: 'tick' }, 1_299);
    expect(relay.active).toEqual(A);
    relay.step({ type: 'tick' }, 1_300);
    expect(relay).toMatchObject({ active: B, generation: 1 });
  });

  test('that took the place of another answers for itself: who lost against that one contends again', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0);
    const contending = say('bind', { generation: 3, oldPath: 'unknown' });
    const asked = relay.step({ type: 'signalled', believed: B, message: contending }, 1_000);
    const stays = say('proof', { cookie: cookieTo(asked, A) });
    expect(reasons(relay.step({ type: 'control', from: A, message: stays }, 1_040))).toEqual([
      'contender-refused',
    ]);
    move(relay, say, C, 2, 1_100);
    expect(relay).toMatchObject({ active: C, generation: 2 });
    const proof = say('proof', { generation: 3, cookie: cookieTo(asked, B) });
    relay.step({ type: 'control', from: B, message: proof }, 1_200);
    expect(relay.active).toEqual(C);
    relay.step({ type: 'tick' }, 1_440);
    expect(relay).toMatchObject({ active: B, generation: 3 });
  });

  test('is not doubted because of a datagram that was seen before', () => {
    const relay = relayRebinding();
    move(relay, speaker(), A, 1, 0);
    expect(relay.step({ type: 'data', from: X, fresh: false, keyNumber: 1, octets: 200 }, 1_000)).toEqual([]);
  });

  test('gets its contender challenged only when that has sent as much as a challenge costs', () => {
    const relay = relayRebinding();
    move(relay, speaker(), A, 1, 0);
    const small = { type: 'data', from: B, fresh: true, keyNumber: 1, octets: 60 } as const;
    expect(sends(relay.step(small, 1_000)).map(({ to }) => to)).toEqual([A.key]);
    expect(sends(relay.step(small, 1_010)).map(({ to }) => to)).toEqual([B.key]);
  });
});

describe('a flip to a faster path', () => {
  test('waits for the difference of the round trips, at most 200 ms', () => {
    for (const [formerMs, afterMs] of [
      [80, 75],
      [600, 200],
      [4, 0],
    ] as const) {
      const relay = relayRebinding();
      const say = speaker();
      move(relay, say, A, 1, 0, { rttMs: formerMs });
      const outputs = move(relay, say, B, 2, 1_000, { rttMs: 5 });
      expect(outputs).toContainEqual({ type: 'flip', path: B, afterMs });
      expect(sends(outputs)).toMatchObject([{ kind: 'sync', delayMs: afterMs }]);
    }
  });

  test('does not wait for a path that is dead', () => {
    const relay = relayRebinding();
    const say = speaker();
    move(relay, say, A, 1, 0, { rttMs: 80 });
    const outputs = move(relay, say, B, 2, 1_000, { rttMs: 5, oldPath: 'dead' });
    expect(outputs).toContainEqual({ type: 'flip', path: B, afterMs: 0 });
  });
});

describe('a new incarnation of the device', () => {
  test('counts its generations anew and gets keys of its own', () => {
    const relay = relayRebinding();
    move(relay, speaker(), A, 9, 0);
    const outputs = move(relay, speaker(0xeeeen), B, 1, 1_000);
    expect(outputs).toContainEqual({ type: 'keys', deviceBoot: 0xeeeen, keyNumber: 2 });
    expect(relay).toMatchObject({ active: B, generation: 1, deviceBoot: 0xeeeen });
  });

  test('stays: two clones that take turns change the path once, not each time', () => {
    const relay = relayRebinding();
    const first = speaker();
    const second = speaker(0xeeeen);
    move(relay, first, A, 1, 0);
    let changes = 0;
    for (let turn = 0; turn < 20; turn += 1) {
      const [say, from] = turn % 2 === 0 ? [second, B] : [first, A];
      const nowMs = 1_000 + turn * 1_000;
      const asked = relay.step(
        { type: 'control', from, message: say('bind', { generation: turn + 2 }) },
        nowMs,
      );
      if (sends(asked).length === 0) continue;
      const proof = say('proof', { generation: turn + 2, cookie: cookieTo(asked, from) });
      const outputs = relay.step({ type: 'control', from, message: proof }, nowMs + 40);
      if (kinds(outputs).includes('keys')) changes += 1;
    }
    expect(changes).toBe(1);
    expect(relay.deviceBoot).toBe(0xeeeen);
  });
});

describe('a change of the relay', () => {
  test('with a hint holds, asks the hinted path four times at most, and ends the hold without a path', () => {
    const relay = relayRebinding({ hint: { path: A, generation: 3, deviceBoot: DEVICE } });
    const outputs: RelayOutput[] = [];
    for (let nowMs = 0; nowMs < 10_000; nowMs = relay.nextDueMs) {
      outputs.push(...relay.step({ type: 'tick' }, nowMs));
      if (relay.nextDueMs === Number.POSITIVE_INFINITY) break;
    }
    expect(sends(outputs).map(({ kind }) => kind)).toEqual(Array(4).fill('challenge'));
    expect(outputs[0]).toEqual({ type: 'hold', untilMs: 2_000 });
    expect(outputs).toContainEqual({ type: 'release', to: null });
    expect(relay.active).toBeNull();
  });

  test('holds for a hint that is on its way, and asks the hinted path when it comes', () => {
    const relay = relayRebinding({ awaitsHint: true });
    const say = speaker();
    expect(relay.step({ type: 'tick' }, 0)).toEqual([{ type: 'hold', untilMs: 2_000 }]);
    const hint = { path: A, generation: 3, deviceBoot: DEVICE };
    const asked = relay.step({ type: 'hint', hint }, 20);
    expect(sends(asked).map(({ kind, to }) => [kind, to])).toEqual([['challenge', A.key]]);
    expect(relay.step({ type: 'hint', hint }, 30), 'told twice').toEqual([]);
    const cookie = cookieTo(asked, A);
    relay.step({ type: 'control', from: A, message: say('proof', { cookie, generation: 3 }) }, 40);
    expect(relay).toMatchObject({ active: A, generation: 3, deviceBoot: DEVICE, holding: false });
  });

  test('asks and holds anew when it hears that the device has been at the same place since', () => {
    const relay = relayRebinding({ hint: { path: A, generation: 3, deviceBoot: DEVICE } });
    relay.step({ type: 'tick' }, 0);
    const newer = { path: A, generation: 4, deviceBoot: DEVICE };
    const outputs = relay.step({ type: 'hint', hint: newer }, 100);
    expect(outputs).toContainEqual({ type: 'hold', untilMs: 2_100 });
    expect(sends(outputs).map(({ kind, to }) => [kind, to])).toEqual([['challenge', A.key]]);
  });

  test('asks where a newer hint says, and nowhere once the device has proven itself', () => {
    const relay = relayRebinding({ hint: { path: A, generation: 3, deviceBoot: DEVICE }, awaitsHint: true });
    const say = speaker();
    relay.step({ type: 'tick' }, 0);
    const newer = { path: B, generation: 4, deviceBoot: DEVICE };
    const asked = relay.step({ type: 'hint', hint: newer }, 20);
    expect(sends(asked).map(({ to }) => to)).toEqual([B.key]);
    const older = relay.step({ type: 'hint', hint: { path: B, generation: 2, deviceBoot: DEVICE } }, 25);
    expect(older).toEqual([]);
    const cookie = cookieTo(asked, B);
    relay.step({ type: 'control', from: B, message: say('proof', { cookie, generation: 4 }) }, 40);
    const late = relay.step({ type: 'hint', hint: { path: C, generation: 9, deviceBoot: 0xeeeen } }, 60);
    expect(sends(late)).toEqual([]);
    expect(relay).toMatchObject({ active: B, holding: false });
  });

  test('by hand-over goes on, and changes the sending key only when the device has the new one', () => {
    const before = relayRebinding();
    const say = speaker();
    move(before, say, A, 4, 0);
    const after = relayRebinding({ epoch: EPOCH + 1n, relayBoot: 0xbbbbn, resumed: before.exportState() });
    expect(after).toMatchObject({ active: A, generation: 4, deviceBoot: DEVICE, keyNumber: 2 });
    const begun = after.step({ type: 'tick' }, 100);
    expect(begun).toContainEqual({ type: 'keys', deviceBoot: DEVICE, keyNumber: 2 });
    expect(kinds(begun)).not.toContain('sender-keys');
    const seen = after.step({ type: 'data', from: A, fresh: true, keyNumber: 2, octets: 100 }, 200);
    expect(seen).toEqual([{ type: 'sender-keys', keyNumber: 2 }]);
  });

  test('by hand-over still refuses what the former owner had accepted', () => {
    const before = relayRebinding();
    const say = speaker();
    const captured = say('bind', { generation: 4 });
    before.step({ type: 'control', from: A, message: captured }, 0);
    move(before, say, A, 4, 50);
    const after = relayRebinding({ resumed: before.exportState() });
    expect(reasons(after.step({ type: 'control', from: X, message: captured }, 100))).toEqual(['replayed']);
  });
});

describe('answers', () => {
  test('to messages of another incarnation are limited on their own', () => {
    const relay = relayRebinding();
    const say = speaker();
    const other = speaker(0xeeeen);
    let answered = 0;
    for (let nowMs = 0; nowMs < 10_000; nowMs += 10) {
      const message = other('bind', { echoBoot: 0n });
      answered += sends(relay.step({ type: 'control', from: X, message }, nowMs)).length;
    }
    expect(answered).toBeLessThanOrEqual(16 + 8 * 10);
    move(relay, say, A, 1, 10_000);
    expect(relay.active).toEqual(A);
  });

  test('of another kind than a device sends are refused', () => {
    const relay = relayRebinding();
    const outputs = relay.step({ type: 'control', from: A, message: speaker()('sync') }, 0);
    expect(outputs).toEqual([{ type: 'count', reason: 'not-for-relay' }]);
  });
});
