import { deeperTargets } from '../fuzz/packet-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(deeperTargets(), 5, 1);
