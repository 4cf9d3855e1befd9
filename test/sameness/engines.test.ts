import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import { makeModel } from './model.ts';
import { play } from './stage.ts';
import { stories } from './story.ts';
import { EngineSubject } from './subject.ts';

/** The same stories every time; `npm run test:soak` draws new ones. Both can be set, to repeat a failure. */
const seed = Number(process.env.MOORING_SEED ?? 1);
const numRuns = Number(process.env.MOORING_RUNS ?? 500);

test(`the userspace engine does what the decision says, whatever happens (seed ${seed})`, () => {
  let packets = 0;
  fc.assert(
    fc.property(stories({ minLength: 1, maxLength: 40 }), (story) => {
      const model = new EngineSubject('the decision', makeModel, story.settings);
      const engine = new EngineSubject('userspace', createEngine, story.settings);
      packets += play(story, [model, engine]).packets;
    }),
    { numRuns, seed },
  );
  console.log(packets);
  expect(packets).toBeGreaterThan(numRuns * 10);
});
