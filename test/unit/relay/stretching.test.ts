import { beforeEach, describe, expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import { processTimers } from '../../../src/ownership/timers.ts';
import { MooringError } from '../../../src/protocol/errors.ts';
import type { Lease, LeaseEvent, Session } from '../../../src/protocol/lease.ts';
import type { Anchor, Registry, Snapshot } from '../../../src/registry/registry.ts';
import type { Ending } from '../../../src/relay/anchor-copy.ts';
import type { Journalled } from '../../../src/relay/journal/replay.ts';
import { type ServedAnchor, serveAnchor } from '../../../src/relay/served-anchor.ts';
import { carriedThrough } from '../../../src/relay/stretching.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const GRACE_MS = 3_600_000;
const STEP_MS = 60_000;
const START_MS = 1_000_000;
const anchor = { id: 'a1', endpoints: ['198.51.100.1'], prefixes: ['192.0.2.8/31'], draining: [] };
const session: Session = {
  ...{ id: 'ab'.repeat(16), index: 7, device: { tenant: 't', id: 'd' } },
  ...{ thumbprint: 'x'.repeat(43), salt: 'cd'.repeat(16) },
};
const lease = (id: string, remainingMs: number, state: Lease['state'] = 'active') =>
  ({ id, anchor: 'a1', session: session.id, state, remainingMs, fence: `1-${id}` }) as Lease;

let nowMs: number;
let isAway: boolean;
/** How long an answer takes. */
let answersInMs: number;
let asked: string[];
let until: Map<string, number>;
/** What the registry has for whoever reads the stream. */
let events: LeaseEvent[];
beforeEach(() => {
  nowMs = START_MS;
  isAway = false;
  answersInMs = 0;
  asked = [];
  until = new Map();
  events = [];
});

async function answered<T>(name: string, value: T): Promise<T> {
  asked.push(name);
  nowMs += answersInMs;
  if (!isAway) return value;
  throw new MooringError('ERR_MOORING_REGISTRY_UNAVAILABLE', 'away', { temporary: true });
}

async function serve(leases: readonly Lease[], former: readonly Ending[] = [], graceMs = GRACE_MS) {
  const snapshot: Snapshot = {
    ...{ anchor: anchor as unknown as Anchor, epoch: 1n, lastId: '1-1', owner: null },
    ...{ leases, sessions: [session], hints: [] },
  };
  const registry = {
    watch: async () => async () => undefined,
    snapshot: async () => snapshot,
    plan: async () => '',
    events: (_: string, lastId: string) =>
      answered('events', { reload: false, events: events.splice(0), lastId }),
    sweep: (_: string, _epoch: bigint, _limit: number, latestMs: number) =>
      answered(`sweep ${latestMs}`, { atMs: nowMs, ended: [], more: false, free: 1 }),
    stretch: (_: string, _epoch: bigint, ends: readonly { id: string; remainingMs: number }[]) =>
      answered(`stretch ${ends.map(({ id, remainingMs }) => `${id} ${remainingMs}`)}`, undefined),
  } as unknown as Registry;
  const engine = {
    async command(command: EngineCommand): Promise<unknown> {
      if (command.op === 'lease') until.set(command.lease.id, command.untilMs);
      return null;
    },
  };
  const served = await serveAnchor({
    ...{ anchor: 'a1', siteKey: new Uint8Array(32), registry, engine, log: silent, relay: 'r1' },
    ...{
      timers: { ...processTimers, nowMs: () => nowMs },
      epoch: 1n,
      untilMs: Number.POSITIVE_INFINITY,
      former,
    },
    ...{ outageGraceMs: graceMs, isCurrent: () => true, onInstalled: () => undefined },
    ...{ onEnded: () => undefined, onResized: () => undefined },
  });
  return served!;
}

async function sweepsFor(served: ServedAnchor, ms: number): Promise<void> {
  for (const endMs = nowMs + ms; nowMs < endMs; nowMs += 1_000) await served.sweep().catch(() => undefined);
}

describe('while the registry is away its owner', () => {
  test('puts off the end of a lease by small steps, and of one with much life left not at all', async () => {
    const served = await serve([lease('1', 20_000), lease('2', 500_000)]);
    await served.sweep();
    isAway = true;
    await served.sweep().catch(() => undefined);
    expect([...until]).toEqual([
      ['1', START_MS + STEP_MS],
      ['2', START_MS + 500_000],
    ]);
    await sweepsFor(served, 40_000);
    expect(until.get('1')! - nowMs).toBeGreaterThanOrEqual(STEP_MS / 2 - 1_000);
    expect(until.get('1')! - nowMs).toBeLessThanOrEqual(STEP_MS);
  });

  test('goes on with a lease that ran out before the outage was noticed, not with one that had run out before', async () => {
    const served = await serve([lease('1', 1_000), lease('2', 3_000)]);
    nowMs += 2_000;
    await served.sweep();
    isAway = true;
    nowMs += 2_000;
    await served.sweep().catch(() => undefined);
    expect(until.get('1')).toBe(START_MS + 1_000);
    expect(until.get('2')).toBe(nowMs + STEP_MS);
  });

  test('does so for the grace, from when the registry answered last, and no longer', async () => {
    const served = await serve([lease('1', 20_000)], [], 100_000);
    await served.sweep();
    isAway = true;
    await sweepsFor(served, 300_000);
    expect(until.get('1')).toBe(START_MS + 100_000);
  });

  test('lets everything end without a grace', async () => {
    const served = await serve([lease('1', 20_000)], [{ lease: lease('1', 0), untilMs: nowMs + 90_000 }], 0);
    isAway = true;
    await sweepsFor(served, 60_000);
    expect(until.get('1')).toBe(START_MS + 20_000);
  });

  test('puts off no lease that was never acknowledged, nor one that it heard was freed or revoked', async () => {
    const served = await serve([
      lease('1', 5_000, 'pending'),
      lease('2', 5_000),
      lease('3', 5_000, 'pending'),
    ]);
    await served.witness('3');
    isAway = true;
    served.letEnd('2');
    await sweepsFor(served, 10_000);
    expect(until.get('1')).toBe(START_MS + 5_000);
    expect(until.get('2')).toBe(START_MS + 5_000);
    expect(until.get('3')).toBeGreaterThan(START_MS + 5_000);
  });
});

describe('when the registry is back its owner', () => {
  test('says which ends it has put off before it sweeps anything, and says it once', async () => {
    const served = await serve([lease('1', 20_000)]);
    await served.sweep();
    isAway = true;
    await served.sweep().catch(() => undefined);
    nowMs += 10_000;
    isAway = false;
    asked = [];
    await served.sweep();
    await served.sweep();
    expect(asked).toEqual([
      ...[`stretch 1 ${STEP_MS - 10_000}`, `sweep ${START_MS}`, 'events'],
      ...[`sweep ${nowMs}`, 'events'],
    ]);
  });

  test('believes no end that the registry had said before it heard of the new one', async () => {
    const served = await serve([lease('1', 20_000)]);
    isAway = true;
    await served.sweep().catch(() => undefined);
    isAway = false;
    events = [{ type: 'extended', fence: '1-2', lease: lease('1', 15_000) }];
    await served.follow();
    expect(until.get('1')).toBe(START_MS + STEP_MS);
    await served.sweep();
    events = [{ type: 'extended', fence: '1-3', lease: lease('1', 15_000) }];
    await served.follow();
    expect(until.get('1')).toBe(START_MS + 15_000);
  });

  test('ends nothing that ran out since it heard the registry, however late a sweep arrives', async () => {
    const served = await serve([lease('1', 20_000)]);
    await served.sweep();
    expect(asked[0]).toBe('sweep 0');
    answersInMs = 30_000;
    await served.sweep();
    expect(asked).toContain(`sweep ${START_MS}`);
    answersInMs = 0;
    asked = [];
    await served.sweep();
    expect(asked[0]).toMatch(/^stretch 1 /);
  });
});

describe('a lease whose end was put off', () => {
  test('keeps it under the next epoch, where nothing has happened to it since', async () => {
    const former = ['1', '2', '3'].map((id) => ({ lease: lease(id, 0), untilMs: START_MS + 50_000 }));
    const served = await serve(
      [lease('1', -5_000), { ...lease('2', 9_000), fence: '1-99' }, lease('3', 49_000)],
      former,
    );
    expect([...until.values()]).toEqual([START_MS + 50_000, START_MS + 9_000, START_MS + 49_000]);
    await served.sweep();
    expect(asked[0]).toBe('stretch 1 50000');
  });

  test('is reported with it by a relay that went on by its journal', () => {
    const leases = [-10_000, 30_000, 90_000, -GRACE_MS - 1].map((ms, at) => ({
      ...{ lease: lease(`${at}`, 0), untilMs: START_MS + ms },
    }));
    const carried = carriedThrough({ leases } as unknown as Journalled, START_MS, GRACE_MS);
    expect(carried.leases.map(({ untilMs }) => untilMs - START_MS)).toEqual([STEP_MS, STEP_MS, 90_000, -1]);
  });
});
