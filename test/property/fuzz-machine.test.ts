import { machineTargets } from '../fuzz/message-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(machineTargets(), 5, 1);
