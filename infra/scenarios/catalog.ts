import { concentrator } from './concentrator/lab.ts';
import { enterprise } from './enterprise/lab.ts';
import { hospitality } from './hospitality/lab.ts';
import { multiDwelling } from './multi-dwelling/lab.ts';
import { residential } from './residential/lab.ts';
import type { Scenario } from './scenario.ts';
import { sticky } from './sticky/lab.ts';

export const SCENARIOS: readonly Scenario[] = [
  residential,
  enterprise,
  multiDwelling,
  hospitality,
  concentrator,
  sticky,
];
