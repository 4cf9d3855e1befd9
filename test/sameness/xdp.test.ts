import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileXdp } from '../../infra/build/xdp.ts';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import { enterRelayNetwork } from './relay-network.ts';
import { play } from './stage.ts';
import { stories, withoutSharedCounts } from './story.ts';
import { EngineSubject } from './subject.ts';
import { XdpProgram, XdpSubject } from './xdp-subject.ts';

const seed = Number(process.env.MOORING_SEED ?? 1);
const numRuns = Number(process.env.MOORING_RUNS ?? 500);

let program: XdpProgram;

beforeAll(() => {
  const file = compileXdp(['MOORING_TEST_CLOCK']);
  program = new XdpProgram(file, enterRelayNetwork());
});
afterAll(() => program?.close());

test(`XDP with userspace behind it does what userspace does alone (seed ${seed})`, () => {
  let packets = 0;
  fc.assert(
    fc.property(stories({ minLength: 1, maxLength: 40 }).map(withoutSharedCounts), (story) => {
      const userspace = new EngineSubject('userspace', createEngine, story.settings);
      const xdp = new XdpSubject(program, story.settings);
      packets += play(story, [userspace, xdp], { ignoreNotices: true }).packets;
    }),
    { numRuns, seed },
  );
  console.log(packets, program.counted());
  expect(packets).toBeGreaterThan(numRuns * 10);
});
