import { planeTargets } from '../fuzz/message-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(planeTargets(), 5, 1);
