import { beforeEach, expect, test } from 'vitest';
import type { Lease, Session } from '../../../src/protocol/lease.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import type { Journalled } from '../../../src/relay/journal/replay.ts';
import { createKeptAnchors, type KeptAnchors } from '../../../src/relay/kept-anchors.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const MINUTE_MS = 60_000;
const ENDS_MS = 10 * MINUTE_MS;

let nowMs: number;
let due: (() => unknown)[];
let isAway: boolean;
let ownersEpoch: bigint | null;
let broughtBack: string[];
let forgotten: string[];
let former: Map<string, Journalled>;
beforeEach(() => {
  nowMs = 0;
  due = [];
  isAway = false;
  ownersEpoch = 8n;
  broughtBack = [];
  forgotten = [];
  former = new Map();
});

const timers = {
  nowMs: () => nowMs,
  after(_: number, run: () => unknown) {
    due.push(run);
    return () => undefined;
  },
};
const registry = {
  async bringBack(anchor: string, { counter }: { counter: bigint }) {
    if (isAway) throw new Error('away');
    broughtBack.push(`${anchor} ${counter}`);
    return true;
  },
  async owner() {
    return isAway || ownersEpoch === null ? null : { epoch: ownersEpoch };
  },
} as unknown as Registry;
const held = (counter: number) => ({
  ...{ anchor: 'a1', epoch: 7n, fence: `7-${counter}`, plan: '', sessions: [] as Session[] },
  leases: [{ lease: { id: 'a1.one' } as Lease, untilMs: ENDS_MS }],
});
const kept = (aside = new Map<string, Journalled>()): KeptAnchors =>
  createKeptAnchors({
    ...{ registry, aside, timers, log: silent },
    formerOf: (anchor) => former.get(anchor),
    journal: { forget: async (anchor) => void forgotten.push(anchor) },
  });
const served = (counter: number) => ({ id: 'a1', epoch: 7n, base: () => held(counter) });
async function minutes(count: number): Promise<void> {
  for (let at = 0; at < count; at += 1) {
    nowMs += MINUTE_MS;
    await Promise.all(due.splice(0).map((run) => run()));
  }
}

test('what was held of another’s anchor is said once under each of its epochs, and again when nobody heard it', async () => {
  const anchors = kept();
  anchors.keep(served(5));
  isAway = true;
  await anchors.tell('a1', 8n);
  isAway = false;
  for (const epoch of [8n, 8n, 9n]) await anchors.tell('a1', epoch);
  expect(broughtBack).toEqual(['a1 5', 'a1 5']);
});

test('it is kept while the registry is away, and forgotten on the disk when the registry has been told', async () => {
  const anchors = kept();
  anchors.keep(served(5));
  isAway = true;
  await minutes(3);
  expect(anchors.epochOf('a1')).toBe(7n);
  isAway = false;
  await minutes(1);
  expect([anchors.epochOf('a1'), ...broughtBack, ...forgotten]).toEqual([undefined, 'a1 5', 'a1']);
});

test('of an anchor that is no more it is forgotten with its last lease', async () => {
  ownersEpoch = null;
  const anchors = kept(new Map([['a1', held(5) as unknown as Journalled]]));
  await minutes(ENDS_MS / MINUTE_MS - 1);
  expect(anchors.held('a1')).toMatchObject({ counter: 5n, as: 'former' });
  await minutes(1);
  expect([anchors.held('a1'), ...forgotten]).toEqual([undefined, 'a1']);
});

test('a relay that serves the anchor again says what it held before, later if it cannot now', async () => {
  former.set('a1', held(4) as unknown as Journalled);
  const anchors = kept(new Map([['a1', held(3) as unknown as Journalled]]));
  isAway = true;
  await anchors.takenUp('a1', 8n);
  former.clear();
  expect(anchors.isUntold('a1')).toBe(true);
  isAway = false;
  await anchors.tell('a1', 8n);
  expect([...broughtBack, ...forgotten]).toEqual(['a1 3', 'a1 4', 'a1']);
  expect(anchors.isUntold('a1')).toBe(false);
});
