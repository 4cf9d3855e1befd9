import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { importMutant, type Mutation } from '../simulation/mutants.ts';
import { play, scenario } from '../simulation/rebinding/scenario.ts';
import type { Machines } from '../simulation/rebinding/world.ts';

const RELAY = 'src/rebinding/relay.ts';
const DEVICE = 'src/rebinding/device.ts';
const ACCEPTANCE = 'src/rebinding/relay/acceptance.ts';
const BIND = 'src/rebinding/relay/bind.ts';
const PROOF = 'src/rebinding/relay/proof.ts';

/** Faults that a careless change could plant. Every one must be found by the scenarios, or they prove nothing. */
const MUTATIONS: readonly Mutation[] = [
  {
    name: 'the path flips without a proof',
    edits: [
      {
        file: BIND,
        find: 'if (candidate.proven) decide(session, candidate, nowMs);\n  else challengeCandidate(session, candidate, nowMs);',
        replace: 'candidate.contestedMs = null;\n  decide(session, candidate, nowMs);',
      },
    ],
  },
  {
    name: 'a proof counts from another address than the challenged one',
    edits: [
      {
        file: PROOF,
        find: 'for (const candidate of candidatesAt(session, from)) {',
        replace:
          'for (const candidate of session.candidates.all.map((one) => ({ ...one, address: from }))) {',
      },
    ],
  },
  {
    name: 'any cookie proves',
    edits: [
      {
        file: 'src/rebinding/relay/challenges.ts',
        find: 'sameOctets(challenge.cookie, cookie)) ?? null',
        replace: 'challenge.cookie.length === cookie.length) ?? null',
      },
    ],
  },
  {
    name: 'a lower generation is accepted',
    edits: [
      {
        file: BIND,
        find: 'if (isRepeated || generation < lowestMeaningful(session, boot)) {',
        replace: 'if (isRepeated) {',
      },
      { file: ACCEPTANCE, find: 'Math.max(path.generation, generation)', replace: 'generation' },
      { file: PROOF, find: ' || generation < candidate.generation', replace: '' },
      { file: PROOF, find: 'wasAsked && generation !== candidate.generation', replace: 'wasAsked && false' },
    ],
  },
  {
    name: 'a message counts twice',
    edits: [
      {
        file: 'src/rebinding/relay/device-boots.ts',
        find: "if (!window.admits(number)) return 'replayed';",
        replace: '',
      },
    ],
  },
  {
    name: 'a challenge costs nothing',
    edits: [
      {
        file: 'src/rebinding/relay/drift.ts',
        find: 'candidate.proven || candidate.credit < CONTROL.length || nowMs < candidate.spacedMs',
        replace: 'candidate.proven',
      },
    ],
  },
  {
    name: 'a hold never ends',
    edits: [
      {
        file: 'src/rebinding/relay/hold.ts',
        find: 'if (hold.untilMs === null || nowMs < hold.untilMs) return;',
        replace: 'if (hold.untilMs === null || nowMs >= 0) return;',
      },
    ],
  },
  {
    name: 'a new incarnation of the device keeps the key number',
    edits: [{ file: ACCEPTANCE, find: 'keys.newest += 1;', replace: '' }],
  },
  {
    name: 'the queue is not released before the flip',
    edits: [
      {
        file: ACCEPTANCE,
        find: 'const wasHolding = release(session, to);',
        replace: 'const wasHolding = session.hold.untilMs !== null;',
      },
    ],
  },
  {
    name: 'the device gives up after one BIND',
    edits: [
      {
        file: DEVICE,
        find: 'binding.pauseMs = Math.min(2 * binding.pauseMs, mostMs);',
        replace: 'binding.pauseMs = Number.POSITIVE_INFINITY + mostMs;',
      },
    ],
  },
  {
    name: 'the device confirms a BIND on a link that it did not ask for',
    edits: [
      {
        file: DEVICE,
        find: 'const generation = this.#linkGenerations.get(link) ?? 0;',
        replace: 'const generation = this.#generation;',
      },
    ],
  },
  {
    name: 'the device believes a former incarnation of the relay',
    edits: [
      {
        file: 'src/rebinding/device/relay-incarnation.ts',
        find: "return message.epoch > this.#epoch ? 'new' : 'former';",
        replace: "return 'new';",
      },
    ],
  },
  {
    name: 'nobody asks the old path whether it still works',
    edits: [
      {
        file: BIND,
        find: 'if (isDoubtful(session, candidate)) beginContest(session, candidate, nowMs);',
        replace: 'if (isDoubtful(session, candidate)) candidate.contestedMs = Number.POSITIVE_INFINITY;',
      },
    ],
  },
];

describe('the scenarios find', () => {
  for (const mutation of MUTATIONS) {
    test(mutation.name, async () => {
      const { modules, dispose } = await importMutant(mutation, RELAY, DEVICE);
      try {
        const machines = { ...modules[0], ...modules[1] } as unknown as Machines;
        const found = fc.check(
          fc.property(scenario, (story) => {
            const { world, disagreement } = play(machines, story);
            return world.broken.length === 0 && disagreement === null;
          }),
          { numRuns: 3_000, seed: 1, endOnFailure: true },
        );
        expect(found.failed).toBe(true);
      } finally {
        dispose();
      }
    });
  }
});
