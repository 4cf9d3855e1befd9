import { tunnelTargets } from '../fuzz/packet-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(tunnelTargets(), 5, 1);
