import { defineConfig } from 'vitest/config';
import { NATIVE_CRYPTOGRAPHY } from './test/sameness/native-cryptography.ts';

/** Of suites that wait for timers and other processes most of their time: one more than there are processors. */
const WAITING_WORKERS = 3;

/** One project per suite: the folder under `test/` is the suite's name. */
const suite = (name: string, timeoutMs: number, parallel = true) => ({
  test: {
    name,
    include: [`test/${name}/**/*.test.ts`],
    testTimeout: timeoutMs,
    hookTimeout: timeoutMs,
    fileParallelism: parallel,
    retry: 0,
  },
});

/** Sixteen worlds at once outlive a small nursery: they would be copied again and again. */
const ROOM_FOR_YOUNG_OBJECTS = ['--min-semi-space-size=64', '--max-semi-space-size=64'];

/** End-to-end tests whose promises are not milliseconds: three of them run side by side, before the others. */
const TOGETHER = [
  'agent',
  'attacks-captured',
  'attacks-leases',
  'bench',
  'flood',
  'hostile-network',
  'nonces',
  'registry-away',
  'restart',
].map((file) => `test/e2e/${file}.test.ts`);
const alone = suite('e2e', 180_000, false).test;

export default defineConfig({
  test: {
    maxWorkers: 2,
    projects: [
      suite('unit', 10_000),
      suite('contract', 20_000),
      suite('property', 120_000),
      { ...suite('sameness', 120_000), resolve: { alias: NATIVE_CRYPTOGRAPHY } },
      suite('spin', 180_000, false),
      {
        test: { ...suite('simulation', 400_000).test, execArgv: ROOM_FOR_YOUNG_OBJECTS },
        resolve: { alias: NATIVE_CRYPTOGRAPHY },
      },
      { test: { ...suite('integration', 60_000).test, maxWorkers: WAITING_WORKERS } },
      { test: { ...alone, exclude: TOGETHER, sequence: { groupOrder: 1 } } },
      {
        test: {
          ...alone,
          name: 'e2e-together',
          include: TOGETHER,
          fileParallelism: true,
          maxWorkers: WAITING_WORKERS,
        },
      },
      suite('interop', 180_000),
      // They mostly wait: the scripted ones beside the storms.
      { test: { ...suite('chaos', 180_000).test, maxWorkers: 4, sequence: { groupOrder: 2 } } },
      suite('soak', 3_600_000, false),
    ],
  },
});
