import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { importMutant, type Mutation } from '../simulation/mutants.ts';
import { play, scenario } from '../simulation/rebinding-scenario.ts';
import type { Machines } from '../simulation/rebinding-world.ts';

const RELAY = 'src/rebinding/relay.ts';
const DEVICE = 'src/rebinding/device.ts';

/** Faults that a careless change could plant. Every one must be found by the scenarios, or they prove nothing. */
const MUTATIONS: readonly Mutation[] = [
  {
    name: 'the path flips without a proof',
    file: RELAY,
    edits: [
      {
        find: 'else this.#challenge(candidate, nowMs);\n  }\n\n  #candidateFor',
        replace: 'else this.#accept(candidate, candidate.address, nowMs);\n  }\n\n  #candidateFor',
      },
    ],
  },
  {
    name: 'a proof counts from another address than the challenged one',
    file: RELAY,
    edits: [
      {
        find: 'for (const candidate of [this.#candidates.at(from), hinted]) {',
        replace:
          'for (const candidate of [...this.#candidates.all.map((one) => ({ ...one, address: from })), hinted]) {',
      },
    ],
  },
  {
    name: 'any cookie proves',
    file: 'src/rebinding/challenges.ts',
    edits: [
      {
        find: 'sameOctets(challenge.cookie, cookie)) ?? null',
        replace: 'challenge.cookie.length === cookie.length) ?? null',
      },
    ],
  },
  {
    name: 'a lower generation is accepted',
    file: RELAY,
    edits: [
      { find: 'if (generation < Math.max(1, this.#floor(boot)) || repeated) {', replace: 'if (repeated) {' },
      { find: 'Math.max(this.#generation, candidate.generation)', replace: 'candidate.generation' },
      { find: ' || message.generation < candidate.generation', replace: '' },
      { find: 'asked && message.generation !== candidate.generation', replace: 'asked && false' },
    ],
  },
  {
    name: 'a message counts twice',
    file: 'src/rebinding/device-boots.ts',
    edits: [{ find: "if (!window.admits(number)) return 'replayed';", replace: '' }],
  },
  {
    name: 'a challenge costs nothing',
    file: RELAY,
    edits: [
      {
        find: 'candidate.proven || candidate.credit < CONTROL.length || nowMs < candidate.spacedMs',
        replace: 'candidate.proven',
      },
    ],
  },
  {
    name: 'a hold never ends',
    file: RELAY,
    edits: [
      {
        find: 'if (this.#holdUntilMs !== null && nowMs >= this.#holdUntilMs) {',
        replace: 'if (this.#holdUntilMs !== null && nowMs < 0) {',
      },
    ],
  },
  {
    name: 'a new incarnation of the device keeps the key number',
    file: RELAY,
    edits: [{ find: '      this.#keyNumber += 1;\n    } else if', replace: '    } else if' }],
  },
  {
    name: 'the queue is not released before the flip',
    file: RELAY,
    edits: [
      {
        find: 'const wasHolding = this.#release(path);',
        replace: 'const wasHolding = this.#holdUntilMs !== null;',
      },
    ],
  },
  {
    name: 'the device gives up after one BIND',
    file: DEVICE,
    edits: [
      {
        find: 'binding.pauseMs = Math.min(2 * binding.pauseMs, mostMs);',
        replace: 'binding.pauseMs = Number.POSITIVE_INFINITY + mostMs;',
      },
    ],
  },
  {
    name: 'the device confirms a BIND on a link that it did not ask for',
    file: DEVICE,
    edits: [
      {
        find: 'const generation = this.#linkGenerations.get(link) ?? 0;',
        replace: 'const generation = this.#generation;',
      },
    ],
  },
  {
    name: 'the device believes a former incarnation of the relay',
    file: DEVICE,
    edits: [{ find: "return message.epoch > this.#epoch ? 'new' : 'former';", replace: "return 'new';" }],
  },
  {
    name: 'nobody asks the old path whether it still works',
    file: RELAY,
    edits: [
      {
        find: 'if (isCurrent && elsewhere && doubtful) this.#contest(candidate, nowMs);',
        replace: 'if (isCurrent && elsewhere && doubtful) candidate.contestedMs = Number.POSITIVE_INFINITY;',
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
