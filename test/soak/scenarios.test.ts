import { describe, expect, it } from 'vitest';
import { SCENARIOS } from '../../infra/scenarios/catalog.ts';
import { playScenario } from '../../infra/scenarios/play.ts';
import { missing } from '../e2e/fixture/requirements.ts';

describe.skipIf(missing('scenarios'))('a scenario keeps what it promises', () => {
  it.each(SCENARIOS.map((scenario) => [scenario.name, scenario] as const))(
    '%s',
    async (_, scenario) => {
      const { shown } = await playScenario(scenario, (line) => console.info(line));
      expect(shown.filter(({ kept }) => !kept)).toEqual([]);
      expect(shown.length).toBeGreaterThan(0);
    },
    120_000,
  );
});
