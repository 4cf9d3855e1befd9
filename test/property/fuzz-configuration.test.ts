import { configurationTargets } from '../fuzz/message-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(configurationTargets(), 5, 1);
