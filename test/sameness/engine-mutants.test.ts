import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { importMutant, type Mutation } from '../simulation/mutants.ts';
import { Difference } from './comparing.ts';
import { GOLDEN } from './golden.ts';
import { makeModel } from './model.ts';
import { play } from './stage.ts';
import { stories } from './story.ts';
import { EngineSubject, type MakeEngine } from './subject.ts';

const ENGINE = 'src/datapath/userspace/engine.ts';
const SESSION = 'src/datapath/userspace/session.ts';
const WAY = 'src/datapath/userspace/downlink-way.ts';
const INSTALLATION = 'src/datapath/userspace/installation.ts';
const DECISION = 'src/datapath/decision';

/** Faults that a careless change could plant in the userspace engine, or in its copy of the decision. */
const MUTATIONS: readonly Mutation[] = [
  one(
    'a lease that is over still receives',
    `${DECISION}/downlink.ts`,
    "if (nowMs >= lease.untilMs) return 'expired';",
    '',
  ),
  one(
    'one session speaks from the address of another',
    `${DECISION}/uplink.ts`,
    "if (lease.session !== session) return 'unleased-address';",
    '',
  ),
  one(
    'what was learned is remembered for ever',
    `${DECISION}/learned.ts`,
    'known !== null && nowMs < known.untilMs ? known.lease : null',
    'known?.lease ?? null',
  ),
  one(
    'a port block is one port longer',
    `${DECISION}/tables.ts`,
    'return this.#blocks.get(number >>> this.#shift);',
    'return this.#blocks.get(number >>> this.#shift) ?? this.#blocks.get((number - 1) >>> this.#shift);',
  ),
  one(
    'a port block that doubled is found by its lower half alone',
    `${DECISION}/tables.ts`,
    'for (let key = from; key <= to; key += 1) this.#blocks.set(key, lease);',
    'this.#blocks.set(from, lease);',
  ),
  one(
    'overlapping fragments are put together',
    `${DECISION}/fragments.ts`,
    "return repeated ? 'fragment-repeated' : this.#spoil(datagram);",
    "if (repeated) return 'fragment-repeated';",
  ),
  one(
    'the deadline of an anchor does not bind downlink',
    ENGINE,
    "else if (nowMs >= verdict.session.anchor.untilMs) counters.count('downlink', 'anchor-deadline');",
    '',
  ),
  one(
    'congestion is not heard of',
    ENGINE,
    'if (octet !== inner) setTrafficClass(buffer, innerAt, octet);',
    '',
  ),
  one('nothing is charged to a session', SESSION, 'this.arrivalsNs[direction] = next;', ''),
  one(
    'what was held overtakes itself',
    'src/datapath/userspace/hold.ts',
    'for (const packet of packets) each(',
    'for (const packet of packets.reverse()) each(',
  ),
  one('a hold does not hold', WAY, "this.#queueing = 'hold';", ''),
  one(
    'the new key is used before the device has it',
    WAY,
    'this.#waiting.set(keyNumber, this.#sending(name, 1));',
    'this.sending = this.#sending(name, 1);\n    this.#waiting.set(keyNumber, this.sending);',
  ),
  one('the next key is never asked for', SESSION, "this.#step({ type: 'rekey' }, nowMs);", ''),
  one(
    'a session that lost its index goes on',
    INSTALLATION,
    '[byId.get(id), byIndex.get(index)]',
    '[byId.get(id)]',
  ),
  one(
    'leases outlive their session',
    INSTALLATION,
    'for (const id of session.leases) this.dropLease(id);',
    '',
  ),
  one(
    'a hand-over forgets what was received',
    'src/datapath/userspace/hand-over.ts',
    'windows: slow === undefined ? []',
    'windows: slow !== null ? []',
  ),
  one('a packet may come twice', 'src/tunnel/window.ts', 'return !this.#has(number);', 'return true;'),
  one(
    'the window forgets too much',
    'src/tunnel/window.ts',
    'word = (word + 1) & (RING_WORDS - 1);\n        this.#ring[word] = 0;',
    'this.#ring[word] = 0;\n        word = (word + 1) & (RING_WORDS - 1);',
  ),
  one(
    'the path is taken from any packet',
    SESSION,
    'const { keyNumber } = receiver;\n',
    'const { keyNumber } = receiver;\n    this.#way.flip(from, 0, nowMs);\n',
  ),
];

function one(name: string, file: string, find: string, replace: string): Mutation {
  return { name, edits: [{ file, find, replace }] };
}

describe('the stories find', () => {
  for (const mutation of MUTATIONS) {
    test(mutation.name, async () => {
      const { modules, dispose } = await importMutant(mutation, ENGINE);
      try {
        const makeMutant = (modules[0] as { createEngine: MakeEngine }).createEngine;
        let found: unknown = null;
        const run = fc.check(
          fc.property(stories({ minLength: 1, maxLength: 36 }), (story) => {
            const model = new EngineSubject('the decision', makeModel, story.settings);
            const mutant = new EngineSubject('the mutant', makeMutant, story.settings);
            try {
              play(story, [model, mutant]);
            } catch (error) {
              found = error;
              throw error;
            }
          }),
          { numRuns: 1_500, seed: 1, endOnFailure: true, examples: GOLDEN.map(({ story }) => [story]) },
        );
        expect(run.failed).toBe(true);
        expect(found).toBeInstanceOf(Difference);
      } finally {
        dispose();
      }
    });
  }
});
