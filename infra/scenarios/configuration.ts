/** The files of a scenario, as an operator, a device and a box would have them, wherever the lab itself runs from. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import type { PoolSettings } from '../../src/config/schema.ts';
import type { AgentOptions } from '../lab/fleet.ts';

/** Text of a file of the scenario's folder. */
export function scenarioFile(scenario: string, file: string): string {
  const here = new URL(`${scenario}/${file}`, import.meta.url).href.replace('/dist/infra/', '/infra/');
  return readFileSync(fileURLToPath(here), 'utf8');
}

/** What is the scenario's own in the servers' configuration; listeners, keys and certificates are the lab's. */
export interface OperatorFile {
  readonly relay?: Readonly<Record<string, unknown>>;
  readonly pools: readonly PoolSettings[];
}

export function operatorFile(scenario: string): OperatorFile {
  return parse(scenarioFile(scenario, 'operator.yaml')) as OperatorFile;
}

/** The same of a device's; the issuer and the door are the lab's. */
export function deviceFile(scenario: string): AgentOptions {
  return parse(scenarioFile(scenario, 'device.yaml')) as AgentOptions;
}
