import { testHalf } from '../simulation/registry/half.ts';

// Other schedules than those of every test run, and more of them.
testHalf(3, 10_000);
