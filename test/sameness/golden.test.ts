import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { compileXdp } from '../../infra/build/xdp.ts';
import { policing } from '../../src/datapath/decision/policing.ts';
import { createEngine } from '../../src/datapath/userspace/engine.ts';
import { down, ESP, GOLDEN, story, up } from './golden.ts';
import { makeModel } from './model.ts';
import { enterRelayNetwork } from './relay-network.ts';
import { XDP_IS_MISSING } from './requirements.ts';
import { play } from './stage.ts';
import type { Step, Story } from './story.ts';
import { EngineSubject } from './subject.ts';
import { XdpProgram, XdpSubject } from './xdp-subject.ts';

const cannot = XDP_IS_MISSING === null ? '' : `: ${XDP_IS_MISSING}`;

describe.skipIf(cannot !== '')(`decision, userspace and XDP do the same${cannot}`, () => {
  let program: XdpProgram;
  let interfaces: ReturnType<typeof enterRelayNetwork>;

  beforeAll(() => {
    interfaces = enterRelayNetwork();
    program = new XdpProgram(compileXdp(['MOORING_TEST_CLOCK']), interfaces);
  });
  afterAll(() => program?.close());

  function playAll(told: Story, options = { ignoreNotices: true }, xdp = program): void {
    const { settings } = told;
    const userspace = new EngineSubject('userspace', createEngine, settings);
    const model = new EngineSubject('the decision', makeModel, settings);
    play(told, [userspace, model, new XdpSubject(xdp, settings)], options);
  }

  for (const { name, story: told } of GOLDEN) {
    test(name, () => {
      playAll(told);
    });
  }

  test('a device is told why its packet was dropped', () => {
    const toHost = up(0, { packet: { ...ESP, far: 5 } });
    const toEndpoint = up(0, { packet: { ...ESP, far: 4 } });
    const steps: Step[] = [toHost, { do: 'pass', ms: 1_100 }, toEndpoint, { do: 'pass', ms: 1_100 }, toHost];
    playAll(withSettings(story(steps), {}), { ignoreNotices: false });
  });

  test('a flow is known by what its device sent, also when that came too soon', () => {
    // 1,280 octets at once: more than the packet of the first step has.
    const rate = { nsPerOctetQ16: 524_288_000, burstNs: 10_240_000 };
    const rates = { uplink: rate, downlink: rate };
    const policed = new XdpProgram(compileXdp(['MOORING_TEST_CLOCK']), interfaces, rates);
    try {
      const tooMuch = up(0, { packet: { ...ESP, family: 1, farPort: 9, size: 1_233, ttl: 2 } });
      // The probes behind the story are errors about it.
      const told = withSettings(story([tooMuch, down({ shape: 'esp' })], { 1: 0 }), { policing: rates });
      playAll(told, { ignoreNotices: true }, policed);
      expect(policed.counted().uplink.policed).toBe(1);
    } finally {
      policed.close();
    }
  });

  test('a rate lets the same packets of a burst through', () => {
    const burst = Array.from({ length: 60 }, (): Step => down({ size: 1_000 }));
    const burstUp = Array.from({ length: 60 }, (): Step => up(0, { packet: { ...ESP, size: 1_000 } }));
    const rate = policing(200_000, 1280, 100);
    const rates = { uplink: rate, downlink: rate };
    const policed = new XdpProgram(compileXdp(['MOORING_TEST_CLOCK']), interfaces, rates);
    try {
      const told = withSettings(story([...burst, ...burstUp]), { policing: rates });
      playAll(told, { ignoreNotices: true }, policed);
      expect(policed.counted().downlink.policed).toBeGreaterThan(0);
      expect(policed.counted().uplink.policed).toBeGreaterThan(0);
    } finally {
      policed.close();
    }
  });

  test('the next key is announced after as many packets', () => {
    const steps: Step[] = [
      { do: 'answer', role: 0 },
      up(0),
      ...Array.from({ length: 12 }, (): Step => down()),
      { do: 'answer', role: 0 },
      up(0),
      down(),
      up(0),
    ];
    playAll(withSettings(story(steps), { rekeyAfterPackets: 8 }));
  });
});

function withSettings(told: Story, settings: Partial<Story['settings']>): Story {
  return { ...told, settings: { ...told.settings, rekeyAfterPackets: 2 ** 31 - 2 ** 20, ...settings } };
}
