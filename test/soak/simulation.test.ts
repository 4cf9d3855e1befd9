import { testHalf } from '../simulation/registry/half.ts';

// Other schedules than those of every test run, other ones each time, and more of them.
testHalf(Date.now() & 0x7fff_ffff, 50_000);
