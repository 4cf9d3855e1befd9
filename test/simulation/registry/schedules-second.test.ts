import { testHalf } from './half.ts';

testHalf(1, 1_750, 1_750);
