import { packetTargets } from '../fuzz/packet-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets(packetTargets(), 5, 1);
