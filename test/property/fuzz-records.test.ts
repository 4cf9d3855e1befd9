import { recordTargets } from '../fuzz/message-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(recordTargets(), 5, 1);
