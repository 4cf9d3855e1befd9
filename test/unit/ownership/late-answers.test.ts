import { expect, test } from 'vitest';
import { createOwnership } from '../../../src/ownership/ownership.ts';
import { createStandby } from '../../../src/ownership/standby.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const PROMISED_MS = 500;
const STANDBY = { id: 'r2', boot: 'c'.repeat(16) };
const turns = async () => {
  for (let turn = 0; turn < 20; turn += 1) await null;
};

test('a claim that is answered after its relay has promised something begins when that has run out', async () => {
  let nowMs = 0;
  const due: { readonly atMs: number; readonly run: () => void }[] = [];
  const timers = {
    nowMs: () => nowMs,
    after(delayMs: number, run: () => void) {
      due.push({ atMs: nowMs + delayMs, run });
      return () => undefined;
    },
  };
  const passes = async (ms: number) => {
    nowMs += ms;
    for (const { run } of due.splice(0).filter(({ atMs }) => atMs <= nowMs)) run();
    await turns();
  };
  let answer = (_: { epoch: bigint }): void => undefined;
  const registry = {
    owner: async () => ({
      ...{ relay: 'r1', boot: 'b'.repeat(16), epoch: 1n, remainingMs: 60_000 },
      standby: STANDBY,
    }),
    claim: () => new Promise<{ epoch: bigint }>((resolve) => (answer = resolve)),
    renew: async () => ({ remainingMs: 450 }),
    transfer: () => Promise.reject(new Error('nobody hands anything over')),
  };
  const common = { registry, relay: STANDBY.id, boot: STANDBY.boot, log: silent, timers };
  const standby = createStandby({
    ...common,
    promiseMs: PROMISED_MS,
    startedMs: Number.NEGATIVE_INFINITY,
    owns: (anchor) => ownership.owned().has(anchor),
    claim: (anchor) => ownership.claim(anchor),
    onFollow: () => undefined,
    onUnfollow: () => undefined,
  });
  const begun: bigint[] = [];
  const ownership = createOwnership({
    ...common,
    mayBegin: standby.mayBegin,
    onOwned: (_, epoch) => void begun.push(epoch),
    onDeadline: () => undefined,
    onLost: () => undefined,
  });
  await standby.look('a1');
  // As a start does it, or a look at whose the anchor is. Its first sending is lost.
  const claimed = ownership.claim('a1');
  await turns();
  expect(standby.promise('a1', 1n)).toBe(true);
  answer({ epoch: 2n });
  await passes(PROMISED_MS - 1);
  expect(begun).toEqual([]);
  expect(standby.promise('a1', 1n), 'once it is the owner').toBe(false);
  await passes(1);
  expect(begun).toEqual([2n]);
  await claimed;
});

test('an answer that comes when its anchor has been handed over takes nothing up', async () => {
  let nowMs = 1_000;
  const answers: (() => void)[] = [];
  const happened: string[] = [];
  const ownership = createOwnership({
    registry: {
      claim: () => Promise.reject(new Error('nobody claims anything')),
      renew: () => new Promise((resolve) => answers.push(() => resolve({ remainingMs: 450 }))),
      transfer: async () => ({ epoch: 3n, remainingMs: 450 }),
    },
    ...{ relay: STANDBY.id, boot: STANDBY.boot, log: silent },
    timers: { nowMs: () => nowMs, after: () => () => undefined },
    onOwned: (_, epoch) => void happened.push(`owned ${epoch}`),
    onDeadline: () => undefined,
    onLost: (_, epoch) => void happened.push(`lost ${epoch}`),
  });
  // The giver has said it twice, or it was doubled on its way.
  const adopted = [ownership.adopt('a1', 2n), ownership.adopt('a1', 2n)] as const;
  answers[0]!();
  await adopted[0];
  nowMs += 10;
  const steps = { freeze: async () => null, deliver: async () => undefined, thaw: async () => undefined };
  await ownership.handOver('a1', { id: 'r1', boot: 'b'.repeat(16) }, steps);
  answers[1]!();
  await expect(adopted[1]).rejects.toMatchObject({ code: 'ERR_MOORING_STALE_EPOCH' });
  expect(happened).toEqual(['owned 2', 'lost 2']);
  expect(ownership.owned().size).toBe(0);
});
