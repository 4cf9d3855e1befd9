import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { compileXdp } from '../../infra/build/xdp.ts';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import type { SessionPolicing } from '../../src/datapath/userspace/session.ts';
import { makeModel } from './model.ts';
import { enterRelayNetwork } from './relay-network.ts';
import { XDP_IS_MISSING } from './requirements.ts';
import { play } from './stage.ts';
import { stories, withoutSharedCounts } from './story.ts';
import { EngineSubject } from './subject.ts';
import { XdpProgram, XdpSubject } from './xdp-subject.ts';

/** The half of the stories that one process plays. */
const RUNS = 5_000;
/** Each story has some twenty packets: all of them together are many more than 200,000. */
const LEAST_PACKETS_A_STORY = 20;

/** What may be set to draw other stories, more of them, or to repeat one that failed (fast-check prints seed and path). */
export const drawn = (seed: number, numRuns: number) => ({
  seed: Number(process.env.MOORING_SEED ?? seed),
  numRuns: Number(process.env.MOORING_RUNS ?? numRuns),
  ...(process.env.MOORING_PATH === undefined ? {} : { path: process.env.MOORING_PATH }),
});

/** Tests that the decision, the userspace engine, and XDP with the userspace engine behind it do the same. */
export function testThreeEngines(firstSeed: number, runs = RUNS): void {
  const parameters = drawn(firstSeed, runs);
  const { seed, numRuns } = parameters;
  let interfaces: ReturnType<typeof enterRelayNetwork>;
  /** One for each rate that a story may set for its sessions. */
  const programs = new Map<string, XdpProgram>();
  const programFor = (rates: SessionPolicing): XdpProgram => {
    const name = JSON.stringify(rates);
    let program = programs.get(name);
    if (program === undefined) {
      program = new XdpProgram(compileXdp(['MOORING_TEST_CLOCK']), interfaces, rates);
      programs.set(name, program);
    }
    return program;
  };

  beforeAll(() => {
    if (XDP_IS_MISSING === null) interfaces = enterRelayNetwork();
  });
  afterAll(() => {
    for (const program of programs.values()) program.close();
  });

  const name = `decision, userspace and XDP do the same in ${numRuns} stories (seed ${seed})`;
  test.skipIf(XDP_IS_MISSING !== null)(
    XDP_IS_MISSING === null ? name : `${name}: ${XDP_IS_MISSING}`,
    { timeout: 3_600_000 },
    () => {
      let packets = 0;
      fc.assert(
        fc.property(stories({ minLength: 1, maxLength: 36 }).map(withoutSharedCounts), (story) => {
          const { settings } = story;
          packets += play(
            story,
            [
              new EngineSubject('userspace', createEngine, settings),
              new EngineSubject('the decision', makeModel, settings),
              new XdpSubject(programFor(settings.policing), settings),
            ],
            { ignoreNotices: true },
          ).packets;
        }),
        parameters,
      );
      if (process.env.MOORING_PATH === undefined) {
        expect(packets).toBeGreaterThan(numRuns * LEAST_PACKETS_A_STORY);
        expect(forwarded([...programs.values()])).toBeGreaterThan(numRuns);
      }
    },
  );
}

function forwarded(programs: readonly XdpProgram[]): number {
  return programs.reduce((sum, program) => {
    const { uplink, downlink } = program.counted();
    return sum + (uplink.forwarded ?? 0) + (downlink.forwarded ?? 0);
  }, 0);
}
