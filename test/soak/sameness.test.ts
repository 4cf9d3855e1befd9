import { testThreeEngines } from '../sameness/three-engines.ts';

testThreeEngines(Date.now() & 0x7fff_ffff, 100_000);
