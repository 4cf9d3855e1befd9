import { messageTargets } from '../fuzz/message-targets.ts';
import { packetTargets } from '../fuzz/packet-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

testTargets([...packetTargets(), ...messageTargets()], 60, Date.now() & 0x7fff_ffff);
