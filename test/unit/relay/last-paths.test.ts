import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { EngineCommand } from '../../../src/datapath/engine-api.ts';
import type { PathHint } from '../../../src/protocol/lease.ts';
import type { Registry } from '../../../src/registry/registry.ts';
import { createRelayNode } from '../../../src/relay/node.ts';
import { silent } from '../../integration/registry/real-redis.ts';

const hint: PathHint = {
  ...{ session: 'ab'.repeat(16), address: '203.0.113.9', port: 7, generation: 1 },
  deviceBoot: 'd1'.repeat(8),
};
const silentOne = 'ef'.repeat(16);

function relay(hints: Registry['hints']) {
  const told: EngineCommand[] = [];
  const node = createRelayNode({
    settings: { id: 'r1', port: 4556, innerMtu: 1280, outageGraceMs: 0 } as never,
    ...{ boot: 'b'.repeat(16), registry: { hints } as Registry, log: silent, siteKey: new Uint8Array(32) },
    engine: {
      async command(command) {
        told.push(command);
        return null as never;
      },
    },
    announcer: { prepare: () => undefined, announce: () => undefined, withdraw: () => undefined },
    planeFor: () => Promise.reject(new Error('nobody is asked')),
    onEnded: () => undefined,
    timers: { nowMs: () => 0, after: () => () => undefined },
  });
  return { node, told };
}

test('where sessions were last is read when they begin, in one question for all, and told to the engine', async () => {
  const asked: unknown[] = [];
  const { node, told } = relay(async (...question) => {
    asked.push(question);
    return [hint];
  });
  node.engineEvent({ type: 'begun', anchor: 'a1', sessions: [hint.session, silentOne] });
  await nextTurn();
  expect(asked).toEqual([['a1', [hint.session, silentOne]]]);
  expect(told).toEqual([{ op: 'hints', anchor: 'a1', hints: [hint] }]);
});

test('a registry that cannot say where sessions were last leaves them to speak first', async () => {
  const { node, told } = relay(() => Promise.reject(new Error('it is away')));
  node.engineEvent({ type: 'begun', anchor: 'a1', sessions: [hint.session] });
  await nextTurn();
  expect(told).toEqual([]);
});
