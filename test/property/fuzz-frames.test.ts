import { frameTargets } from '../fuzz/message-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(frameTargets(), 5, 1);
