import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { PathHint, Session } from '../../../src/protocol/lease.ts';
import type { Anchor, Registry, Snapshot } from '../../../src/registry/registry.ts';
import { createFollowedAnchors } from '../../../src/relay/followed-anchors.ts';
import { followAnchor, type ServedAnchorOptions } from '../../../src/relay/served-anchor.ts';
import { silent } from '../../integration/registry/real-redis.ts';

/** Time stands still. */
const timers = {
  nowMs: () => 0,
  after(ms: number, run: () => void) {
    if (ms === 0) setImmediate(run);
    return () => undefined;
  },
};
const anchor = {
  ...{ id: 'a1', endpoints: ['198.51.100.1'], prefixes: ['192.0.2.8/31'] },
  ...{ draining: [], retiring: false },
} as unknown as Anchor;

/** A registry whose first answer about the anchor comes when `answer` is called. */
function slowRegistry() {
  let answer = (): void => undefined;
  const answered = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const snapshot: Snapshot = {
    ...{ anchor, epoch: 1n, lastId: '1-1', leases: [], sessions: [], hints: [], owner: null },
  };
  const registry = {
    watch: async () => async () => undefined,
    snapshot: () => answered.then(() => snapshot),
    plan: async () => '',
    events: async (_: string, lastId: string) => ({ reload: false, events: [], lastId }),
  } as unknown as Registry;
  return { registry, answer: () => answer() };
}

test('an anchor that is claimed again while it is still being read is served with what was read', async () => {
  const told: EngineCommand['op'][] = [];
  const engine = {
    async command(command: EngineCommand) {
      told.push(command.op);
      return null as never;
    },
  };
  const { registry, answer } = slowRegistry();
  const parts = { anchor: 'a1', siteKey: new Uint8Array(32), registry, engine, log: silent, timers };
  const followed = createFollowedAnchors(() => parts);
  let current = 2n;
  const take = (epoch: bigint) =>
    followed.take(
      'a1',
      {
        ...{
          ...parts,
          epoch,
          untilMs: 1_000,
          relay: 'r1',
          outageGraceMs: 0,
          isCurrent: () => current === epoch,
        },
        ...{ onEnded: () => undefined, onResized: () => undefined, onInstalled: () => undefined },
      } satisfies ServedAnchorOptions,
      [],
    );
  void followed.begin('a1', 'standby');
  const overtaken = take(2n);
  current = 3n;
  const taken = take(3n);
  answer();
  expect(await overtaken).toBeNull();
  expect(await taken).toMatchObject({ id: 'a1', epoch: 3n });
  expect(told).toEqual(['follow', 'installed', 'anchor']);
});

const session: Session = {
  ...{ id: 'ab'.repeat(16), index: 7, device: { tenant: 't', id: 'd' } },
  ...{ thumbprint: 'x'.repeat(43), salt: 'cd'.repeat(16) },
};
const hintOf = ({ id }: Session): PathHint => ({
  ...{ session: id, address: '203.0.113.9', port: 7, generation: 1, deviceBoot: 'd1'.repeat(8) },
});

/** Follows an anchor with these sessions, and looks after it so often; `answer` says what the registry knows by then. */
async function followed(
  known: Pick<Snapshot, 'sessions' | 'hints'>,
  looks: number,
  answer: (sessions: readonly string[], asked: number) => PathHint[],
) {
  const snapshot: Snapshot = {
    ...{ anchor, epoch: 1n, lastId: '1-1', leases: [], ...known },
    owner: null,
  };
  const asked: (readonly string[])[] = [];
  const registry = {
    watch: async () => async () => undefined,
    snapshot: async () => snapshot,
    plan: async () => '',
    events: async (_: string, lastId: string) => ({ reload: false, events: [], lastId }),
    async hints(_: string, sessions: readonly string[]) {
      asked.push(sessions);
      return answer(sessions, asked.length);
    },
  } as unknown as Registry;
  const told: PathHint[] = [];
  const engine = {
    async command(command: EngineCommand) {
      if (command.op === 'hints') told.push(...command.hints);
      return null as never;
    },
  };
  let look = (): void => undefined;
  const byHand = {
    nowMs: () => 0,
    after: (_: number, run: () => void) => {
      look = run;
      return () => undefined;
    },
  };
  const parts = { anchor: 'a1', siteKey: new Uint8Array(32), registry, engine, log: silent, timers: byHand };
  await followAnchor(parts);
  for (let looked = 0; looked < looks; looked += 1) {
    look();
    await nextTurn();
  }
  return { asked, told };
}

test('where devices bind after their sessions came is learned before it is needed, and not asked for for ever', async () => {
  const unbound = { ...session, id: 'ef'.repeat(16), index: 8 };
  const bound = { ...session, id: '99'.repeat(16), index: 9 };
  const hint = hintOf(session);
  const known = { sessions: [session, unbound, bound], hints: [hintOf(bound)] };
  const { asked, told } = await followed(known, 20, (sessions, times) =>
    times < 2 ? [] : [hint].filter((one) => sessions.includes(one.session)),
  );
  expect(told).toEqual([hint]);
  expect(asked.slice(0, 3)).toEqual([[session.id, unbound.id], [session.id, unbound.id], [unbound.id]]);
  expect(asked).toHaveLength(6);
});

test('of a full anchor a thousand sessions are asked about at a time', async () => {
  const sessions = Array.from({ length: 1_500 }, (_, index) => {
    return { ...session, id: index.toString(16).padStart(32, '0'), index };
  });
  const { asked, told } = await followed({ sessions, hints: [] }, 2, (ids) =>
    ids.map((id) => hintOf({ ...session, id })),
  );
  expect(asked.map(({ length }) => length)).toEqual([1_024, 476]);
  expect(new Set(told.map((hint) => hint.session)).size).toBe(1_500);
});
