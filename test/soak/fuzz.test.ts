import {
  configurationTargets,
  frameTargets,
  machineTargets,
  planeTargets,
  recordTargets,
} from '../fuzz/message-targets.ts';
import { deeperTargets, innerTargets, tunnelTargets } from '../fuzz/packet-targets.ts';
import { testTargets } from '../fuzz/test-targets.ts';

const fromAnybody = [...tunnelTargets(), ...innerTargets(), ...deeperTargets()];
const inWords = [
  ...[...frameTargets(), ...planeTargets(), ...recordTargets()],
  ...[...machineTargets(), ...configurationTargets()],
];
testTargets([...fromAnybody, ...inWords], 60, Date.now() & 0x7fff_ffff);
