import { testThreeEngines } from './three-engines.ts';

testThreeEngines(2);
