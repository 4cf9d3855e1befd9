import pino from 'pino';
import { beforeEach, describe, expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import { type Carrying, carryOn } from '../../../src/relay/carrying.ts';
import type { JournalledStandby } from '../../../src/relay/journal/record.ts';
import type { Journalled } from '../../../src/relay/journal/replay.ts';
import { turnedClock } from '../../integration/ownership/turned-clock.ts';

const GRACE_MS = 3_600_000;
const WALL_MS = 1_700_000_000_000;
const STANDBY: JournalledStandby = { id: 'r2', boot: 'b2'.repeat(8), planeUrl: 'wss://r2' };
const session: Session = {
  id: 'ab'.repeat(16),
  index: 7,
  device: { tenant: 't', id: 'd' },
  thumbprint: 'x'.repeat(43),
  salt: 'cd'.repeat(16),
};
const lease = { id: 'a1.1', anchor: 'a1', session: session.id, state: 'active' } as Lease;
const journalled = (over: Partial<Journalled> = {}): Journalled => ({
  anchor: 'a1',
  relay: 'r1',
  epoch: 5n,
  endpoints: ['203.0.113.1'],
  prefixes: ['198.51.100.0/28'],
  fence: '5-9',
  plan: '{}',
  sessions: [session],
  leases: [{ lease, untilMs: 60_000 }],
  standby: null,
  writtenMs: WALL_MS - 10_000,
  ...over,
});

let clock: ReturnType<typeof turnedClock>;
let commands: EngineCommand[];
let network: string[];
let promises: boolean;
let asked: string[];
beforeEach(() => {
  clock = turnedClock();
  commands = [];
  network = [];
  asked = [];
  promises = true;
});

function begin(one: Journalled): Promise<Carrying> {
  return carryOn({
    former: new Map([[one.anchor, one]]),
    siteKey: new Uint8Array(32),
    engine: {
      async command(command: EngineCommand) {
        commands.push(command);
        return (command.op === 'export' ? { sessions: [{ id: session.id }] } : null) as never;
      },
    },
    announcer: {
      announce: ({ endpoints }) => void network.push(`announce ${endpoints}`),
      withdraw: ({ endpoints }) => void network.push(`withdraw ${endpoints}`),
    },
    leftBehind: [],
    async promise({ id }, anchors) {
      asked.push(`${id} ${anchors.map(({ anchor, epoch }) => `${anchor} ${epoch}`)}`);
      return promises ? anchors.map(({ anchor }) => anchor) : [];
    },
    promisedMs: 450,
    askEveryMs: 100,
    graceMs: GRACE_MS,
    outageGraceMs: GRACE_MS,
    wallMs: () => WALL_MS,
    timers: clock.timers,
    log: pino({ level: 'silent' }),
  });
}

const opOf = <O extends EngineCommand['op']>(op: O) =>
  commands.filter((command): command is Extract<EngineCommand, { op: O }> => command.op === op);
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('a relay that restarts while the registry is away', () => {
  test('goes on with what nobody else may claim, under its epoch, until the grace is over', async () => {
    const carrying = await begin(journalled());
    expect([...carrying.anchors]).toEqual(['a1']);
    expect(opOf('anchor')[0]!.anchor).toMatchObject({
      epoch: 5n,
      untilMs: clock.timers.nowMs() + GRACE_MS - 10_000,
    });
    expect(opOf('session')[0]!.session).toMatchObject({ id: session.id, index: 7, hint: null });
    expect(opOf('lease')[0]).toMatchObject({ lease, untilMs: 60_000 + GRACE_MS });
    expect(network).toEqual(['announce 203.0.113.1']);
    carrying.stop();
  });

  test('goes on with an anchor that has a standby only while that promises', async () => {
    promises = false;
    const carrying = await begin(journalled({ standby: STANDBY }));
    await settle();
    expect(asked).toEqual(['r2 a1 5']);
    expect(opOf('anchor')[0]!.anchor.untilMs).toBe(Number.NEGATIVE_INFINITY);
    expect(opOf('deadline')).toEqual([]);
    expect(network).toEqual([]);

    promises = true;
    const sentMs = clock.timers.nowMs() + 100;
    clock.turn(100);
    await settle();
    expect(opOf('deadline')).toEqual([{ op: 'deadline', anchor: 'a1', untilMs: sentMs + 450 }]);
    expect(network).toEqual(['announce 203.0.113.1']);

    promises = false;
    clock.turn(100);
    await settle();
    expect(opOf('deadline')).toHaveLength(1);
    carrying.stop();
  });

  test('does not go on by a journal that nobody wrote to for longer than an outage may last', async () => {
    const carrying = await begin(journalled({ writtenMs: WALL_MS - GRACE_MS - 1 }));
    expect(carrying.anchors.size).toBe(0);
    expect(commands).toEqual([]);
    carrying.stop();
  });

  test('hands over to itself when the anchor is claimed again', async () => {
    const carrying = await begin(journalled());
    expect(await carrying.end('a1')).toEqual([{ id: session.id }]);
    expect(commands.slice(-2).map(({ op }) => op)).toEqual(['export', 'drop-anchor']);
    expect(carrying.anchors.size).toBe(0);
    expect(await carrying.end('a1')).toEqual([]);
    expect(network).toEqual(['announce 203.0.113.1']);
    carrying.stop();
  });

  test('is announced no longer when another relay turns out to have it', async () => {
    const carrying = await begin(journalled());
    await carrying.letGo('a1');
    expect(network).toEqual(['announce 203.0.113.1', 'withdraw 203.0.113.1']);
    carrying.stop();
    expect(clock.waiting()).toBe(0);
  });
});
