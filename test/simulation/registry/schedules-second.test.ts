import { testHalf } from './half.ts';

testHalf(1, 5_000, 5_000);
