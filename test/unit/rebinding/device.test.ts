import { describe, expect, test } from 'vitest';
import { socketAddress } from '../../../src/protocol/address.ts';
import { createDeviceRebinding } from '../../../src/rebinding/device.ts';
import type { DeviceOutput, DeviceRebinding } from '../../../src/rebinding/device-io.ts';
import type { ControlMessage } from '../../../src/tunnel/message.ts';

const BOOT = 0xddddn;
const HERE = socketAddress('198.51.100.1', 1000);

function relaySpeaker(epoch = 1n, boot = 0xaaaan) {
  let counter = 0n;
  return (kind: ControlMessage['kind'], more: Partial<ControlMessage> = {}): ControlMessage => {
    counter += 1n;
    return {
      kind,
      boot,
      counter,
      epoch,
      echoBoot: BOOT,
      echoCounter: counter,
      generation: 1,
      keyNumber: 1,
      oldPath: 'unknown',
      code: 0,
      cookie: new Uint8Array(16),
      observed: HERE,
      delayMs: 0,
      ...more,
    };
  };
}

const sent = (outputs: readonly DeviceOutput[]) =>
  outputs.filter((output) => output.type === 'send').map(({ link, draft }) => ({ link, ...draft }));

function boundDevice() {
  const device = createDeviceRebinding({ boot: BOOT });
  const say = relaySpeaker();
  device.step({ type: 'use', link: 'wifi', oldPath: 'unknown' }, 0);
  device.step({ type: 'control', link: 'wifi', message: say('challenge') }, 40);
  device.step({ type: 'control', link: 'wifi', message: say('sync') }, 80);
  expect(device).toMatchObject({ bound: 'wifi', uplink: 'wifi', binding: false, rttMs: 40, keyNumber: 1 });
  return { device, say };
}

/** What the device does on its own until `untilMs`, with the times. */
function left(device: DeviceRebinding, untilMs: number): { atMs: number; output: DeviceOutput }[] {
  const happened: { atMs: number; output: DeviceOutput }[] = [];
  for (let atMs = device.nextDueMs; atMs <= untilMs; atMs = device.nextDueMs) {
    for (const output of device.step({ type: 'tick' }, atMs)) happened.push({ atMs, output });
  }
  return happened;
}

describe('a device that moves', () => {
  test('keeps its uplink where it works until it is accepted, and leaves a dead link at once', () => {
    const alive = boundDevice();
    alive.device.step({ type: 'use', link: 'cell', oldPath: 'alive' }, 1_000);
    expect(alive.device.uplink).toBe('wifi');
    const message = alive.say('sync', { generation: 2, delayMs: 30 });
    const outputs = alive.device.step({ type: 'control', link: 'cell', message }, 1_100);
    expect(outputs).toContainEqual({ type: 'uplink', link: 'cell', afterMs: 30 });

    const dead = boundDevice();
    const moved = dead.device.step({ type: 'use', link: 'cell', oldPath: 'dead' }, 1_000);
    expect(moved.map(({ type }) => type)).toEqual(['uplink', 'send', 'signal']);
  });

  test('repeats its BIND with doubling pauses up to half a second, for ever, and every 5 s after half a minute', () => {
    const device = createDeviceRebinding({ boot: BOOT });
    device.step({ type: 'use', link: 'wifi', oldPath: 'unknown' }, 0);
    const at = left(device, 120_000)
      .filter(({ output }) => output.type === 'send')
      .map(({ atMs }) => atMs);
    expect(at.slice(0, 6)).toEqual([100, 300, 700, 1_200, 1_700, 2_200]);
    expect(at.at(-1)! - at.at(-2)!).toBe(5_000);
  });

  test('says that the old path is dead when its link goes meanwhile', () => {
    const { device } = boundDevice();
    device.step({ type: 'use', link: 'cell', oldPath: 'alive' }, 1_000);
    const outputs = device.step({ type: 'link-gone', link: 'wifi' }, 1_010);
    expect(outputs[0]).toEqual({ type: 'uplink', link: 'cell', afterMs: 0 });
    expect(sent(outputs)).toMatchObject([{ kind: 'bind', generation: 2, oldPath: 'dead' }]);
  });

  test('comes back to the link that is left when the new one goes before it is accepted', () => {
    const { device } = boundDevice();
    device.step({ type: 'use', link: 'cell', oldPath: 'alive' }, 1_000);
    const outputs = device.step({ type: 'link-gone', link: 'cell' }, 1_010);
    expect(sent(outputs)).toMatchObject([{ link: 'wifi', kind: 'bind', generation: 3, oldPath: 'dead' }]);
  });

  test('answers a challenge on its link, with the generation that it asked for there', () => {
    const { device, say } = boundDevice();
    device.step({ type: 'use', link: 'cell', oldPath: 'alive' }, 1_000);
    const cookie = Uint8Array.from({ length: 16 }, (_, at) => at);
    for (const [link, generation] of [
      ['wifi', 1],
      ['cell', 2],
    ] as const) {
      const message = say('challenge', { generation: 2, cookie });
      const outputs = device.step({ type: 'control', link, message }, 1_040);
      expect(sent(outputs)).toMatchObject([{ link, kind: 'proof', generation, cookie }]);
    }
  });

  test('asks for a hold when its only link is about to go', () => {
    const { device } = boundDevice();
    expect(sent(device.step({ type: 'leaving' }, 1_000))).toMatchObject([{ link: 'wifi', kind: 'hold' }]);
  });
});

