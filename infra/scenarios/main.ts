/**
 * `npm run scenario -- NAME`: plays one scenario and says what was shown; exit status 0 only if every promise was kept.
 * Without a name: which there are. `--keep` leaves the logs behind.
 */
import { parseArgs } from 'node:util';
import { cleanStaleLabs } from '../lab/lab.ts';
import { SCENARIOS } from './catalog.ts';
import { playScenario } from './play.ts';

const print = (line: string) => process.stdout.write(`${line}\n`);

async function main(): Promise<number> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { keep: { type: 'boolean', default: false } },
  });
  const [name] = positionals;
  if (name === undefined) {
    for (const scenario of SCENARIOS) print(`${scenario.name.padEnd(15)} ${scenario.title}`);
    return 0;
  }
  const scenario = SCENARIOS.find((one) => one.name === name);
  if (scenario === undefined) {
    print(`scenario: there is no ${name}; there are ${SCENARIOS.map((one) => one.name).join(', ')}`);
    return 2;
  }
  for (const stale of cleanStaleLabs()) print(`removed what a killed run left behind: ${stale}`);
  try {
    return (await playScenario(scenario, print, values.keep)).kept ? 0 : 1;
  } catch (error) {
    print(`scenario: ${error instanceof Error ? error.stack : String(error)}`);
    return 1;
  }
}

process.exit(await main());
