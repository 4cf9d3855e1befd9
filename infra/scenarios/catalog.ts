import { concentrator } from './concentrator/lab.ts';
import { residential } from './residential/lab.ts';
import type { Scenario } from './scenario.ts';
import { sticky } from './sticky/lab.ts';

export const SCENARIOS: readonly Scenario[] = [residential, concentrator, sticky];
