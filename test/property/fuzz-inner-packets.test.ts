import { innerTargets } from '../fuzz/packet-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(innerTargets(), 5, 1);
