import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import { makeModel } from './model.ts';
import { play } from './stage.ts';
import { stories } from './story.ts';
import { EngineSubject } from './subject.ts';
import { drawn } from './three-engines.ts';

const parameters = drawn(1, 1_000);

test(`the userspace engine does what the decision says, to the last notice, rate and key (seed ${parameters.seed})`, {
  timeout: 3_600_000,
}, () => {
  let packets = 0;
  fc.assert(
    fc.property(stories({ minLength: 1, maxLength: 36 }), (story) => {
      const engine = new EngineSubject('userspace', createEngine, story.settings);
      const model = new EngineSubject('the decision', makeModel, story.settings);
      packets += play(story, [engine, model]).packets;
    }),
    parameters,
  );
  expect(packets).toBeGreaterThan(0);
});