describe('a device believes', () => {
  test('nothing that was said to another incarnation of it', () => {
    const { device, say } = boundDevice();
    const message = say('sync', { epoch: 9n, echoBoot: BOOT + 1n });
    expect(device.step({ type: 'control', link: 'wifi', message }, 100)).toEqual([
      { type: 'count', reason: 'not-for-this-boot' },
    ]);
    expect(device.epoch).toBe(1n);
  });

  test('a message once', () => {
    const { device, say } = boundDevice();
    const message = say('challenge');
    expect(sent(device.step({ type: 'control', link: 'wifi', message }, 100))).toHaveLength(1);
    expect(device.step({ type: 'control', link: 'wifi', message }, 101)).toEqual([
      { type: 'count', reason: 'replayed' },
    ]);
  });

  test('the relay of the highest epoch, and no former one again', () => {
    const { device, say } = boundDevice();
    const next = relaySpeaker(2n, 0xbbbbn);
    const outputs = device.step(
      { type: 'control', link: 'wifi', message: next('sync', { keyNumber: 2 }) },
      100,
    );
    expect(outputs).toContainEqual({ type: 'keys', epoch: 2n, relayBoot: 0xbbbbn, keyNumber: 2 });
    expect(sent(outputs)).toMatchObject([{ kind: 'keepalive', epoch: 2n, echoBoot: 0xbbbbn }]);
    expect(device.step({ type: 'control', link: 'wifi', message: say('sync') }, 200)).toEqual([
      { type: 'count', reason: 'former-relay' },
    ]);
    expect(device).toMatchObject({ epoch: 2n, relayBoot: 0xbbbbn, keyNumber: 2 });
  });

  test('a relay that has no path to it, and binds again', () => {
    const { device } = boundDevice();
    const message = relaySpeaker(2n, 0xbbbbn)('sync', { generation: 0 });
    const outputs = device.step({ type: 'control', link: 'wifi', message }, 100);
    expect(outputs).toContainEqual({ type: 'lost', reason: 'forgotten' });
    expect(sent(outputs)).toMatchObject([{ kind: 'bind', generation: 2, echoBoot: 0xbbbbn }]);
  });
});

describe('a probe', () => {
  test('measures a link that is not in use, and nothing follows from it', () => {
    const { device, say } = boundDevice();
    const [asked] = device.step({ type: 'probe', link: 'cell', id: 7 }, 1_000);
    expect(asked).toMatchObject({ type: 'send', link: 'cell', draft: { kind: 'keepalive', generation: 0 } });
    const dueMs = device.nextDueMs;
    const elsewhere = socketAddress('198.51.100.2', 2000);
    // Two BINDs and a proof came before.
    const message = say('sync', { echoCounter: 4n, observed: elsewhere });
    expect(device.step({ type: 'control', link: 'cell', message }, 1_060)).toEqual([
      { type: 'answered', link: 'cell', id: 7, rttMs: 60 },
    ]);
    expect(device).toMatchObject({
      bound: 'wifi',
      uplink: 'wifi',
      binding: false,
      rttMs: 40,
      nextDueMs: dueMs,
    });
  });

  test('is answered once, and on the link that it was sent on', () => {
    const { device, say } = boundDevice();
    device.step({ type: 'probe', link: 'wifi', id: 1 }, 1_000);
    const answers = (link: string) =>
      device
        .step({ type: 'control', link, message: say('sync', { echoCounter: 4n }) }, 1_010)
        .filter(({ type }) => type === 'answered');
    expect(answers('wifi')).toHaveLength(1);
    expect(answers('wifi')).toHaveLength(0);
    device.step({ type: 'probe', link: 'wifi', id: 2 }, 1_020);
    expect(answers('cell')).toHaveLength(0);
  });

  test('finds out that the relay is another one, and has forgotten the device', () => {
    const { device } = boundDevice();
    device.step({ type: 'probe', link: 'cell', id: 1 }, 1_000);
    const say = relaySpeaker(2n, 0xbbbbn);
    const message = say('sync', { generation: 0, echoCounter: 4n });
    const outputs = device.step({ type: 'control', link: 'cell', message }, 1_040);
    expect(sent(outputs)).toMatchObject([{ link: 'wifi', kind: 'bind' }]);
  });
});

describe('a silent path', () => {
  test('is kept open by a keepalive after 20 s, sooner when the NAT forgot it, later when it does not', () => {
    const { device, say } = boundDevice();
    const next = () => {
      const atMs = device.nextDueMs;
      expect(sent(device.step({ type: 'tick' }, atMs))).toMatchObject([{ kind: 'keepalive' }]);
      return atMs;
    };
    const answer = (atMs: number, observed = HERE) =>
      device.step({ type: 'control', link: 'wifi', message: say('sync', { observed }) }, atMs + 40);
    let atMs = next();
    expect(atMs).toBe(80 + 20_000);
    for (let steady = 0; steady < 10; steady += 1) {
      answer(atMs);
      atMs = next();
    }
    answer(atMs);
    expect(next() - atMs).toBe(22_500);
    const lastMs = atMs + 22_500;
    answer(lastMs, socketAddress('198.51.100.1', 1001));
    expect(next() - lastMs).toBe(15_000);
  });

  test('is doubted half a second after unanswered uplink, and given up after four probes', () => {
    const { device } = boundDevice();
    device.noteSent(1_000);
    const happened = left(device, 4_000);
    const probes = happened.filter(
      ({ output }) => output.type === 'send' && output.draft.kind === 'keepalive',
    );
    expect(probes.map(({ atMs }) => atMs)).toEqual([1_500, 2_000, 2_500, 3_000]);
    const lost = happened.find(({ output }) => output.type === 'lost');
    expect(lost).toEqual({ atMs: 3_500, output: { type: 'lost', reason: 'unanswered' } });
    expect(device.binding).toBe(true);
  });

  test('is doubted once when downlink that flowed stops', () => {
    const { device, say } = boundDevice();
    for (let atMs = 1_000; atMs <= 2_000; atMs += 20) device.noteReceived(atMs);
    expect(device.nextDueMs).toBe(2_500);
    expect(sent(device.step({ type: 'tick' }, 2_500))).toMatchObject([{ kind: 'keepalive' }]);
    device.step({ type: 'control', link: 'wifi', message: say('sync') }, 2_540);
    expect(device.nextDueMs).toBe(22_500);
  });
});

describe('the round trip of a path', () => {
  test('is that of the message which was answered, also when it had been sent again', () => {
    const device = createDeviceRebinding({ boot: BOOT });
    const say = relaySpeaker();
    device.step({ type: 'use', link: 'wifi', oldPath: 'unknown' }, 0);
    device.step({ type: 'tick' }, 100);
    // BIND 1 is lost, 2 answered after 160 ms; BIND 3 for this relay and proof 4 follow, 4 answered after 150 ms.
    device.step({ type: 'control', link: 'wifi', message: say('challenge', { echoCounter: 2n }) }, 260);
    const outputs = device.step(
      { type: 'control', link: 'wifi', message: say('sync', { echoCounter: 4n }) },
      410,
    );
    expect(outputs.find(({ type }) => type === 'bound')).toMatchObject({ rttMs: 150 });
    expect(device.rttMs).toBe(150);
  });

  test('is not measured by a second answer to one message, nor by one over another link', () => {
    const { device, say } = boundDevice();
    device.step({ type: 'use', link: 'cell', oldPath: 'alive' }, 1_000);
    // The BIND on cell has counter 4.
    device.step({ type: 'control', link: 'wifi', message: say('sync', { echoCounter: 4n }) }, 1_001);
    const challenge = (): ControlMessage => say('challenge', { generation: 2, echoCounter: 4n });
    device.step({ type: 'control', link: 'cell', message: challenge() }, 1_070);
    device.step({ type: 'control', link: 'cell', message: challenge() }, 1_500);
    device.step(
      { type: 'control', link: 'cell', message: say('sync', { generation: 2, echoCounter: 99n }) },
      1_501,
    );
    expect(device.bound).toBe('cell');
    expect(device.rttMs).toBe(70);
  });

  test('follows the keepalives of the path slowly', () => {
    const { device, say } = boundDevice();
    device.step({ type: 'tick' }, 20_080);
    device.step({ type: 'control', link: 'wifi', message: say('sync', { echoCounter: 4n }) }, 20_200);
    expect(device.rttMs).toBe(40 + (120 - 40) / 8);
  });
});
